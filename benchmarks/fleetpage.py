"""The fleet page at ten thousand agents: server time of the page beside its bare SQL, in one run.

    python -m benchmarks.fleetpage postgresql://...  [--agents 10000] [--requests 200] [--json]

Makes a database of its own on that server (`chimera_fleetpage`) and drops it again. Each request asks for another page, name, group
or filter. The limit beside the page is the same statements on a connection of their own, without application and template.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from starlette.testclient import TestClient

from chimera.control import fleet
from chimera.control.accounts import Accounts
from chimera.control.app import application
from chimera.projections.demo import address
from chimera.projections.schema import migrate

DATABASE = "chimera_fleetpage"
P95_MS = 300.0
"""What the page may take (issue: Mission Control)."""
FILL = Path(__file__).with_suffix(".sql")
_ASKED: tuple[dict[str, str], ...] = (
    {}, {"after": "agent000500|acme"}, {"after": "agent009000|acme"}, {"before": "agent005000|acme"}, {"name": "agent0042"},
    {"name": "77"},
    {"group": "group7"}, {"is": "waiting"}, {"is": "paused"}, {"is": "quarantined", "group": "all"},
)  # fmt: skip


def main() -> None:
    """Print a table, or JSON with --json; exit 1 where the page takes longer than it may."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("dsn")
    asked.add_argument("--agents", type=int, default=10_000)
    asked.add_argument("--requests", type=int, default=200)
    asked.add_argument("--json", action="store_true")
    given = asked.parse_args()
    found = measure(given.dsn, given.agents, given.requests)
    if given.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:<28} {value}")
    raise SystemExit(0 if found["page_p95_ms"] <= P95_MS else 1)


def measure(dsn: str, agents: int, requests: int) -> dict[str, Any]:
    """The page's and the bare statements' times, in milliseconds."""
    own = address(dsn, DATABASE)
    with psycopg.connect(address(dsn, "postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(DATABASE)))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
    try:
        migrate(own)
        with psycopg.connect(own, autocommit=True) as connection:
            for statement in filter(str.strip, FILL.read_text().split(";\n")):
                connection.execute(statement.encode(), {"agents": agents})
        pages = list(_pages(own, requests))
        bare = list(_bare(own, requests))
    finally:
        with psycopg.connect(address(dsn, "postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(DATABASE)))
    return {
        "agents": agents,
        "requests": requests,
        "page_p50_ms": round(statistics.median(pages), 1),
        "page_p95_ms": round(_p95(pages), 1),
        "bare_sql_p50_ms": round(statistics.median(bare), 1),
        "bare_sql_p95_ms": round(_p95(bare), 1),
        "limit_p95_ms": P95_MS,
    }


def _pages(dsn: str, requests: int) -> Iterator[float]:
    """How long each request took, the application and its template included."""
    with tempfile.TemporaryDirectory(prefix="chimera-fleetpage-") as home:
        Accounts(Path(home)).put("mo", {"*": ["viewer"]}, "a long enough password")
        with TestClient(application(Path(home), dsn), base_url="https://desk.test", follow_redirects=False) as client:
            given = {"name": "mo", "password": "a long enough password"}
            assert client.post("/login", data=given, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 303
            for n in range(requests):
                began = time.perf_counter()
                answer = client.get("/fleet", params=_ASKED[n % len(_ASKED)])
                took = (time.perf_counter() - began) * 1000
                assert answer.status_code == 200, answer.text
                yield took


def _bare(dsn: str, requests: int) -> Iterator[float]:
    """The page's statements alone."""
    with psycopg.connect(dsn, autocommit=True, row_factory=dict_row) as connection:
        for n in range(requests):
            given, statement = fleet.asked_for(_ASKED[n % len(_ASKED)], None)
            began = time.perf_counter()
            found = connection.execute(statement.encode(), given).fetchall()
            ids = {"ids": [row["agent_id"] for row in found]}
            for each, values in (
                (fleet.CARDS, ids),
                (fleet.POSTS, ids),
                (fleet.COUNTS, given),
                (fleet.WAITING, given),
                (fleet.GROUPS, given),
            ):
                connection.execute(each.encode(), values).fetchall()
            yield (time.perf_counter() - began) * 1000


def _p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]


if __name__ == "__main__":
    main()
