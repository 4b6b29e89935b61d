"""Mission Control before made-up read models, called as no page calls it: signs that no column holds, names that tenants share."""

from __future__ import annotations

import csv
import io
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import orjson
import psycopg
import pytest
from starlette.testclient import TestClient

from chimera.commands import agents
from chimera.commands.client import Client
from chimera.control import asking
from chimera.control.accounts import Accounts
from chimera.control.app import application
from chimera.control.limits import rates
from chimera.control.routes import WAYS
from chimera.control.tokens import Tokens
from chimera.projections import demo

PASSWORD = "kim's long password"
OURS = {"Sec-Fetch-Site": "same-origin"}
ASKED = (
    "name", "group", "is", "after", "before", "agent", "tenant", "type", "outcome", "since", "from", "status", "tz", "month",
    "days", "hours", "card", "q", "kind", "platform", "campaign", "ruling", "upto", "done", "shown", "at",
)  # fmt: skip
"""Names that pages look for in an address."""


@pytest.fixture(scope="module")
def made(postgres_dsn: str) -> str:
    database = f"demo_{uuid.uuid4().hex[:12]}"
    demo.make(postgres_dsn, database, demo.Size(posts=400, observations=1, asset_events=0))
    own = demo.address(postgres_dsn, database)
    with psycopg.connect(own, autocommit=True) as connection:  # as a database that is not ours may have it
        connection.execute(f"ALTER DATABASE {database} SET timezone TO 'Pacific/Kiritimati'".encode())
    return own


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    Accounts(home).put("kim", {"*": ["admin"]}, PASSWORD)
    return home


@pytest.fixture(scope="module")
def desk(home: Path, made: str) -> Iterator[TestClient]:
    """A browser in which somebody is signed in who may see everything; there is no command service."""
    app = application(home, made, rates(10_000))
    with TestClient(app, base_url="https://desk.test", follow_redirects=False, raise_server_exceptions=False) as client:
        assert client.post("/login", data={"name": "kim", "password": PASSWORD}, headers=OURS).status_code == 303
        yield client


PAGES = [way.path for way in WAYS if way.method == "GET" and way.entry == "login" and way.path != "/events"]


@pytest.mark.parametrize("path", PAGES)
def test_a_sign_that_no_column_holds_finds_nothing_and_breaks_no_page(desk: TestClient, path: str) -> None:
    odd = re.sub(r"\{[^}]*\}", "a%00b", path)
    known = re.sub(r"\{name\}", "demo0", re.sub(r"\{(?!name)[^}]*\}", "1.1", path))
    asked = [(at, {name: "a\x00b"}) for name in ASKED for at in (odd, known)]
    broke = [(at, given) for at, given in [(odd, {}), *asked] if desk.get(at, params=given).status_code == 500]
    assert broke == []


def test_agents_that_share_a_name_are_on_one_page_of_the_api_and_none_is_passed_over(
    home: Path, made: str, desk: TestClient
) -> None:
    with psycopg.connect(made) as connection:
        (there,) = connection.execute("SELECT count(*) FROM core.agents").fetchone() or (0,)
        connection.execute("UPDATE core.agents SET name = 'demo1' WHERE name IN ('demo2', 'demo3')")
    _, secret = Tokens(home).add("kim", ["admin"], "*", 1)
    bearer = {"Authorization": f"Bearer {secret}"}
    found, after = list[str](), ""
    while page := desk.get("/api/v1/agents", params={"limit": 2, "after": after}, headers=bearer).json()["agents"]:
        found += [row["agent_id"] for row in page]
        after = page[-1]["agent"]
    assert len(found) == len(set(found)) == there


def test_a_month_is_one_of_utc_whatever_zone_the_database_has(made: str, desk: TestClient) -> None:
    # given the month in which posts were published last within the 14 hours that the database's zone is ahead of UTC
    with psycopg.connect(made, options="-c timezone=UTC") as connection:
        newest = connection.execute("SELECT date_trunc('month', max(published_at))::date FROM analytics_v1.posts").fetchone()
        assert newest is not None
        begin = newest[0]
        connection.execute(
            "UPDATE core.effects SET ended_at = %s::timestamptz - interval '1 hour'"
            " WHERE status = 'executed' AND effect_class = 'publish'"
            " AND agent_id = (SELECT min(agent_id) FROM core.agents WHERE tenant = 'acme')",
            (begin,),
        )
        published = connection.execute(
            "SELECT count(*) FROM analytics_v1.posts WHERE tenant = 'acme' AND published_at >= %s", (begin,)
        ).fetchone()
    told = desk.get("/statement.csv", params={"tenant": "acme", "month": f"{begin:%Y-%m}"}).text
    rows = [row for row in csv.DictReader(io.StringIO(told)) if row["section"] == "Published"]
    assert (sum(int(row["count"]) for row in rows),) == published


def test_a_name_that_nobody_here_has_tells_no_names_of_other_tenants(desk: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a command service that helps whoever mistypes a name with those of everybody
    class Helpful(Client):
        def _request(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
            try:
                agents.find([], "demo1")
            except agents.UnknownAgent as error:
                return 404, orjson.dumps({"kind": "unknown", "error": f"{error}: known are secret-agent"})
            raise AssertionError

        def close(self) -> None:
            """It has no connection."""

    monkeypatch.setattr(asking, "Client", lambda path, timeout_s: Helpful.__new__(Helpful))
    for path in ("/review?card=nobody/1.1.1", "/agent/nobody", "/review/nobody/1.1.1/looking?shown=x"):
        told = desk.get(path)
        assert told.status_code in (200, 404)
        assert "secret-agent" not in told.text
