"""Mission Control as a web application: routes, and what each does.

The rule not to break: a handler reads who is there, asks `access`, then acts; nothing is decided in a template.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from psycopg import AsyncConnection, OperationalError
from psycopg_pool import AsyncConnectionPool, PoolTimeout
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from chimera.commands.client import CommandFailed, NoService
from chimera.commands.decision import Refused
from chimera.commands.telling import ago, visible, when
from chimera.commands.verbs import BadVerb
from chimera.control import pages, web
from chimera.control.access import tenants_of
from chimera.control.accounts import Accounts, Login
from chimera.control.api import operations
from chimera.control.api.calls import Api, BadCall, problem
from chimera.control.asking import Asking
from chimera.control.deciding import Deciding
from chimera.control.entry import Entry
from chimera.control.limits import Rates, TooOften, rates
from chimera.control.live import Live
from chimera.control.media import Links
from chimera.control.own import Own
from chimera.control.owners import Owners
from chimera.control.place import Place
from chimera.control.review import Review
from chimera.control.routes import Guard
from chimera.control.telling import Telling
from chimera.control.tokens import Tokens
from chimera.control.watch import Watch
from chimera.control.webhooks import Webhooks
from chimera.control.wording import FILTERS
from chimera.media.place import open_media
from chimera.media.store import MediaStore
from chimera.stack.addresses import media_url

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
WAIT_FOR_ROWS_S = 5.0


class Control:
    """All that a handler needs: accounts, the read models, the command service, templates."""

    def __init__(self, home: Path, dsn: str) -> None:
        self.accounts = Accounts(home)
        self.asking = Asking(home)
        self.rows = AsyncConnectionPool(
            dsn,
            min_size=1,
            max_size=8,
            open=False,
            timeout=WAIT_FOR_ROWS_S,
            kwargs={
                "autocommit": True,
                "options": "-c default_transaction_read_only=on -c statement_timeout=5000 -c jit=off -c timezone=UTC",
            },
        )
        self.live = Live(self.rows)
        self.pages = Environment(
            loader=FileSystemLoader(HERE / "templates"), autoescape=select_autoescape(), undefined=StrictUndefined, trim_blocks=True
        )
        self.pages.filters |= {"when": when, "visible": visible, "ago": lambda ts: ago(ts, int(time.time() * 1000)), "span": span}
        self.pages.filters |= FILTERS

    def page(self, template: str, login: Login | None, status: int = 200, /, **given: Any) -> HTMLResponse:
        """A page of that template, for whoever is there."""
        grants = None if login is None else tenants_of(login.principal)
        text = self.pages.get_template(template).render(login=login, tenants=grants, **given)
        return HTMLResponse(text, status_code=status)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection[Any]]:
        """A connection to the read models; it cannot write."""
        async with self.rows.connection() as connection:
            yield connection


def span(length: Any) -> str:
    """How long, in the largest unit that says something."""
    seconds = int(length.total_seconds())
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{max(seconds, 0)} s"


def application(
    home: Path,
    dsn: str,
    limits: Rates | None = None,
    hosts: Sequence[str] | None = None,
    media: MediaStore | None = None,
    media_at: str | None = None,
) -> ASGIApp:
    """The whole of it; `limits` in place of those that are shipped, `hosts`: the names that it answers to (None: any), `media`:
    the store in place of the home's own, `media_at`: the origin of media in place of the home's.

    Raises `AccountTrouble` for an account file that others may read, and `UnruledRoute`.
    """
    control = Control(home, dsn)
    media, links = media or open_media(home), Links(home, media_at or media_url(home))
    review = Review(control.page, control.reading, control.asking, control.accounts, control.live, home, media, links)
    limits = limits or rates()
    tokens, watch = Tokens(home), Watch(home)
    telling = Telling(Webhooks(home), control.reading)
    deciding = Deciding(review, watch)
    entry = Entry(control.page, control.accounts, watch, limits)
    own = Own(control.page, control.accounts, tokens, watch)

    async def start(request: Request) -> Response:
        return RedirectResponse("/review", 303)

    async def events(request: Request) -> Response:
        return control.live.answer(request, web.login_of(request, control.accounts).csrf)

    async def well(request: Request) -> Response:
        return PlainTextResponse("well\n")

    routes = [
        Route("/", start),
        Route("/healthz", well),
        Route("/login", entry.sign_in, methods=["GET", "POST"]),
        Route("/enter/{token}", entry.enter, methods=["GET", "POST"]),
        Route("/logout", entry.sign_out, methods=["POST"]),
        Route("/account", own.account),
        Route("/account/logins/end", own.end_others, methods=["POST"]),
        Route("/account/logins/{login}/end", own.end_login, methods=["POST"]),
        Route("/account/password", own.password, methods=["POST"]),
        Route("/account/tokens", own.add_token, methods=["POST"]),
        Route("/account/tokens/{token}/revoke", own.revoke_token, methods=["POST"]),
        Route("/review", review.desk),
        Route("/review/batch", deciding.batch, methods=["POST"]),
        Route("/review/{card:path}/decide", deciding.decide, methods=["POST"]),
        Route("/review/{card:path}/reread", deciding.reread, methods=["POST"]),
        Route("/review/{card:path}/looking", review.looking),
        *pages.routes(Place(control.page, control.reading, control.asking, control.accounts, home, dsn)),
        Route("/events", events),
        *operations.routes(Api(control.reading, control.asking)),
        Mount("/static", StaticFiles(directory=HERE / "static"), name="static"),
    ]

    @asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        await control.rows.open()
        control.live.start()
        telling.start()
        try:
            yield
        finally:
            await telling.stop()
            await control.live.stop()
            await control.rows.close()
            control.asking.close()

    async def trouble(request: Request, error: Exception) -> Response:
        status, words = _told(error)
        if request.url.path.startswith(web.API):
            return problem(status, words, _headers(error))
        if status == 401 and request.method == "GET" and "hx-request" not in request.headers and request.url.path != "/events":
            return RedirectResponse("/login", 303)
        if status >= 500:
            log.error("%s %s: %s", request.method, request.url.path, error)
        login = None
        if status != 401:
            found = request.cookies.get(web.COOKIE)
            login = control.accounts.known(found) if found else None
        answer = control.page("trouble.html", login, status, words=words)
        answer.headers.update({name: value for name, value in _headers(error).items() if name != "WWW-Authenticate"})
        return answer

    handled: dict[Any, Any] = dict.fromkeys(
        (
            web.NotSignedIn,
            web.Forbidden,
            Refused,
            NoService,
            CommandFailed,
            OperationalError,
            PoolTimeout,
            LookupError,
            TooOften,
            BadCall,
            BadVerb,
            HTTPException,
        ),
        trouble,
    )

    async def broken(request: Request, error: Exception) -> Response:
        log.error("%s %s broke", request.method, request.url.path, exc_info=error)
        if request.url.path.startswith(web.API):
            return problem(500, "this call broke; the log of control says why (`chimera logs control`)")
        return control.page(
            "trouble.html", None, 500, words="this page broke; the log of control says why (`chimera logs control`)"
        )

    handled[Exception] = broken
    guard = Guard(control.accounts, tokens, Owners(control.reading, control.asking), limits, watch)
    return web.Door(hosts, Starlette(routes=guard.ruled(routes), lifespan=life, exception_handlers=handled))


def _told(error: Exception) -> tuple[int, str]:
    """Status and words for people."""
    if isinstance(error, HTTPException):
        return error.status_code, error.detail
    if isinstance(error, TooOften):
        return 429, str(error)
    if isinstance(error, BadCall | BadVerb):
        return 422, str(error)
    if isinstance(error, web.NotSignedIn):
        return 401, str(error)
    if isinstance(error, web.Forbidden):
        return 403, str(error)
    if isinstance(error, Refused):
        return 409, str(error)
    if isinstance(error, LookupError):
        return 404, str(error.args[0] if error.args else "not found")
    if isinstance(error, NoService | CommandFailed):
        return 503, f"{error}. Nothing was decided here; the page works again when the command service does (chimera status)"
    return 503, "the read models do not answer: see `chimera doctor`. Commands from the shell work meanwhile"


def _headers(error: Exception) -> Mapping[str, str]:
    """What a refusal says beside its words."""
    if isinstance(error, HTTPException):
        return error.headers or {}
    if isinstance(error, TooOften):
        return {"Retry-After": str(error.wait_s)}
    return {"WWW-Authenticate": "Bearer"} if isinstance(error, web.NotSignedIn) else {}
