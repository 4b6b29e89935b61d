"""Every route of Mission Control and who is let in at it: one table, and the guard that holds each request against it.

The rule not to break: a route that is not in `WAYS` does not exist; the application refuses to start with one. To add a page, add
its `Route` to `chimera.control.app` and a row here; whoever reaches the handler is then signed in, may do `action` in at least one
tenant and, where `of` names one thing (an agent, a card), in the tenant of that thing, and has sent the login's own token with
what changes something. `web.login_of` gives the handler the login that was looked at. `tests/e2e/test_control_routes.py` walks the
table by itself; a path parameter of a new name needs a sample there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from chimera.control import web
from chimera.control.access import EVERY_TENANT, Action, Principal, authorize, tenants_of
from chimera.control.accounts import Accounts
from chimera.control.limits import Rates, TooOften
from chimera.control.owners import Owners
from chimera.control.tokens import Bearer, Tokens
from chimera.control.watch import Watch, address_of
from chimera.errors import ChimeraError
from chimera.events.security import UNKNOWN

Entry = Literal["open", "login", "token"]
"""Who comes in: anybody; who is signed in with a browser; who shows an API token."""
Of = Literal["caller", "listing", "agent", "card", "tenant", "installation"]
"""Whose the thing is that a route touches.

`caller`: the caller's own account. `listing`: rows of many tenants, of which the handler shows those in `tenants_of`. `agent`,
`card`, `tenant`: the thing named by the path parameter `name`, `card`, `tenant`. `installation`: above tenants, for who may in
every one.
"""
Endpoint = Callable[[Request], Awaitable[Response]]


class Way(NamedTuple):
    """One route and method. `action` None: nothing but being there is asked."""

    path: str
    method: str
    entry: Entry
    action: Action | None = None
    of: Of = "caller"


WAYS: Sequence[Way] = (
    Way("/", "GET", "open"),
    Way("/healthz", "GET", "open"),
    Way("/login", "GET", "open"),
    Way("/login", "POST", "open"),
    Way("/enter/{token}", "GET", "open"),
    Way("/enter/{token}", "POST", "open"),
    Way("/logout", "POST", "login"),
    Way("/account", "GET", "login"),
    Way("/account/logins/end", "POST", "login"),
    Way("/account/logins/{login}/end", "POST", "login"),
    Way("/account/password", "POST", "login"),
    Way("/account/tokens", "POST", "login"),
    Way("/account/tokens/{token}/revoke", "POST", "login"),
    Way("/review", "GET", "login", "read", "listing"),
    Way("/review/batch", "POST", "login", "decide", "listing"),
    Way("/review/{card:path}/looking", "GET", "login", "read", "card"),
    Way("/review/{card:path}/decide", "POST", "login", "decide", "card"),
    Way("/review/{card:path}/reread", "POST", "login", "decide", "card"),
    Way("/fleet", "GET", "login", "read", "listing"),
    Way("/agent/{name}", "GET", "login", "read", "agent"),
    Way("/agent/{name}/past", "GET", "login", "read", "agent"),
    Way("/agent/{name}/status", "POST", "login", "operate", "agent"),
    Way("/task/{name}/{task}", "GET", "login", "read", "agent"),
    Way("/records", "GET", "login", "read", "listing"),
    Way("/record/{record}", "GET", "login", "read", "listing"),
    Way("/campaigns", "GET", "login", "read", "listing"),
    Way("/campaign/{campaign}", "GET", "login", "read", "listing"),
    Way("/campaign/{campaign}/status", "POST", "login", "operate", "listing"),
    Way("/schedule", "GET", "login", "read", "listing"),
    Way("/operations", "GET", "login", "read", "listing"),
    Way("/money", "GET", "login", "read", "listing"),
    Way("/calls", "GET", "login", "read", "listing"),
    Way("/switches", "GET", "login", "read", "listing"),
    Way("/switches/turn", "POST", "login", "operate", "listing"),
    Way("/parked", "GET", "login", "read", "listing"),
    Way("/parked/change", "POST", "login", "operate", "listing"),
    Way("/builds", "GET", "login", "read", "installation"),
    Way("/builds/plan", "POST", "login", "administer", "installation"),
    Way("/builds/{build}/diff", "GET", "login", "administer", "installation"),
    Way("/builds/{build}", "POST", "login", "administer", "installation"),
    Way("/policies", "GET", "login", "read", "listing"),
    Way("/policies/diff", "GET", "login", "read", "listing"),
    Way("/policies/report/{report}", "GET", "login", "read", "installation"),
    Way("/audit", "GET", "login", "read", "installation"),
    Way("/analytics", "GET", "login", "read", "listing"),
    Way("/analytics/{chart}.csv", "GET", "login", "read", "listing"),
    Way("/statement", "GET", "login", "read", "listing"),
    Way("/statement.csv", "GET", "login", "read", "listing"),
    Way("/events", "GET", "login", "read", "listing"),
    Way("/api/openapi.json", "GET", "open"),
    Way("/api/v1/me", "GET", "token"),
    Way("/api/v1/queue", "GET", "token", "read", "listing"),
    Way("/api/v1/cards/{agent}/{number}", "GET", "token", "read", "card"),
    Way("/api/v1/cards/{agent}/{number}/approve", "POST", "token", "decide", "card"),
    Way("/api/v1/cards/{agent}/{number}/reject", "POST", "token", "decide", "card"),
    Way("/api/v1/cards/{agent}/{number}/edit", "POST", "token", "decide", "card"),
    Way("/api/v1/cards/{agent}/{number}/undo", "POST", "token", "decide", "card"),
    Way("/api/v1/cards/{agent}/{number}/hold", "POST", "token", "decide", "card"),
    Way("/api/v1/cards/{agent}/{number}/release", "POST", "token", "decide", "card"),
    Way("/api/v1/fleet", "GET", "token", "read", "listing"),
    Way("/api/v1/agents", "GET", "token", "read", "listing"),
    Way("/api/v1/agents/{name}", "GET", "token", "read", "agent"),
    Way("/api/v1/agents/{name}/pause", "POST", "token", "operate", "agent"),
    Way("/api/v1/agents/{name}/resume", "POST", "token", "operate", "agent"),
    Way("/api/v1/campaigns", "GET", "token", "read", "listing"),
    Way("/api/v1/campaigns/{campaign}", "GET", "token", "read", "listing"),
    Way("/api/v1/tenants/{tenant}/campaigns/{campaign}/pause", "POST", "token", "operate", "tenant"),
    Way("/api/v1/tenants/{tenant}/campaigns/{campaign}/resume", "POST", "token", "operate", "tenant"),
    Way("/api/v1/tenants/{tenant}/campaigns/{campaign}/cancel", "POST", "token", "operate", "tenant"),
    Way("/api/v1/switches", "GET", "token", "read", "listing"),
    Way("/api/v1/switches/close", "POST", "token", "operate", "listing"),
    Way("/api/v1/switches/open", "POST", "token", "operate", "listing"),
    Way("/api/v1/switches/stopped", "GET", "token", "read", "listing"),
    Way("/api/v1/spend", "GET", "token", "read", "listing"),
)


class UnruledRoute(ChimeraError):
    """The routes of the application and the table of `WAYS` are not the same."""


class Unseen(LookupError):
    """There is something like that, in a tenant that is not the caller's to see: for them it is not there."""


class Guard:
    """Holds requests against the table before a handler sees them."""

    def __init__(self, accounts: Accounts, tokens: Tokens, owners: Owners, rates: Rates, watch: Watch) -> None:
        self._accounts, self._tokens, self._owners, self._rates, self._watch = accounts, tokens, owners, rates, watch

    def ruled(self, routes: Sequence[BaseRoute], ways: Sequence[Way] = WAYS) -> list[BaseRoute]:
        """The routes, each behind its rows of the table; mounts (files that anybody may have) stay as they are.

        Raises `UnruledRoute` for a route without a row, a row without a route, and a route that is there twice.
        """
        table = {(way.path, way.method): way for way in ways}
        if len(table) != len(ways):
            raise UnruledRoute("a route stands twice in chimera.control.routes.WAYS: keep one row for each path and method")
        held: list[BaseRoute] = []
        seen: set[tuple[str, str]] = set()
        for route in routes:
            if isinstance(route, Mount):
                held.append(route)
                continue
            if not isinstance(route, Route):
                raise UnruledRoute(
                    f"{route!r} is neither a route nor a mount: it cannot be held against chimera.control.routes.WAYS"
                )
            asked = {(route.path, method) for method in (route.methods or ()) if method != "HEAD"}
            if missing := sorted(asked - table.keys()):
                raise UnruledRoute(f"no rule says who is let in at {_told(missing)}: add a row to chimera.control.routes.WAYS")
            if twice := sorted(asked & seen):
                raise UnruledRoute(f"{_told(twice)} is routed twice: the second would never be reached")
            seen |= asked
            by_method = {method: table[path, method] for path, method in asked}
            held.append(Route(route.path, self._behind(by_method, route.endpoint), methods=list(by_method), name=route.name))
        if gone := sorted(table.keys() - seen):
            raise UnruledRoute(f"chimera.control.routes.WAYS lets in at {_told(gone)}, which nothing serves: take the row away")
        return held

    def _behind(self, ways: Mapping[str, Way], endpoint: Endpoint) -> Endpoint:
        async def served(request: Request) -> Response:
            way = ways["GET" if request.method == "HEAD" else request.method]
            who = UNKNOWN
            try:
                if way.entry == "login":
                    login = web.login_of(request, self._accounts)
                    who = login.principal.name
                    _storable(request.query_params.values())
                    if request.method not in web.SAFE:
                        self._rates.posts.take(who)
                        form = await request.form()
                        web.demand_token(login, request, form)
                        _storable(form.values())
                    await self._held(way, login.principal, request)
                elif way.entry == "token":
                    bearer = self._shown(request)
                    who = bearer.principal.name
                    await self._held(way, bearer.principal, request)
                return await endpoint(request)
            except (web.Forbidden, Unseen) as error:
                reason = "not_seen" if isinstance(error, Unseen) else "no_right"
                self._watch.refused(request, "right_refused", reason, who, action=way.action or "", resource=way.path)
                raise

        return served

    def _shown(self, request: Request) -> Bearer:
        """Who shows a token. Raises `NotSignedIn` and `TooOften`."""
        where = address_of(request)
        if wait_s := self._rates.wrong_tokens.wait_s(where):
            raise TooOften("too many wrong tokens from this address", wait_s)
        self._rates.addresses.take(where)
        shown = web.token_in(request)
        bearer = self._tokens.known(shown) if shown else None
        if bearer is None:
            self._rates.wrong_tokens.take(where)
            self._watch.refused(request, "token_refused", "unknown_or_over" if shown else "none_shown", resource=request.url.path)
            raise web.NotSignedIn("show a token that is not over: Authorization: Bearer ... (chimera control token add)")
        self._rates.tokens.take(bearer.token.id)
        request.state.bearer = bearer
        return bearer

    async def _held(self, way: Way, principal: Principal, request: Request) -> None:
        """Raises `Forbidden`, and `LookupError` for what is not there or is in a tenant that this person does not see."""
        _storable(request.path_params.values())
        if way.action is not None:
            allow(principal, way.action, await self._tenants(way, request))

    async def _tenants(self, way: Way, request: Request) -> Sequence[str] | None:
        """The tenants that the thing belongs to; None: it belongs to none in particular."""
        given = request.path_params
        if way.of == "agent":
            return await self._owners.of_agent(given["name"])
        if way.of == "card":
            return await self._owners.of_card(given["card"] if "card" in given else f"{given['agent']}/{given['number']}")
        if way.of == "tenant":
            return [given["tenant"]]
        return [EVERY_TENANT] if way.of == "installation" else None


def _storable(said: Iterable[object]) -> None:
    """Raises `LookupError` for what no column of a database and so no name can hold: U+0000, which no keyboard types."""
    if any(isinstance(each, str) and "\x00" in each for each in said):
        raise LookupError("there is nothing like that here")


def allow(principal: Principal, action: Action, tenants: Sequence[str] | None) -> None:
    """Raises unless the principal may do that in one of these tenants (None: in any at all).

    `LookupError` where they may not even look there: what is another tenant's does not exist for them. `Forbidden` else.
    """
    if tenants is None:
        seen = tenants_of(principal, action)
        if seen is None or seen:
            return
        raise web.Forbidden(f"{principal.name} may not {web.WORDS[action]} any tenant: an admin can grant it (chimera control add)")
    if tenants == [EVERY_TENANT]:
        if not authorize(principal, action, EVERY_TENANT):
            raise web.Forbidden(f"{principal.name} may not do this: it takes a role in every tenant (chimera control add)")
        return
    visible = [tenant for tenant in tenants if authorize(principal, "read", tenant)]
    if not visible:
        raise Unseen("there is nothing like that here") if tenants else LookupError("there is nothing like that here")
    if not any(authorize(principal, action, tenant) for tenant in visible):
        web.demand(principal, action, visible[0])


def _told(ways: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{method} {path}" for path, method in ways)
