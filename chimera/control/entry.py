"""The ways in and out: by password, by a link, and the sign-out.

The rule not to break: a refusal tells nobody whether the name or the password was wrong, and takes as long for either.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from chimera.control import web
from chimera.control.accounts import Accounts, TooManyTries
from chimera.control.limits import Rates
from chimera.control.watch import Watch, address_of

log = logging.getLogger(__name__)

Page = Callable[..., Response]


class Entry:
    """Handlers of the door."""

    def __init__(self, page: Page, accounts: Accounts, watch: Watch, rates: Rates) -> None:
        self._page, self._accounts, self._watch, self._rates = page, accounts, watch, rates

    async def sign_in(self, request: Request) -> Response:
        """The form, and what comes of it. Raises `TooOften`."""
        if request.method == "GET":
            return self._page("login.html", None, trouble="", token="")
        self._rates.entries.take(address_of(request), "too many tries from this address")
        form = await request.form()
        name, password = str(form.get("name", "")), str(form.get("password", ""))
        try:
            begun = await asyncio.to_thread(self._accounts.sign_in, name, password, *_whence(request))
        except TooManyTries as error:
            self._watch.refused(request, "locked_out", "too_many_tries", self._accounts.named(name))
            answer = self._page("login.html", None, 429, trouble=str(error), token="")
            answer.headers["Retry-After"] = str(error.wait_s)
            return answer
        if begun is None:
            log.warning("a wrong name or password was given from %s", address_of(request))
            self._watch.refused(request, "login_refused", "wrong_password", self._accounts.named(name))
            return self._page("login.html", None, 401, trouble="that name and password do not fit", token="")
        self._watch.done(request, "login_accepted", name)
        return _entered(begun)

    async def enter(self, request: Request) -> Response:
        """By a link: a look at it does not use it up, since what looks at links ahead of people does that."""
        token = request.path_params["token"]
        if request.method == "GET":
            return self._page("login.html", None, trouble="", token=token)
        self._rates.entries.take(address_of(request), "too many tries from this address")
        begun = await asyncio.to_thread(self._accounts.enter, token, *_whence(request))
        known = self._accounts.known(begun) if begun is not None else None
        if begun is None or known is None:
            self._watch.refused(request, "login_refused", "link_is_over")
            return self._page("login.html", None, 401, trouble="this link was used or is over: ask for another", token="")
        self._watch.done(request, "login_link_used", known.principal.name)
        return _entered(begun)

    async def sign_out(self, request: Request) -> Response:
        """End this browser's login."""
        login = web.login_of(request, self._accounts)
        self._accounts.sign_out(request.cookies[web.COOKIE])
        self._watch.done(request, "signed_off", login.principal.name)
        return gone()


def _whence(request: Request) -> tuple[str, str]:
    return request.headers.get("user-agent", ""), address_of(request)


def _entered(begun: str) -> Response:
    answer = RedirectResponse("/review", 303)
    answer.set_cookie(web.COOKIE, begun, path="/", secure=True, httponly=True, samesite="lax")
    return answer


def gone() -> Response:
    """To the form, without the cookie."""
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(web.COOKIE, path="/", secure=True, httponly=True, samesite="lax")
    return answer
