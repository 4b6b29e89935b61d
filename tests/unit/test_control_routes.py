"""The table of routes and the routes themselves are the same, or Mission Control does not start."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute

from chimera.control.access import Principal
from chimera.control.app import application
from chimera.control.limits import rates
from chimera.control.routes import Guard, UnruledRoute, Way, allow
from chimera.control.web import Forbidden


async def here(request: Request) -> Response:
    return PlainTextResponse("here")


def ruled(routes: list[Route], ways: list[Way]) -> int:
    return len(Guard(None, None, None, rates(), None).ruled(routes, ways))  # type: ignore[arg-type]  # nobody asks yet


def test_the_application_that_is_shipped_starts(tmp_path: Path) -> None:
    application(tmp_path, "postgresql://nowhere")


def test_a_route_that_the_table_does_not_know_keeps_the_application_from_starting() -> None:
    with pytest.raises(UnruledRoute, match="no rule says who is let in at POST /wipe"):
        ruled([Route("/wipe", here, methods=["POST"])], [Way("/wipe", "GET", "login")])


def test_so_do_a_row_that_nothing_serves_a_row_or_a_route_that_stands_twice_and_what_is_no_route() -> None:
    with pytest.raises(UnruledRoute, match="GET /gone, which nothing serves"):
        ruled([], [Way("/gone", "GET", "login")])
    with pytest.raises(UnruledRoute, match="stands twice"):
        ruled([], [Way("/a", "GET", "login"), Way("/a", "GET", "open")])
    with pytest.raises(UnruledRoute, match="routed twice"):
        ruled([Route("/a", here), Route("/a", here)], [Way("/a", "GET", "login")])
    with pytest.raises(UnruledRoute, match="neither a route nor a mount"):
        ruled([WebSocketRoute("/a", here)], [])  # type: ignore[list-item]


def test_what_is_in_a_tenant_that_one_does_not_see_is_not_there_and_what_one_sees_is_forbidden_by_name() -> None:
    eye = Principal("eye", {"acme": ["viewer"]})
    allow(eye, "read", ["acme"])
    allow(eye, "read", ["canary", "acme"])
    allow(eye, "read", None)
    with pytest.raises(LookupError, match="nothing like that"):
        allow(eye, "read", ["canary"])
    with pytest.raises(LookupError):
        allow(eye, "decide", [])
    with pytest.raises(Forbidden, match="eye may not decide cards of tenant acme"):
        allow(eye, "decide", ["acme"])
    with pytest.raises(Forbidden, match="any tenant"):
        allow(eye, "operate", None)
    with pytest.raises(Forbidden, match="a role in every tenant"):
        allow(Principal("ada", {"acme": ["admin"]}), "administer", ["*"])
    allow(Principal("ada", {"*": ["admin"]}), "administer", ["*"])
