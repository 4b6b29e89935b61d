"""Made-up read models of any size, in a database of their own: to try questions on, and to measure them.

The rule not to break: made-up rows never enter a database that holds, or may come to hold, rows of a real log.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from chimera.errors import ChimeraError
from chimera.projections import metrics, parts
from chimera.projections.schema import MIGRATIONS, migrate

MARK = "made up by chimera demo-data"
"""Comment of such a database: only one that says so is ever dropped."""
SCRIPT = MIGRATIONS / "demo" / "demo.sql"


class NotADemo(ChimeraError):
    """The database of that name was not made by demo-data."""


class Size(NamedTuple):
    """How much is made. `observations`: of each post, each with four numbers; `asset_events`: of each asset beyond the first."""

    posts: int
    days: int = 30
    observations: int = 10
    asset_events: int = 2


def address(dsn: str, database: str) -> str:
    """The same server, another database."""
    parts_of = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
    return make_conninfo("", **parts_of | {"dbname": database})


def make(dsn: str, database: str, size: Size, progress: Callable[[str], None] = lambda what: None) -> dict[str, int]:
    """Make the database anew and fill it; rows by table. Raises `NotADemo`, and `MigrationFailed` as `migrate` does."""
    _make_database(dsn, database)
    own = address(dsn, database)
    progress("tables and views")
    migrate(own)
    steps = _steps(SCRIPT)
    now = datetime.now(UTC).replace(microsecond=0)
    with psycopg.connect(own, autocommit=True) as connection:
        connection.execute("SET synchronous_commit TO off; SET timezone TO 'UTC'; SET search_path TO core; SET work_mem TO '64MB'")
        for table in parts.PARTED:
            parts.ensure(connection, "core", table, _days(now, size.days))
        values = {"posts": size.posts, "days": size.days, "observations": size.observations, "asset_events": size.asset_events}
        for what, statement in steps:
            progress(what)
            connection.execute(_filled(statement, values, now))
        progress("sums and facts")
        metrics.settle(connection, "core")
        progress("statistics")
        connection.execute("VACUUM ANALYZE")
        return _counts(connection)


def _make_database(dsn: str, database: str) -> None:
    with psycopg.connect(address(dsn, "postgres"), autocommit=True, connect_timeout=5) as connection:
        found = connection.execute(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", (database,)
        ).fetchone()
        if found is not None and found[0] != MARK:
            raise NotADemo(f"database '{database}' was not made by demo-data: choose another name (--database)")
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
        connection.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(database), MARK))


def _steps(script: Path) -> list[tuple[str, str]]:
    """(what, statement): each begins with a line `-- step: what`."""
    pieces = script.read_text(encoding="utf-8").split("-- step: ")[1:]
    return [(piece.partition("\n")[0].strip(), piece.partition("\n")[2]) for piece in pieces]


def _filled(statement: str, values: dict[str, int], now: datetime) -> bytes:
    for name, value in values.items():
        statement = statement.replace(f":{name}:", str(value))
    return statement.replace(":now:", f"timestamptz '{now.isoformat()}'").encode()


def _days(now: datetime, days: int) -> list[date]:
    return [(now - timedelta(days=n)).date() for n in range(-1, days + 2)]


def _counts(connection: psycopg.Connection[Any]) -> dict[str, int]:
    tables = ("agents", "effects", "tool_calls", "events", "assets", "asset_events", "engagement_metrics", "engagement_daily")
    counted = {}
    for table in tables:
        row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier("core", table))).fetchone()
        counted[table] = int(row[0]) if row else 0
    return counted
