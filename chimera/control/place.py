"""What a page of Mission Control is made with, and the two questions that every page asks first: who is there, and which rows.

The rule not to break: a page that names an agent, a campaign or a record finds it through `tenants_of` in the statement itself;
what belongs to another tenant is not there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from psycopg import AsyncConnection, sql
from psycopg.rows import dict_row
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chimera.control import web
from chimera.control.access import tenants_of
from chimera.control.accounts import Accounts, Login
from chimera.control.asking import Asking
from chimera.projections.views import PLANNING

VISIBLE_S = 2.0
Connection = AsyncConnection[Any]
Reading = Callable[[], AbstractAsyncContextManager[Connection]]
Page = Callable[..., Response]
Row = dict[str, Any]

SEEN = "(%(tenants)s::text[] IS NULL OR {}.tenant = ANY(%(tenants)s))"
"""The condition that every statement on tenants' rows carries; `seen("a")` fills the table's name in."""


class Place(NamedTuple):
    """Templates, read models, the command service, accounts, and the home with its status files."""

    page: Page
    reading: Reading
    asking: Asking
    accounts: Accounts
    home: Path
    dsn: str
    """The read models, for what is operated there (parked rows, builds); pages read by `reading`."""


Handler = Callable[[Request, Login, Place], Awaitable[Response]]


def route(place: Place, path: str, handler: Handler, *methods: str) -> Route:
    """A route whose handler is given who is there. Who may come that far stands in `chimera.control.routes`."""

    async def serve(request: Request) -> Response:
        return await handler(request, web.login_of(request, place.accounts), place)

    return Route(path, serve, methods=list(methods or ("GET",)), name=handler.__name__)


def seen(table: str) -> str:
    """Only rows of tenants that the login may look at; the statement is given `tenants`."""
    return SEEN.format(table)


def allowed(login: Login) -> list[str] | None:
    """The value of `tenants` for this login: None = all."""
    tenants = tenants_of(login.principal)
    return None if tenants is None else list(tenants)


async def rows(connection: Connection, statement: str, given: Mapping[str, Any]) -> list[Row]:
    """All rows of a statement."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(statement, given)
        return await cursor.fetchall()


async def one(connection: Connection, statement: str, given: Mapping[str, Any]) -> Row | None:
    """Its first row, if there is one."""
    found = await rows(connection, statement, given)
    return found[0] if found else None


@asynccontextmanager
async def analysing(place: Place) -> AsyncIterator[Connection]:
    """A connection on which views are joined as analysts' questions are (`views.PLANNING`)."""
    async with place.reading() as connection, connection.transaction():
        for name, value in PLANNING.items():
            await connection.execute(sql.SQL("SET LOCAL {} TO {}").format(sql.Identifier(name), sql.Literal(value)))
        yield connection


_WRITTEN = """SELECT count(*) AS written FROM analytics_v1.freshness f WHERE f.topic = 'chimera.log' AND f.model_set = 'core'
  AND f.partition = %(partition)s AND f."offset" > %(offset)s"""


async def until_visible(place: Place, position: tuple[int, int] | None) -> None:
    """Wait until the read models hold a record that was just appended, so that the next page shows it; 2 s at most."""
    deadline = time.monotonic() + VISIBLE_S
    while position is not None and time.monotonic() < deadline:
        async with place.reading() as connection:
            found = await one(connection, _WRITTEN, {"partition": position[0], "offset": position[1]})
        if found is not None and found["written"]:
            return
        await asyncio.sleep(0.03)


_AGENT = f"""SELECT * FROM analytics_v1.agents a WHERE a.agent = %(name)s AND {seen("a")}
  AND (%(tenant)s = '' OR a.tenant = %(tenant)s) ORDER BY a.tenant LIMIT 1"""


async def agent_named(connection: Connection, name: str, login: Login, tenant: str = "") -> Row:
    """The agent of that name that this login may look at. Raises `LookupError`."""
    found = await one(connection, _AGENT, {"name": name, "tenant": tenant, "tenants": allowed(login)})
    if found is None:
        raise LookupError("there is no such agent here")
    return found


def number(text: str | None, default: int, *, least: int = 0, most: int = 2**62) -> int:
    """A whole number of an address, within limits; `default` for what is none."""
    return min(max(int(text), least), most) if text is not None and text.isascii() and text.isdigit() else default


def words(form: FormData | Mapping[str, Any], name: str, limit: int = 500) -> str:
    """A field of a form, without what lies around it."""
    return str(form.get(name, "")).strip()[:limit]


def address(path: str, **given: Any) -> str:
    """A path with its query; what is empty is left out."""
    asked = urlencode({name: value for name, value in given.items() if value not in ("", None)})
    return f"{path}?{asked}" if asked else path


def likewise(text: str) -> str:
    """`text` as the beginning of a LIKE pattern, its own signs taken as they are."""
    return "".join(f"\\{sign}" if sign in r"\%_" else sign for sign in text) + "%"


def split(found: Sequence[Row], most: int) -> tuple[Sequence[Row], bool]:
    """The first `most` rows, and whether there were more."""
    return found[:most], len(found) > most
