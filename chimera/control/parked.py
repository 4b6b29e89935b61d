"""Parked rows: what one read model could not make of an agent's records; healing them, and giving them up.

The rule not to break: both write read models only, by the very functions of `chimera parked`; giving up is asked for twice.
"""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from chimera.commands.decision import Refused
from chimera.commands.keys import load_installation
from chimera.control import web
from chimera.control.access import EVERY_TENANT, authorize
from chimera.control.accounts import Login
from chimera.control.place import Place, Row, address, allowed, number, route, rows, words
from chimera.errors import ChimeraError
from chimera.projections import heal as healing
from chimera.projections.parking import Parked
from chimera.settings import Settings
from chimera.stack.addresses import load_kafka

_LISTED = f"""SELECT p.*, coalesce(a.tenant, '{EVERY_TENANT}') AS tenant, a.name AS agent FROM core.parked p
  LEFT JOIN core.agents a ON a.agent_id = p.stream
  WHERE %(tenants)s::text[] IS NULL OR a.tenant = ANY(%(tenants)s) ORDER BY p.since, p.model, p.stream LIMIT 500"""
_GIVEN_UP = """SELECT d.*, a.name AS agent FROM core.discarded d LEFT JOIN core.agents a ON a.agent_id = d.stream
  WHERE %(tenants)s::text[] IS NULL OR a.tenant = ANY(%(tenants)s) ORDER BY d.discarded_at DESC LIMIT 50"""


def routes(place: Place) -> list[Route]:
    """Their addresses."""
    return [route(place, "/parked", listed), route(place, "/parked/change", change, "POST")]


async def listed(request: Request, login: Login, place: Place) -> Response:
    """All that is parked, and what was given up."""
    given = {"tenants": allowed(login)}
    async with place.reading() as connection:
        found = await rows(connection, _LISTED, given)
        given_up = await rows(connection, _GIVEN_UP, given)
    may = {row["tenant"]: authorize(login.principal, "operate", row["tenant"]) for row in found}
    return place.page("parked.html", login, parked=found, given_up=given_up, may=may, done=request.query_params.get("done", ""))


async def change(request: Request, login: Login, place: Place) -> Response:
    """Heal one, or give its first record up. Raises `Forbidden`, `LookupError`, `Refused`."""
    form = await request.form()
    what, reason = words(form, "change"), words(form, "reason")
    if what not in ("heal", "discard"):
        raise Refused(f"'{what}' is nothing to do with what is parked: heal or discard it")
    async with place.reading() as connection:
        every = await rows(connection, _LISTED, {"tenants": allowed(login)})
    key = (words(form, "model"), words(form, "stream"), number(words(form, "partition"), -1, least=0))
    found = next((row for row in every if (row["model"], row["stream"], row["partition"]) == key), None)
    if found is None:
        raise LookupError("that is not parked any more")
    web.demand(login.principal, "operate", found["tenant"])
    if what == "discard" and not reason:
        raise Refused("say why its rows are given up: they are missing from every later rebuild as well")
    if what == "discard" and form.get("sure") != "yes":
        return place.page("parked_sure.html", login, row=found, reason=reason)
    made = await asyncio.to_thread(_do, place, _parked(found), reason if what == "discard" else "", login.principal.name)
    done = (
        f"{'healed' if what == 'heal' else 'given up, and healed without it'}: {found['model']} of {found['agent']}, {made} records"
    )
    return RedirectResponse(address("/parked", done=done), 303)


def _parked(row: Row) -> Parked:
    return Parked(**{name: row[name] for name in Parked._fields})


def _do(place: Place, parked: Parked, reason: str, by: str) -> int:
    settings = Settings(home=place.home)
    try:
        root = load_installation(settings.home).root_public
        if reason:
            return healing.discard(load_kafka(settings), place.dsn, root, parked, reason=reason, by=by)
        return healing.heal(load_kafka(settings), place.dsn, root, parked)
    except ChimeraError as error:
        raise Refused(str(error)) from error
