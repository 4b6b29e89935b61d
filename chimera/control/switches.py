"""Kill switches: which are closed, what they hold back, closing and opening them.

The rule not to break: a switch that reaches beyond one tenant is turned only by who operates everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from chimera.commands import verbs
from chimera.commands.decision import Refused
from chimera.control import web
from chimera.control.access import EVERY_TENANT, authorize
from chimera.control.accounts import Login
from chimera.control.place import Connection, Place, address, allowed, one, route, seen, words

KINDS = {
    "agent": "one agent, by its name",
    "account": "one account, as x/handle",
    "tenant": "a tenant",
    "platform": "a platform",
    "tool": "a tool, as profile.tool",
    "fleet": "everything",
}
MOST_STOPPED = 200
_AGENT = f"""SELECT a.agent, a.agent_id, a.tenant FROM analytics_v1.agents a
  WHERE {seen("a")} AND (a.agent = %(name)s OR a.agent_id = %(name)s)"""
_ACCOUNT = f"""SELECT c.tenant FROM analytics_v1.accounts c WHERE {seen("c")} AND lower(c.platform) = %(platform)s
  AND lower(c.account) = %(account)s"""


def routes(place: Place) -> list[Route]:
    """Their addresses."""
    return [route(place, "/switches", shown), route(place, "/switches/turn", turn, "POST")]


async def shown(request: Request, login: Login, place: Place) -> Response:
    """Closed switches with what they stopped, and a form to close another."""
    told = await place.asking.ask(verbs.SwitchList())
    stopped = (await place.asking.ask(verbs.SwitchStopped()))["stopped"]
    tenants = allowed(login)
    mine = [card for card in stopped if tenants is None or card["tenant"] in tenants]
    found = []
    async with place.reading() as connection:
        for switch in sorted(told["switches"], key=lambda s: (not s["closed"], -s["at"])):
            known = await named(connection, login, switch["scope"])
            if known is not None:
                held = [card for card in mine if card["scope"] == switch["scope"]]
                may = authorize(login.principal, "operate", known["tenant"])
                found.append(switch | {"held": held, "may": may, "words": known["words"]})
    return place.page(
        "switches.html",
        login,
        switches=found,
        ignored=told["ignored"],
        kinds=KINDS,
        most=MOST_STOPPED,
        may_operate=any("operator" in roles or "admin" in roles for roles in login.principal.grants.values()),
        asked={"kind": request.query_params.get("kind", "agent"), "name": request.query_params.get("name", "")},
        done=request.query_params.get("done", ""),
    )


async def turn(request: Request, login: Login, place: Place) -> Response:
    """Close or open one; first asks whether that is meant. Raises `Forbidden`, `Refused`."""
    form = await request.form()
    what, reason = words(form, "turn"), words(form, "reason")
    scope = words(form, "scope", 320) or _scope(words(form, "kind"), words(form, "name", 300))
    if what not in ("close", "open"):
        raise Refused(f"'{what}' is nothing to do with a switch: close or open it")
    if not reason:
        raise Refused(f"say why {scope} is to {what}: the reason is kept in the record")
    async with place.reading() as connection:
        known = await named(connection, login, scope)
    if known is None:
        raise Refused(f"nothing here is called {scope}: a switch for it would stop nothing")
    web.demand(login.principal, "operate", known["tenant"])
    if form.get("sure") != "yes":
        return place.page("switch_sure.html", login, what=what, reason=reason, scope=known["scope"], words=known["words"])
    verb = verbs.wish(verbs.SwitchTurn, login.principal.name, verb=f"switch.{what}", scope=known["scope"], reason=reason)
    reply = await place.asking.ask(verb)
    if reply["outcome"] != "applied":
        raise Refused(f"{what} {known['words']}: {reply['outcome']}: {reply['reason']}")
    done = f"{known['words']}: {'closed' if what == 'close' else 'open'}" + ("" if reply["changed"] else " already")
    return RedirectResponse(address("/switches", done=done), 303)


def _scope(kind: str, name: str) -> str:
    if kind not in KINDS:
        raise Refused(f"'{kind}' is no kind of switch: use {', '.join(KINDS)}")
    return "fleet" if kind == "fleet" else f"{kind}:{name}"


async def named(connection: Connection, login: Login, scope: str) -> Mapping[str, Any] | None:
    """A scope as records carry it, in words, and whose it is (`*`: everybody's); None for what is not, or not for this login."""
    kind, _, name = scope.partition(":")
    tenants = allowed(login)
    if kind in ("fleet", "platform", "tool"):
        return {"scope": scope, "words": "the whole fleet" if kind == "fleet" else f"{kind} {name}", "tenant": EVERY_TENANT}
    if kind == "tenant":
        return {"scope": scope, "words": scope.replace(":", " "), "tenant": name} if tenants is None or name in tenants else None
    if kind == "agent":
        found = await one(connection, _AGENT, {"name": name, "tenants": tenants})
        return found and {"scope": f"agent:{found['agent_id']}", "words": f"agent {found['agent']}", "tenant": found["tenant"]}
    platform, _, account = name.lower().partition("/")
    account = account.removeprefix("@")
    whose = await one(connection, _ACCOUNT, {"platform": platform, "account": account, "tenants": tenants})
    return whose and {
        "scope": f"account:{platform}/{account}",
        "words": f"account {platform}/@{account}",
        "tenant": whose["tenant"],
    }
