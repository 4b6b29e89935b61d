"""What every answer of Mission Control goes through: headers, who is there, and where a changing request came from.

The rule not to break: a request that changes something is served only when the browser says that it came from our own pages
*and* it carries the login's own token; every answer, errors too, carries the security headers.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chimera.control.access import Action, Principal, authorize
from chimera.control.accounts import Accounts, Login
from chimera.control.tokens import Bearer
from chimera.errors import ChimeraError

COOKIE = "__Host-chimera"
SAFE = ("GET", "HEAD", "OPTIONS")
LARGEST_FORM = 1 << 20
"""Bytes of a request at most: a form is parsed before anybody is known, into memory and, of files, onto the disk."""
API = "/api/"
"""Below it no cookie is read, so that a strange page has nothing to ride on: a token is sent by who knows it."""

HSTS = "Strict-Transport-Security"
"""Sent where we are reached by TLS; elsewhere it means nothing."""
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": (
        "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), hid=(), idle-detection=(), "
        "magnetometer=(), microphone=(), midi=(), payment=(), publickey-credentials-get=(), serial=(), usb=(), "
        "xr-spatial-tracking=()"
    ),
    HSTS: "max-age=31536000",
    "Cache-Control": "no-store",
}

WORDS: Mapping[Action, str] = {
    "read": "look at",
    "decide": "decide cards of",
    "decide_money": "decide on money of",
    "operate": "operate agents of",
    "administer": "administer",
}


class NotSignedIn(ChimeraError):
    """Nobody known is at the other end."""


class Forbidden(ChimeraError):
    """Somebody known is, and may not."""


class Door:
    """Turns away what calls us by a strange name (a page elsewhere may have its name point here), and what would change something
    and did not come from our own pages; adds `HEADERS` to every answer."""

    def __init__(self, hosts: Sequence[str] | None, app: ASGIApp) -> None:
        self._hosts = None if hosts is None else frozenset(host.lower() for host in hosts)
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, with the headers on."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    if name not in given and (name != HSTS or scope["scheme"] == "https"):
                        given[name] = value
            await send(message)

        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif not self._knows(Headers(scope=scope).get("host", "")):
            strange = PlainTextResponse("Mission Control is not called that: see --host of `chimera run control`\n", 421)
            await strange(scope, receive, sending)
        elif scope["path"].startswith(API) or came_from_us(scope["method"], Headers(scope=scope)):
            await self._app(scope, _bounded(receive), sending)
        else:
            strange = PlainTextResponse("this request did not come from a page of Mission Control\n", 403)
            await strange(scope, receive, sending)

    def _knows(self, host: str) -> bool:
        if self._hosts is None:
            return True
        try:
            return (urlsplit(f"//{host}").hostname or "") in self._hosts
        except ValueError:
            return False


def _bounded(receive: Receive) -> Receive:
    """As long as a request is no larger than it may be; then whoever reads on gets an `HTTPException`."""
    size = 0

    async def receiving() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > LARGEST_FORM:
            raise HTTPException(413, f"this is more than {LARGEST_FORM:,} bytes, which no page of Mission Control sends")
        return message

    return receiving


def came_from_us(method: str, headers: Headers) -> bool:
    """Whether a request may change something as far as its origin goes: by `Sec-Fetch-Site`, else by `Origin`."""
    if method in SAFE:
        return True
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc == headers.get("host")


def login_of(request: Request, accounts: Accounts) -> Login:
    """Who is there; looked up once in a request. Raises `NotSignedIn`."""
    known: Login | None = getattr(request.state, "login", None)
    if known is not None:
        return known
    told = request.cookies.get(COOKIE)
    found = accounts.known(told) if told else None
    if found is None:
        raise NotSignedIn("sign in first")
    request.state.login = found
    return found


def bearer_of(request: Request) -> Bearer:
    """Who shows a token, as the guard found them. Raises `NotSignedIn` where nobody did."""
    known: Bearer | None = getattr(request.state, "bearer", None)
    if known is None:
        raise NotSignedIn("show a token: Authorization: Bearer ... (chimera control token add)")
    return known


def token_in(request: Request) -> str:
    """The token that a request shows; "" where it shows none."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def demand_token(login: Login, request: Request, form: Mapping[str, Any] | MutableMapping[str, Any]) -> None:
    """Raises `Forbidden` unless the login's own token came along, in the form or as `X-CSRF-Token`."""
    told = str(form.get("csrf") or request.headers.get("x-csrf-token", ""))
    if not hmac.compare_digest(told.encode(), login.csrf.encode()):
        raise Forbidden("this page is from another login: load it again")


def demand(principal: Principal, action: Action, tenant: str) -> None:
    """Raises `Forbidden` with what is missing, unless the table allows it."""
    if authorize(principal, action, tenant):
        return
    if action == "decide_money" and authorize(principal._replace(fresh=True), action, tenant):
        raise Forbidden("money is decided within five minutes of showing your password: sign in again")
    raise Forbidden(f"{principal.name} may not {WORDS[action]} tenant {tenant}: an admin can grant it (chimera control add)")
