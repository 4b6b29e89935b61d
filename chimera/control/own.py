"""The page of one's own account: where one is signed in, one's password, one's API tokens.

The rule not to break: everything here is the caller's own; a token's secret is on the page that answers its making, nowhere else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from chimera.control import web
from chimera.control.access import EVERY_TENANT, ROLES
from chimera.control.accounts import Accounts, Login, TooManyTries
from chimera.control.book import AccountTrouble
from chimera.control.entry import gone
from chimera.control.tokens import Tokens, held
from chimera.control.watch import Watch

Page = Callable[..., Response]


class Own:
    """Handlers of the page."""

    def __init__(self, page: Page, accounts: Accounts, tokens: Tokens, watch: Watch) -> None:
        self._page, self._accounts, self._tokens, self._watch = page, accounts, tokens, watch

    async def account(self, request: Request) -> Response:
        """The page."""
        return self._shown(request)

    async def end_login(self, request: Request) -> Response:
        """End one of one's logins; this one too."""
        login, short = web.login_of(request, self._accounts), request.path_params["login"]
        if not self._accounts.end_login(login.principal.name, short):
            raise LookupError("that login has ended already")
        self._watch.done(request, "signed_off", login.principal.name, resource="one login")
        still = self._accounts.known(request.cookies[web.COOKIE])
        return RedirectResponse("/account", 303) if still is not None else gone()

    async def end_others(self, request: Request) -> Response:
        """End every login of one's own but this."""
        login = web.login_of(request, self._accounts)
        ended = self._accounts.end_logins(login.principal.name, but=request.cookies[web.COOKIE])
        self._watch.done(request, "signed_off", login.principal.name, resource=f"{ended} other logins")
        return self._shown(request, told=f"{ended} other logins ended")

    async def password(self, request: Request) -> Response:
        """Another password, for who knows the one before; all other logins end."""
        login, form = web.login_of(request, self._accounts), await request.form()
        name, new = login.principal.name, str(form.get("new", ""))
        if new != str(form.get("again", "")):
            return self._shown(request, trouble="the new password was typed in two ways", status=422)
        cookie = request.cookies[web.COOKIE]
        try:
            fits = await asyncio.to_thread(self._accounts.change_password, name, str(form.get("old", "")), new, cookie)
        except TooManyTries as error:
            self._watch.refused(request, "locked_out", "too_many_tries", name)
            return self._shown(request, trouble=str(error), status=429)
        except AccountTrouble as error:
            return self._shown(request, trouble=str(error), status=422)
        if not fits:
            self._watch.refused(request, "login_refused", "wrong_old_password", name)
            return self._shown(request, trouble="that is not your password", status=403)
        self._watch.done(request, "account_changed", name, resource=f"password of {name}")
        return self._shown(request, told="your password is changed, and your other logins have ended")

    async def add_token(self, request: Request) -> Response:
        """A new token; its secret is shown once."""
        login, form = web.login_of(request, self._accounts), await request.form()
        days, tenant = str(form.get("days", "")), str(form.get("tenant", ""))
        roles = [role for role in ROLES if role in form.getlist("role")]
        try:
            if not days.isdecimal() or len(days) > 4:
                raise AccountTrouble("say in days how long it lives")
            made, secret = self._tokens.add(login.principal.name, roles, tenant, int(days), str(form.get("label", "")))
        except AccountTrouble as error:
            return self._shown(request, trouble=str(error), status=422)
        self._watch.done(request, "token_made", login.principal.name, resource=made.id, tenant=tenant)
        return self._shown(request, secret=secret)

    async def revoke_token(self, request: Request) -> Response:
        """End a token of one's own."""
        login = web.login_of(request, self._accounts)
        try:
            ended = self._tokens.revoke(request.path_params["token"], login.principal.name)
        except AccountTrouble as error:
            raise LookupError(str(error)) from None
        self._watch.done(request, "token_revoked", login.principal.name, resource=ended.id, tenant=ended.tenant)
        return self._shown(request, told=f"token {ended.id} is revoked")

    def _shown(self, request: Request, status: int = 200, **said: Any) -> Response:
        login: Login = web.login_of(request, self._accounts)
        grants = login.principal.grants
        places = [(tenant, held(grants, tenant)) for tenant in sorted(grants)]
        given = {"told": "", "trouble": "", "secret": ""} | said
        return self._page(
            "account.html",
            login,
            status,
            logins=self._accounts.logins_of(login.principal.name, request.cookies[web.COOKIE]),
            tokens=self._tokens.listed(login.principal.name),
            places=places,
            every=EVERY_TENANT,
            **given,
        )
