"""The log browser: records by agent, type and ruling, and one record in full, with the way to its proof.

The rule not to break: what is shown is the record as projected, its words made visible; nothing of it is obeyed.
"""

from __future__ import annotations

import re
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chimera.control.accounts import Login
from chimera.control.place import Place, Row, allowed, number, one, route, rows, seen, split
from chimera.observe.doctor import statuses

AT_ONCE = 100
OUTCOMES = ("applied", "rejected", "void")
SINCE = {"hour": 1, "day": 24, "week": 168, "month": 720, "ever": None}
"""How far back is looked. Records of all agents have no order by time but their parts', so a long while takes longer."""
_PLACE = re.compile(r"(\d{1,4}):(\d{1,18})")
_COLUMNS = """e.type, e.outcome, e.reason, e.actor, e.state_version, e.campaign, e.ordinal, e.attempt, e.created_at, e.record_id,
  e.agent, e.tenant, e.stream, e.partition, e."offset\""""
_AT = f"""SELECT * FROM analytics_v1.events e WHERE e.partition = %(partition)s AND e."offset" = %(offset)s AND {seen("e")}"""
_CALLED = f"""SELECT * FROM analytics_v1.events e WHERE e.record_id = %(id)s AND {seen("e")} LIMIT 1"""
_NEAR = f"""SELECT {_COLUMNS}, e.causation FROM analytics_v1.events e WHERE e.stream = %(stream)s
  AND (e.record_id = %(causation)s OR e.causation = %(id)s) AND {seen("e")} ORDER BY e."offset" LIMIT 50"""
_BESIDE = """SELECT
  (SELECT max(e."offset") FROM analytics_v1.events e WHERE e.stream = %(stream)s AND e."offset" < %(offset)s) AS before,
  (SELECT min(e."offset") FROM analytics_v1.events e WHERE e.stream = %(stream)s AND e."offset" > %(offset)s) AS after"""
_LISTED = f"""SELECT {_COLUMNS} FROM analytics_v1.events e WHERE {seen("e")}
  AND (%(stream)s = '' OR e.stream = %(stream)s) AND (%(type)s = '' OR e.type = %(type)s)
  AND (%(outcome)s = '' OR e.outcome = %(outcome)s)
  AND (%(hours)s::int IS NULL OR e.created_at >= now() - make_interval(hours => %(hours)s))
  ORDER BY e.created_at DESC, e.partition DESC, e."offset" DESC OFFSET %(from)s LIMIT %(most)s"""
_STREAM = f"SELECT a.agent_id FROM analytics_v1.agents a WHERE a.agent = %(name)s AND {seen('a')} ORDER BY a.tenant LIMIT 1"


def routes(place: Place) -> list[Route]:
    """The browser's addresses."""
    return [route(place, "/records", listed), route(place, "/record/{record}", shown)]


async def listed(request: Request, login: Login, place: Place) -> Response:
    """Records, the newest first."""
    asked = request.query_params
    first = number(asked.get("from"), 0, most=100_000)
    name, outcome = asked.get("agent", ""), asked.get("outcome", "")
    since = asked.get("since", "") if asked.get("since", "") in SINCE else ("ever" if name else "day")
    given: dict[str, Any] = {
        "tenants": allowed(login),
        "stream": "",
        "type": asked.get("type", ""),
        "outcome": outcome if outcome in OUTCOMES else "",
        "hours": SINCE[since],
        "from": first,
        "most": AT_ONCE + 1,
    }
    async with place.reading() as connection:
        if name:
            stream = await one(connection, _STREAM, {"name": name, "tenants": given["tenants"]})
            given["stream"] = "nobody" if stream is None else stream["agent_id"]
        found = await rows(connection, _LISTED, given)
    shown_, more = split(found, AT_ONCE)
    return place.page(
        "records.html",
        login,
        records=shown_,
        more=more,
        first=first,
        at_once=AT_ONCE,
        outcomes=OUTCOMES,
        spans=list(SINCE),
        asked={"agent": name, "type": given["type"], "outcome": given["outcome"], "since": since},
    )


async def shown(request: Request, login: Login, place: Place) -> Response:
    """One record, by `partition:offset` or by its id. Raises `LookupError`."""
    wanted = request.path_params["record"]
    at = _PLACE.fullmatch(wanted)
    given: dict[str, Any] = {"tenants": allowed(login)}
    async with place.reading() as connection:
        if at is not None:
            record = await one(connection, _AT, given | {"partition": int(at[1]), "offset": int(at[2])})
        else:
            record = await one(connection, _CALLED, given | {"id": wanted})
        if record is None:
            raise LookupError(f"no record {wanted} here: name one as partition:offset, or by its id")
        given |= {"stream": record["stream"], "id": record["record_id"], "causation": record["causation"] or "-"}
        near = await rows(connection, _NEAR, given)
        beside = await one(connection, _BESIDE, given | {"offset": record["offset"]}) or {}
    return place.page(
        "record.html",
        login,
        record=record,
        body=pretty(record["data"]),
        cause=next((row for row in near if row["record_id"] == record["causation"]), None),
        led_to=[row for row in near if row["causation"] == record["record_id"]],
        beside=beside,
        signed=_signed(place, record),
    )


def pretty(data: Any) -> str:
    """A record's body for people; keys in their own order."""
    return "" if data is None else orjson.dumps(data, option=orjson.OPT_INDENT_2).decode()


def _signed(place: Place, record: Row) -> bool | None:
    """Whether the notary's tree holds it already; None where no notary tells."""
    told = [status for status in statuses(place.home) if status["role_set"] == "notary"]
    if not told:
        return None
    newest = max(told, key=lambda status: float(status.get("at", 0)))
    return int(newest.get("offsets", {}).get(str(record["partition"]), 0)) > int(record["offset"])
