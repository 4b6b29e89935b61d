"""Policies: the editions that agents have, what differs between two of them in meaning and in words, and rehearsals as pages.

The rule not to break: a page that the simulator wrote is shown in a sandbox of its own; nothing of it runs.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from chimera.control.accounts import Login
from chimera.control.place import Place, allowed, route, rows, seen
from chimera.errors import ChimeraError
from chimera.policy.boardkit import parse_rules
from chimera.policy.compare import Difference, differences

REPORTS = "reports"
SANDBOX = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_NAME = re.compile(r"[\w-][\w.-]{0,99}\.html")
_EDITIONS = f"""SELECT p.tenant, p.digest, min(p.edition) AS edition, max(p.editor) AS editor, min(p.created_at) AS since,
    count(DISTINCT p.agent_id) AS had, count(DISTINCT p.agent_id) FILTER (WHERE a.policy_edition = p.edition) AS have,
    min(p.rules) AS rules
  FROM analytics_v1.policies p JOIN analytics_v1.agents a ON a.agent_id = p.agent_id
  WHERE {seen("p")} GROUP BY p.tenant, p.digest ORDER BY p.tenant, since DESC LIMIT 200"""


def routes(place: Place) -> list[Route]:
    """Their addresses."""
    return [
        route(place, "/policies", listed),
        route(place, "/policies/diff", diff),
        route(place, "/policies/report/{report}", report),
    ]


async def listed(request: Request, login: Login, place: Place) -> Response:
    """Every text of a policy that agents adopted, and the rehearsals that were kept."""
    editions = await _editions(login, place)
    kept = sorted((place.home / REPORTS).glob("*.html"), reverse=True) if allowed(login) is None else []
    return place.page("policies.html", login, editions=editions, reports=[path.name for path in kept[:50]])


async def diff(request: Request, login: Login, place: Place) -> Response:
    """What changed from one text to another. Raises `LookupError`."""
    known = {row["digest"]: row for row in await _editions(login, place)}
    before, after = (known.get(request.query_params.get(name, "")) for name in ("before", "after"))
    if before is None or after is None:
        raise LookupError("name two editions that are listed on the page of policies")
    try:
        found: Sequence[Difference] = differences(*(parse_rules(row["rules"], "policy") for row in (before, after)))
        trouble = ""
    except ChimeraError as error:
        found, trouble = (), str(error)
    texts = (before["rules"].splitlines(), after["rules"].splitlines())
    lines = list(difflib.unified_diff(*texts, lineterm="", n=2))[2:]
    return place.page("policy_diff.html", login, before=before, after=after, found=found, trouble=trouble, lines=lines)


async def report(request: Request, login: Login, place: Place) -> Response:
    """A page that `chimera replay simulate --html` wrote into the home. Raises `LookupError`."""
    name = request.path_params["report"]
    path = place.home / REPORTS / name
    if not _NAME.fullmatch(name) or not path.is_file():
        raise LookupError(f"no rehearsal '{name}'")
    return HTMLResponse(path.read_bytes(), headers={"Content-Security-Policy": SANDBOX})


async def _editions(login: Login, place: Place) -> list[dict[str, Any]]:
    async with place.reading() as connection:
        return await rows(connection, _EDITIONS, {"tenants": allowed(login)})
