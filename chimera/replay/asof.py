"""A read-only past: the read models and the analysts' views as they were at a moment, in a schema of their own.

The rules not to break: a past is folded from the log up to its cut and never copied from what is live; nobody writes into it; its
views carry the guard of the live ones, so an analyst sees there what they may see here.
"""

from __future__ import annotations

import contextlib
import re
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson
from psycopg import sql

from chimera.errors import ChimeraError
from chimera.eventlog.moments import Cut, offsets_after, said
from chimera.eventlog.offsets import ReadFailed
from chimera.events.metrics import TOPIC as METRICS
from chimera.events.security import TOPIC as SECURITY
from chimera.projections import calls, metrics, security, views
from chimera.projections.checkpoints import connect
from chimera.projections.refold import Hands, Place, Progress, leave_out_discarded, rewrite, shares_of
from chimera.projections.schema import bare, drop, migrate
from chimera.projections.write import Connection

PREFIX = "asof_"
TABLES = "_core"
"""A past called x has its views in `asof_x` and its tables in `asof_x_core`, which only the owner may enter."""
NOW = "now"
"""What leads an analyst back."""
_NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,39}")
STATISTICS = 25
"""Of each column's values so many are counted: a quarter of the default, at a quarter of the cost. A table is looked through for it
while somebody waits for the past."""


class BadPast(ChimeraError):
    """The past cannot be made, used or dropped so; the message says what to do instead."""


class Past(NamedTuple):
    """One past. `ts`: its moment (ms); `records`: how many records of the log it is made of; `whole`: false while it is built."""

    name: str
    moment: str
    ts: int
    records: int
    made_at: str
    made_by: str
    whole: bool
    bytes: int = 0
    used_by: tuple[str, ...] = ()

    @property
    def schema(self) -> str:
        """Where its views are."""
        return PREFIX + self.name


def name_for(cut: Cut) -> str:
    """What a past is called unless one says otherwise: its moment, `20261122_100000`, and its milliseconds where it has some."""
    at = datetime.fromtimestamp(cut.ts / 1000, UTC)
    return f"{at:%Y%m%d_%H%M%S}" + (f"_{cut.ts % 1000:03}" if cut.ts % 1000 else "")


def check_name(name: str) -> None:
    """Raises `BadPast` for what is no name of a past."""
    if not _NAME.fullmatch(name) or name.endswith(TABLES) or name == NOW:
        raise BadPast(
            f"'{name}' is no name for a past: small letters, digits and _ (at most 40), not {NOW}, not ending with {TABLES}"
        )


def make(
    bootstrap: str,
    dsn: str,
    root_public: str,
    topic: str,
    cut: Cut,
    *,
    name: str,
    asked: str,
    by: str,
    calls_topic: str = calls.CALLS,
    metrics_topic: str = METRICS,
    security_topic: str = SECURITY,
    processes: int = 1,
    progress: Progress = lambda done, total: None,
) -> Past:
    """Fold the log up to the cut into a schema of its own, and make the views on it. What was begun and not finished is dropped.

    Raises `BadPast` where one of that name is there, and what reading and migrating raise.
    """
    check_name(name)
    schema, core = PREFIX + name, PREFIX + name + TABLES
    with connect(dsn) as connection:
        if any(past.name == name for past in pasts(connection)):
            raise BadPast(
                f"there is a past '{name}' already: use it, drop it (`chimera replay as-of --drop {name}`), or give --name"
            )
        past = Past(name, asked, cut.ts, cut.records, datetime.now(UTC).isoformat(timespec="seconds"), by, False)
        try:
            with Hands(shares_of(cut.upto, processes)) as hands:
                migrate(dsn, core, analytics=False)
                _note(connection, core, past)
                leave_out_discarded(connection, "core", core)
                indexes = bare(connection, core)
                made = views.build_beside(connection, schema, core, datetime.fromtimestamp(cut.ts / 1000, UTC))
                hands.refold(Place(bootstrap, dsn, root_public, core, topic), progress)
            others = (
                (calls.MODEL_SET, calls_topic, calls.write_calls),
                (metrics.MODEL_SET, metrics_topic, metrics.write_raws),
                (security.MODEL_SET, security_topic, security.write_security),
            )
            for model_set, other, write in others:
                rewrite(connection, bootstrap, core, model_set, other, _upto(bootstrap, other, cut.ts), write)
            _make_ready(dsn, core, indexes)
            with connection.transaction():
                views.open_beside(connection, schema, made)
                _close(connection, core)
                past = past._replace(whole=True)
                _note(connection, core, past)
        except BaseException:
            _drop(dsn, name)
            raise
    return past


def _upto(bootstrap: str, topic: str, ts: int) -> Mapping[int, int]:
    """Where a topic beside the log stood; empty where there is none. Raises `KafkaUnavailable`: who is away is not empty."""
    try:
        return offsets_after(bootstrap, topic, ts)
    except ReadFailed:
        return {}


def pasts(connection: Connection) -> list[Past]:
    """All pasts in this database, oldest moment first; those that a killed build left behind are not whole."""
    rows = connection.execute(
        "SELECT n.nspname, obj_description(n.oid, 'pg_namespace'),"
        " (SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0) FROM pg_class c"
        "  WHERE c.relnamespace = n.oid AND c.relkind = 'r'),"
        " (SELECT array_agg(r.rolname ORDER BY 1) FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole"
        "  WHERE 'search_path=' || left(n.nspname, -%s) = ANY(s.setconfig))"
        " FROM pg_namespace n WHERE starts_with(n.nspname, %s) AND right(n.nspname, %s) = %s",
        (len(TABLES), PREFIX, len(TABLES), TABLES),
    ).fetchall()
    found = []
    for schema, comment, size, used in rows:
        name = str(schema)[len(PREFIX) : -len(TABLES)]
        told: dict[str, Any] = orjson.loads(comment) if comment else {}
        known: dict[str, Any] = {"moment": "?", "ts": 0, "records": 0, "made_at": "", "made_by": "", "whole": False} | told
        found.append(Past(name=name, **known, bytes=int(size), used_by=tuple(used or ())))
    return sorted(found, key=lambda past: (past.ts, past.name))


def find(connection: Connection, name: str) -> Past:
    """The past of that name. Raises `BadPast`, which says which there are."""
    every = pasts(connection)
    past = next((each for each in every if name in (each.name, each.schema)), None)
    if past is None:
        there = ", ".join(each.name for each in every) or "none yet (`chimera replay as-of 2026-11-22T10:00Z` makes one)"
        raise BadPast(f"there is no past '{name}': there are {there}")
    return past


def remove(dsn: str, past: Past) -> None:
    """Drop its schemas; analysts who were pointed at it see the present again."""
    with connect(dsn) as connection:
        for role in past.used_by:
            _point(connection, role, views.ANALYTICS)
    _drop(dsn, past.name)


def use(connection: Connection, analyst: str, past: Past | None) -> None:
    """Point an analyst's new sessions at a past, or (None) at the present again. Raises `BadPast`."""
    known = [row[0] for row in connection.execute("SELECT DISTINCT role FROM access.analysts ORDER BY 1").fetchall()]
    if analyst not in known:
        raise BadPast(f"there is no analyst '{analyst}': there are {', '.join(known) or 'none yet'} (`chimera analyst list`)")
    if past is not None and not past.whole:
        raise BadPast(f"past '{past.name}' is not whole: its build was cut short; drop it and make it again")
    with connection.transaction():
        if past is not None:  # an analyst who came after it was made has no grant on it yet
            schema = sql.Identifier(past.schema)
            connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {0} TO {1}").format(schema, sql.Identifier(analyst)))
            connection.execute(sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA {0} TO {1}").format(schema, sql.Identifier(analyst)))
        _point(connection, analyst, views.ANALYTICS if past is None else past.schema)


def _point(connection: Connection, role: str, schema: str) -> None:
    connection.execute(sql.SQL("ALTER ROLE {} SET search_path = {}").format(sql.Identifier(role), sql.Identifier(schema)))


def _note(connection: Connection, core: str, past: Past) -> None:
    told = {key: value for key, value in past._asdict().items() if key not in ("name", "bytes", "used_by")}
    text = orjson.dumps(told).decode()
    connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(sql.Identifier(core), sql.Literal(text)))


def _close(connection: Connection, core: str) -> None:
    """From here on every write is refused, the owner's too."""
    schema = sql.Identifier(core)
    connection.execute(
        sql.SQL(
            "CREATE FUNCTION {}.past_is_read_only() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN RAISE EXCEPTION ''% is part of a past, which is read-only'', TG_TABLE_NAME; END'"
        ).format(schema)
    )
    for name in _tables(connection, core):
        for event in ("INSERT OR UPDATE OR DELETE", "TRUNCATE"):
            connection.execute(
                sql.SQL("CREATE TRIGGER {} BEFORE {} ON {} FOR EACH STATEMENT EXECUTE FUNCTION {}.past_is_read_only()").format(
                    sql.Identifier(f"past_{event[:8].lower().strip()}"), sql.SQL(event), sql.Identifier(core, name), schema
                )
            )


def _tables(connection: Connection, core: str) -> list[str]:
    """The largest first."""
    return [
        row[0]
        for row in connection.execute(
            "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = %s AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY pg_relation_size(c.oid) DESC",
            (core,),
        ).fetchall()
    ]


def _make_ready(dsn: str, core: str, indexes: Sequence[str]) -> None:
    """Indexes, and statistics: what was just loaded has none yet, and the first question should not wait for them.

    Over two connections, each taking what comes next: statistics behind the indexes, of the largest table first.
    """
    with connect(dsn) as connection:
        named = sql.SQL("ANALYZE {}")
        analyses = [named.format(sql.Identifier(core, name)).as_string(connection) for name in _tables(connection, core)]
    waiting = deque([*indexes, *analyses])

    def work() -> None:
        with connect(dsn) as connection:
            connection.execute(f"SET default_statistics_target TO {STATISTICS}".encode())
            with contextlib.suppress(IndexError):  # none is left
                while True:
                    connection.execute(waiting.popleft().encode())

    with ThreadPoolExecutor(2, thread_name_prefix="past-tables") as both:
        for each in [both.submit(work) for _ in range(2)]:
            each.result()


def _drop(dsn: str, name: str) -> None:
    for schema in (PREFIX + name, PREFIX + name + TABLES):
        drop(dsn, schema)


def told(past: Past) -> dict[str, Any]:
    """A past as `--json` shows it."""
    return {**past._asdict(), "schema": past.schema, "time": said(past.ts) if past.ts else None, "used_by": list(past.used_by)}
