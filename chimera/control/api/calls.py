"""How a call of the API is read and answered: query and body held against their models, errors told as problems (RFC 9457).

The rule not to break: what an operation gets has been checked whole; what goes out is a model, or a problem that repeats nothing of
what was sent.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from typing import Any, NamedTuple

import orjson
from psycopg import AsyncConnection
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from chimera.control import web
from chimera.control.access import Action, Principal
from chimera.control.accounts import Login
from chimera.control.api.models import Problem
from chimera.control.asking import Asking
from chimera.control.routes import Endpoint
from chimera.control.tokens import Bearer
from chimera.errors import ChimeraError

LARGEST_BODY = 64 * 1024
KEY_HEADER = "idempotency-key"
_KEY = re.compile(r"[A-Za-z0-9_.-]{0,200}")


class BadCall(ChimeraError):
    """What was sent is not what the operation takes."""


class Api(NamedTuple):
    """What operations ask."""

    reading: Callable[[], AbstractAsyncContextManager[AsyncConnection[Any]]]
    asking: Asking


class Call(NamedTuple):
    """One call. `query` and `body` are of the operation's models; `at`: method and path; `key` "" where none was given."""

    bearer: Bearer
    path: Mapping[str, str]
    query: Any
    body: Any
    at: str
    key: str

    @property
    def principal(self) -> Principal:
        """Who calls."""
        return self.bearer.principal

    @property
    def login(self) -> Login:
        """The caller as pages know one, for what they ask about tenants."""
        return Login(self.principal, "")

    @property
    def card(self) -> str:
        """The address of the card in the path."""
        return f"{self.path['agent']}/{self.path['number']}"

    def demand(self, action: Action, tenant: str) -> None:
        """Raises `Forbidden` unless the token may do that there, and for money always."""
        if action == "decide_money":
            raise web.Forbidden("what costs or moves money is decided by a person at the desk, never by a token")
        web.demand(self.principal, action, tenant)


Does = Callable[[Api, Call], Awaitable[BaseModel]]


def endpoint(api: Api, query: type[BaseModel], body: type[BaseModel] | None, does: Does) -> Endpoint:
    """A handler of that operation. Raises `BadCall` and what the operation raises."""

    async def handle(request: Request) -> Response:
        pairs = request.query_params.multi_items()
        if len({name for name, _ in pairs}) != len(pairs):
            raise BadCall("query: a parameter is given twice")
        key = request.headers.get(KEY_HEADER, "")
        if not _KEY.fullmatch(key):
            raise BadCall(f"{KEY_HEADER}: up to 200 letters, digits, and _ . -")
        call = Call(
            web.bearer_of(request),
            request.path_params,
            _read(query, "query", lambda: query.model_validate_strings(dict(pairs))),
            None if body is None else await _body(request, body),
            f"{request.method} {request.url.path}",
            key,
        )
        return Response((await does(api, call)).model_dump_json(), media_type="application/json")

    return handle


async def _body(request: Request, model: type[BaseModel]) -> BaseModel:
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        raise BadCall("body: send JSON, with Content-Type: application/json")
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > LARGEST_BODY:
            raise BadCall(f"body: more than {LARGEST_BODY} bytes")
        parts.append(part)
    raw = b"".join(parts)
    return _read(model, "body", lambda: model.model_validate_json(raw, strict=True))


def _read(model: type[BaseModel], where: str, read: Callable[[], BaseModel]) -> BaseModel:
    try:
        return read()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise BadCall(f"{'.'.join((where, *(str(part) for part in first['loc'])))}: {first['msg']}") from None


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as programs read it."""
    told = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail)
    return Response(orjson.dumps(told.model_dump()), status, dict(headers or {}), "application/problem+json")
