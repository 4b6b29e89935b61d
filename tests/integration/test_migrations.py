"""Tables of an earlier revision, filled with a day of the fleet, are after the upgrade what the projector writes today."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta

import orjson
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from chimera.events.metrics import TOPIC, EngagementObserved, encode
from chimera.events.raw import RawRecord
from chimera.projections import calls, metrics, parts
from chimera.projections.batch import Stretch
from chimera.projections.checkpoints import LOG, MODEL_SET, connect, open_checkpoints
from chimera.projections.engine import new_fold, project
from chimera.projections.schema import MIGRATIONS, migrate
from chimera.projections.write import Connection, write
from tests.integration.projection_data import PARTITIONS, History, day
from tests.integration.test_asset_steps import told

OLDEST = "0016_asset_uses"
"""Before it revisions made tables, and filled them roughly or not at all: those who came from there have rebuilt since."""
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)

AS_IT_WAS = {("engagement_daily", "0025_engagement_days"): "engagement_days"}
"""(table, revision that changed what it holds) -> where its rows of before are read from now."""
UNTOLD = {("assets", "codec"): "0024_codecs"}
"""(table, column) -> revision that made it and leaves it empty, until a rebuild fills it from the log."""
NO_ROWS = ("alembic_version",)
CLOCKS = ("moved_at",)
"""Columns with the time of writing."""


def revisions() -> list[str]:
    """All from the oldest on, the newest but one last."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    line = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()][::-1]
    return line[line.index(OLDEST) : -1]


def history() -> History:
    h = History(LOG)
    told(h)
    day(h, "bea", 9)
    return h


def observed(first: int, last: int) -> list[RawRecord]:
    """Of three posts, six times a day; some days are told late, and some numbers apart from the others."""
    raws = []
    for n in range(first, last):
        at = NOON + timedelta(hours=4 * (n - 20 if n % 7 == 3 else n))
        values = {"saves": n / 2} if n % 5 == 4 else {"views": 10 * n, "likes": n}
        seen = EngagementObserved(f"agent/{n % 2}", "x", f"post {n % 3}", ms(at), values, "x/social.metrics")
        raws.append(RawRecord(TOPIC, 0, n, ms(NOON + timedelta(hours=4 * n)), seen.agent.encode(), encode(seen), []))
    return raws


def calls_made(first: int, last: int) -> list[RawRecord]:
    call = {"tenant": "acme", "profile": "x", "capability": "social.publish", "result_class": "ok", "cost_usd": "0.5"}
    return [
        RawRecord(calls.CALLS, 0, n, ms(NOON), b"agent/1", orjson.dumps(call | {"tool": f"t{n % 3}"}), [])
        for n in range(first, last)
    ]


def ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


class Projected:
    """A database that a projector of today writes to, portion by portion."""

    def __init__(self, dsn: str, h: History) -> None:
        self.connection = connect(dsn)
        self._folds = {p: new_fold(p, PARTITIONS, h.root.public) for p in range(PARTITIONS)}

    def open(self) -> None:
        for model_set, topic, partitions in (
            (MODEL_SET, LOG, PARTITIONS),
            (metrics.MODEL_SET, TOPIC, 1),
            (calls.MODEL_SET, calls.CALLS, 1),
        ):
            open_checkpoints(self.connection, "core", model_set, topic, range(partitions))

    def fold(self, raws: Sequence[RawRecord]) -> list[Stretch]:
        by_partition = {p: [raw for raw in raws if raw.partition == p] for p in range(PARTITIONS)}
        made = [project(self._folds[p], own, own[0].offset) for p, own in by_partition.items() if own]
        return [stretch for stretch in made if stretch is not None]

    def write(self, log: Sequence[RawRecord], seen: Sequence[RawRecord], called: Sequence[RawRecord]) -> None:
        write(self.connection, "core", MODEL_SET, self.fold(log))
        metrics.write_raws(self.connection, "core", seen)
        calls.write_calls(self.connection, "core", called)

    def rows(self) -> dict[str, list[str]]:
        """Everything kept, settled, as texts."""
        metrics.settle(self.connection, "core")
        found = {}
        for table in tables(self.connection):
            query = f"SELECT (to_jsonb(t) - %s::text[])::text FROM core.{table} t ORDER BY 1"
            found[table] = [row[0] for row in self.connection.execute(query.encode(), (list(CLOCKS),))]
        return found


def tables(connection: Connection) -> list[str]:
    rows = connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'core'::regnamespace AND relkind IN ('r', 'p') ORDER BY 1"
    ).fetchall()
    return [name for (name,) in rows if name not in NO_ROWS]


def columns(connection: Connection, table: str) -> list[str]:
    """Those that are written."""
    rows = connection.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''",
        (f"core.{table}",),
    ).fetchall()
    return [name for (name,) in rows]


def fill(old: Connection, today: Connection, revision: str, days: set[date]) -> None:
    """Every row of today, as far as that revision had a place for it."""
    for table in parts.PARTED:
        parts.ensure(old, "core", table, days)
    with old.transaction():
        old.execute("SET LOCAL session_replication_role TO replica")  # neither references nor notes of what is to be made anew
        for table in tables(old):
            old.execute(f"DELETE FROM core.{table}".encode())
            later = [name for (changed, since), name in AS_IT_WAS.items() if changed == table and revision < since]
            known = columns(today, table)
            listed = ", ".join(f'"{name}"' for name in columns(old, table) if name in known)
            with (
                today.cursor().copy(f"COPY (SELECT {listed} FROM core.{[*later, table][0]}) TO STDOUT".encode()) as rows,
                old.cursor().copy(f"COPY core.{table} ({listed}) FROM STDIN".encode()) as place,
            ):
                for data in rows:
                    place.write(data)


def without_what_only_a_rebuild_tells(rows: dict[str, list[str]], revision: str) -> dict[str, list[str]]:
    untold = {table: column for (table, column), since in UNTOLD.items() if revision < since}
    return {
        table: sorted(orjson.dumps({k: v for k, v in orjson.loads(row).items() if k != untold[table]}).decode() for row in found)
        if table in untold
        else found
        for table, found in rows.items()
    }


@pytest.mark.parametrize("revision", revisions())
def test_tables_of_an_earlier_revision_become_what_the_projector_writes_today(
    make_database: Callable[[], str], revision: str
) -> None:
    # given tables of today with the first half of what happened, and the same rows in tables as they were
    h = history()
    log, seen, called = h.raws(), observed(0, 60), calls_made(0, 20)
    half = len(log) // 2
    fresh, upgraded = make_database(), make_database()
    migrate(fresh)
    migrate(upgraded, revision=revision)
    today, before = Projected(fresh, h), Projected(upgraded, h)
    with today.connection, before.connection:
        today.open()
        today.write(log[:half], seen[:30], called[:10])
        metrics.settle(today.connection, "core")
        days = {datetime.fromtimestamp(raw.append_ts / 1000, UTC).date() for raw in (*log, *seen, *called)}
        fill(before.connection, today.connection, revision, days)
        assert len(before.connection.execute("SELECT FROM core.engagement_daily").fetchall()) > 10

        # when they are upgraded
        migrate(upgraded)

        # then they hold what a projector of today has written
        shown = without_what_only_a_rebuild_tells
        assert shown(before.rows(), revision) == shown(today.rows(), revision)
        # and what comes later makes no difference either
        before.fold(log[:half])
        for one in (today, before):
            one.write(log[half:], seen[30:], called[10:])
        assert shown(before.rows(), revision) == shown(today.rows(), revision)
        assert min(len(today.rows()[name]) for name in ("post_facts", "asset_facts", "engagement_growth", "spend_daily")) > 1
