"""Platform numbers: late, repeated and corrected ones end right; parts come and go without holding anybody up."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import orjson
import psycopg
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chimera import failpoints
from chimera.commands import engagement
from chimera.eventlog.append import Appender
from chimera.eventlog.cluster import apply
from chimera.eventlog.topics import load_topics
from chimera.events.metrics import TOPIC, EngagementObserved, encode
from chimera.events.raw import RawRecord
from chimera.projections import growth, keeping, metrics, parts
from chimera.projections.checkpoints import connect, open_checkpoints
from chimera.projections.schema import migrate
from chimera.projections.write import Connection, Moved

AGENT = "agent/1"
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def connection(make_database: Callable[[], str]) -> Iterator[Connection]:
    dsn = make_database()
    migrate(dsn)
    with connect(dsn) as made:
        made.execute("INSERT INTO core.agents VALUES (%s, 'acme', 'ava', 'active', false, 1, 1, 1, 0, 0, now(), 0, 1)", (AGENT,))
        open_checkpoints(made, "core", metrics.MODEL_SET, TOPIC, [0])
        yield made


def seen(at: datetime, *, offset: int, appended: datetime = NOON, post: str = "p1", **values: float) -> RawRecord:
    told = EngagementObserved(AGENT, "x", post, ms(at), values, "x/social.metrics")
    return RawRecord(TOPIC, 0, offset, ms(appended), AGENT.encode(), encode(told), [])


def write(connection: Connection, raws: list[RawRecord]) -> None:
    metrics.write_raws(connection, "core", raws)


def ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def daily(connection: Connection) -> list[tuple[Any, ...]]:
    return connection.execute(
        "SELECT metric, day::text, value, gained FROM analytics_v1.engagement_daily ORDER BY metric, day"
    ).fetchall()


def test_a_late_a_repeated_and_a_corrected_observation_end_right_in_any_order(connection: Connection) -> None:
    hour = timedelta(hours=1)
    told = [
        (NOON, 10.0),
        (NOON + 3 * hour, 30.0),
        (NOON + hour, 20.0),
        (NOON + 3 * hour, 30.0),
        (NOON + 24 * hour, 50.0),
        (NOON + 3 * hour, 28.0),
    ]
    for offset, (at, views) in enumerate(told):  # one batch each: what is there is held against what comes
        write(connection, [seen(at, offset=offset, views=views)])
    one_by_one = daily(connection)
    assert one_by_one == [("views", "2026-11-20", 28.0, 28.0), ("views", "2026-11-21", 50.0, 22.0)]
    assert connection.execute("SELECT numbers FROM core.engagement_latest").fetchall() == [([50.0],)]
    assert connection.execute("SELECT count(*) FROM core.engagement_metrics").fetchone() == (6,)
    connection.execute("TRUNCATE core.engagement_metrics, core.engagement_daily, core.engagement_latest")
    connection.execute("UPDATE core.checkpoints SET next_offset = 0")
    write(connection, [seen(at, offset=n, views=views) for n, (at, views) in enumerate(told)])
    assert daily(connection) == one_by_one


def test_a_partial_observation_leaves_the_other_numbers_as_they_were(connection: Connection) -> None:
    write(connection, [seen(NOON, offset=0, views=5, likes=1), seen(NOON + timedelta(hours=1), offset=1, views=9)])
    assert [(row[0], row[2]) for row in daily(connection)] == [("likes", 1.0), ("views", 9.0)]


def test_what_nobody_can_read_is_counted_and_stops_nothing(connection: Connection) -> None:
    bad = [
        b"\xff",
        b"[]",
        b'{"platform": "x"}',
        orjson.dumps({"platform": "x", "platform_id": "1", "observed_at": 1, "values": {"v": 1}}),
    ]
    raws = [RawRecord(TOPIC, 0, n, ms(NOON), AGENT.encode(), value, []) for n, value in enumerate(bad)]
    write(connection, [*raws, seen(NOON, offset=len(bad), views=1)])
    assert connection.execute("SELECT next_offset, unreadable FROM core.checkpoints WHERE topic = %s", (TOPIC,)).fetchone() == (
        5,
        4,
    )
    assert len(daily(connection)) == 1


def test_texts_and_numbers_are_kept_as_they_were_told_whatever_signs_they_are_of(connection: Connection) -> None:
    posts = ["a\\b", "tab\there", "line\nend", "\\N", '{"x",y}', "ü💡" * 40, "nul\0l", "18" * 100]
    numbers = [0.1, 3, 2**53, 1e-7, 123456.789, 2**62, 0, 1e18]
    raws = [seen(NOON, offset=n, post=post, views=number) for n, (post, number) in enumerate(zip(posts, numbers, strict=True))]
    write(connection, raws)
    told = [(post.replace("\0", "\ufffd"), float(number)) for post, number in zip(posts, numbers, strict=True)]
    for rows in (
        'SELECT platform_id, value FROM core.engagement_metrics ORDER BY "offset"',
        'SELECT platform_id, numbers[1] FROM core.engagement_latest ORDER BY "offset"',
    ):
        assert connection.execute(rows.encode()).fetchall() == told


def test_two_projectors_of_one_partition_write_no_row_twice_and_move_no_checkpoint_back(connection: Connection) -> None:
    batch = [seen(NOON, offset=n, views=n) for n in range(10)]
    write(connection, batch)
    with connect(connection.info.dsn) as rival, pytest.raises(Moved):
        write(rival, batch)
    assert connection.execute("SELECT count(*) FROM core.engagement_metrics").fetchone() == (10,)
    assert connection.execute("SELECT next_offset FROM core.checkpoints WHERE topic = %s", (TOPIC,)).fetchone() == (10,)


@pytest.mark.parametrize("point", ["metrics.moved", "metrics.copied", "metrics.kept"])
def test_what_is_cut_off_in_an_open_transaction_is_rolled_back_and_written_once(
    point: str, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = [seen(NOON, offset=n, views=n) for n in range(10)]
    monkeypatch.setenv(failpoints.VARIABLE, f"{point}=error#1")
    with failpoints.armed(tmp_path, "projector"):
        with pytest.raises(psycopg.OperationalError):
            metrics.write_raws(connection, "core", batch)
        assert [line["point"] for line in failpoints.fired(tmp_path)] == [point]
        assert connection.execute("SELECT next_offset FROM core.checkpoints WHERE topic = %s", (TOPIC,)).fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM core.engagement_metrics").fetchone() == (0,)
        metrics.write_raws(connection, "core", batch)
    assert connection.execute("SELECT count(*) FROM core.engagement_metrics").fetchone() == (10,)
    assert connection.execute("SELECT numbers FROM core.engagement_latest").fetchall() == [([9.0],)]


def test_a_long_select_of_an_analyst_blocks_neither_rows_nor_new_parts(connection: Connection) -> None:
    write(connection, [seen(NOON, offset=0, views=1)])
    with psycopg.connect(connection.info.dsn) as analyst:
        assert analyst.execute("SELECT count(*) FROM analytics_v1.engagement_metrics").fetchone() == (
            1,
        )  # and stays in its transaction
        connection.execute("SET lock_timeout TO '5s'")
        write(connection, [seen(NOON, offset=1, appended=NOON + timedelta(days=1), views=2)])
        assert [p.name for p in parts.parts(connection)] == ["engagement_metrics_20261120", "engagement_metrics_20261121"]
        assert analyst.execute("SELECT count(*) FROM analytics_v1.engagement_metrics").fetchone() == (2,)


def test_parts_are_made_ahead_and_making_them_again_makes_none(connection: Connection) -> None:
    made = parts.make_ahead(connection, now=datetime(2026, 11, 22, 23, tzinfo=UTC))  # a Sunday
    assert made == [f"engagement_metrics_202611{day}" for day in (22, 23, 24, 25)] + [
        f"asset_events_2026{day}" for day in ("1116", "1123", "1130", "1207")
    ]
    assert parts.make_ahead(connection, now=datetime(2026, 11, 22, 23, tzinfo=UTC)) == []
    assert connection.execute("SELECT count(*) FROM pg_partitioned_table WHERE partdefid <> 0").fetchone() == (0,)


def test_housekeeping_makes_the_parts_that_come_next(connection: Connection) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=keeping.keep, args=(connection.info.dsn, stop))
    thread.start()
    try:
        await_(lambda: len(parts.parts(connection)) == 8)
    finally:
        stop.set()
        thread.join(30)


def test_a_retired_part_is_a_whole_file_and_the_rows_left_stay(connection: Connection, tmp_path: Path) -> None:
    for n in range(3):
        write(connection, [seen(NOON, offset=n, appended=NOON + timedelta(days=n), views=n, likes=1)])
    old = parts.parts(connection)[0]
    with psycopg.connect(connection.info.dsn) as analyst:
        analyst.execute("SELECT count(*) FROM analytics_v1.agents")  # a transaction that has not touched the table
        file, count = parts.retire(connection, old, tmp_path)
    assert (count, file.name) == (2, "engagement_metrics_20261120.parquet")
    table = pq.read_table(file).to_pylist()
    assert {row["metric"]: row["value"] for row in table} == {"views": 0.0, "likes": 1.0}
    assert table[0]["created_at"] == NOON
    assert [p.begin for p in parts.parts(connection)] == [date(2026, 11, 21), date(2026, 11, 22)]
    assert connection.execute("SELECT count(*) FROM core.engagement_metrics").fetchone() == (4,)
    assert len(daily(connection)) == 2, "rollups outlive the parts"


def test_retiring_goes_on_where_it_was_interrupted(connection: Connection, tmp_path: Path) -> None:
    write(connection, [seen(NOON, offset=0, views=1)])
    connection.execute("ALTER TABLE core.engagement_metrics DETACH PARTITION priv.engagement_metrics_20261120 CONCURRENTLY")
    loose = parts.parts(connection)[0]
    assert loose.state == "loose"
    assert parts.retire(connection, loose, tmp_path)[1] == 1
    assert parts.parts(connection) == []


def await_(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(3_000):
        if condition():
            return
        pause.wait(0.02)
    raise AssertionError("not in time")


CSV = """agent,platform,platform_id,observed_at,views,likes
ava,x,p1,2026-11-20T10:00:00Z,10,1
,x,p1,2026-11-20T11:00:00+00:00,20,
nobody,x,p1,2026-11-20T11:00:00Z,20,2
ava,x,p1,yesterday,20,2
ava,x,p1,2026-11-20T11:00:00,20,2
ava,x,p1,2026-11-20T12:00:00Z,-3,2
ava,x,p1,1763640000,1.5,many
ava,x,,2026-11-20T12:00:00Z,1,2
ava,x,p1,2026-11-20T12:00:00Z,,
ava,x,p1,2026-11-20T13:00:00Z,1,2,3,4
"""


def resolve(name: str, platform: str, post: str) -> str | None:
    return {"ava": AGENT}.get(name) if name else {("x", "p1"): AGENT}.get((platform, post))


def test_a_file_is_loaded_its_bad_rows_are_named_and_the_log_becomes_rows(
    connection: Connection, kafka_bootstrap: str, tmp_path: Path
) -> None:
    prefix = f"engagement-{uuid.uuid4().hex[:8]}-"
    topics = load_topics().only(TOPIC).with_prefix(prefix)
    apply(kafka_bootstrap, topics)
    file, rejects = tmp_path / "numbers.csv", tmp_path / "bad.jsonl"
    file.write_text(CSV)
    state, note = engagement.begin(file, tmp_path / "loads")
    with Appender(kafka_bootstrap, topics, "test") as appender:
        engagement.load(file, resolve, state, note, rejects, appender, topic=prefix + TOPIC)
    assert (state.done, state.appended, state.rejected, state.finished) == (10, 2, 8, True)
    bad = [orjson.loads(line) for line in rejects.read_text().splitlines()]
    assert [row["row"] for row in bad] == [3, 4, 5, 6, 7, 8, 9, 10]
    reasons = [row["reason"] for row in bad]
    for reason, word in zip(
        reasons,
        (
            "'nobody' is not enrolled",
            "ISO 8601",
            "lacks its zone",
            "views is -3",
            "likes is 'many'",
            "platform_id",
            "tells no number",
            "more fields",
        ),
        strict=True,
    ):
        assert word in reason
    assert engagement.begin(file, tmp_path / "loads")[0].finished, "it is known that this file was loaded"
    stop = threading.Event()
    arguments = {"topic": prefix + TOPIC}
    thread = threading.Thread(target=metrics.follow, args=(kafka_bootstrap, connection.info.dsn, stop), kwargs=arguments)
    thread.start()
    try:
        await_(lambda: [(row[0], row[2]) for row in daily(connection)] == [("likes", 1.0), ("views", 20.0)])
    finally:
        stop.set()
        thread.join(60)


class Dying:
    """An appender that dies at its second chunk."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def append_many(self, entries: list[Any]) -> None:
        if self.seen and len(self.seen) < 10_000:
            raise RuntimeError("killed")
        self.seen += [orjson.loads(entry.value)["platform_id"] for entry in entries]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_load_that_was_killed_goes_on_after_its_last_chunk(tmp_path: Path, kind: str) -> None:
    count = engagement.CHUNK * 2 + 7
    rows = [
        {"agent": "ava", "platform": "x", "platform_id": str(n), "observed_at": NOON.timestamp(), "metric": "views", "value": n}
        for n in range(count)
    ]
    file = tmp_path / f"numbers.{kind}"
    if kind == "jsonl":
        file.write_bytes(b"\n".join(orjson.dumps(row) for row in rows))
    else:
        import pyarrow as pa

        pq.write_table(pa.Table.from_pylist(rows), file)
    state, note = engagement.begin(file, tmp_path)
    dying: Any = Dying()
    with pytest.raises(RuntimeError, match="killed"):
        engagement.load(file, resolve, state, note, tmp_path / "bad", dying)
    state, note = engagement.begin(file, tmp_path)
    assert state.done == engagement.CHUNK
    dying.seen += ["x"] * 10_000
    engagement.load(file, resolve, state, note, tmp_path / "bad", dying)
    assert [post for post in dying.seen if post != "x"] == [str(n) for n in range(count)]
    assert engagement.begin(file, tmp_path)[0].finished


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(engagement.BadFile, match=r"none\.csv: No such file"):
        engagement.begin(tmp_path / "none.csv", tmp_path)
    for name, words in (("numbers.xls", "must be .csv"), ("numbers.parquet", "numbers.parquet: ")):
        (tmp_path / name).write_text("no")
        with pytest.raises(engagement.BadFile, match=words):
            list(engagement.rows(tmp_path / name))


GROWTH = "SELECT agent_id, platform, day, metric, posts, gained FROM analytics_v1.engagement_growth ORDER BY 1, 2, 3, 4"
RECOMPUTED = (
    "SELECT agent_id, platform, day, metric, count(*), sum(gained) FROM analytics_v1.engagement_daily GROUP BY 1, 2, 3, 4"
    " ORDER BY 1, 2, 3, 4"
)
LAST = (
    "SELECT platform_id, day, metric, value FROM analytics_v1.engagement_daily ORDER BY 1, 2, 3",
    "SELECT DISTINCT ON (platform_id, (observed_at AT TIME ZONE 'UTC')::date, metric) platform_id,"
    " (observed_at AT TIME ZONE 'UTC')::date,"
    ' metric, value FROM core.engagement_metrics ORDER BY 1, 2, 3, observed_at DESC, "offset" DESC',
)
NEWEST = (
    "SELECT DISTINCT ON (platform_id, metric) platform_id, metric, value FROM core.engagement_metrics"
    ' ORDER BY platform_id, metric, observed_at DESC, "offset" DESC'
)


def published(connection: Connection, posts: list[str]) -> None:
    """The log's own rows of these posts, where there are none yet."""
    row = "now(), 0, 1"
    for statement in (
        f"core.campaigns VALUES ('{AGENT}', 1, 'c', 'Autumn', 'op', 'running', '', 1, '{{}}', 'b', 1, NULL, '', now(), {row})",
        "core.tasks (agent_id, campaign, ordinal, kind, title, status, plan_round, reads, max_cost_usd, criteria, inputs, costly,"
        ' created_at, updated_at, partition, "offset")'
        f" VALUES ('{AGENT}', 1, 1, 'post', 't', 'done', 1, '{{}}', 1, '[]', '[]', true, now(), {row})",
        *(
            "core.effects (agent_id, campaign, ordinal, attempt, effect_hash, effect_class, tool_class, profile, mode, tool,"
            " platform, account, arguments, max_cost_usd, disclosure, edit, status, platform_id, proposed_at, updated_at,"
            f" partition, \"offset\") VALUES ('{AGENT}', 1, 1, {n}, 'h', 'publish', 'keyed', 'x', 'sandbox', 'post', 'x', '',"
            f" '{{}}', 1, 'none', 0, 'executed', '{post}', now(), {row})"
            for n, post in enumerate(posts, 1)
        ),
    ):
        connection.execute(b"INSERT INTO " + statement.encode() + b" ON CONFLICT DO NOTHING")


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
@given(
    st.lists(
        st.lists(
            st.tuples(
                st.integers(0, 5),  # days
                st.integers(0, 2),  # hours: some fall on the same moment
                st.sampled_from(["p1", "p2", "p3"]),
                st.dictionaries(st.sampled_from(["views", "likes", "replies"]), st.integers(0, 90), min_size=1),
                st.booleans(),  # told once more
            ),
            min_size=1,
            max_size=8,
        ),
        min_size=1,
        max_size=6,
    ),
    st.data(),
)
def test_whatever_comes_late_twice_or_corrected_the_rollups_are_what_all_observations_say_together(
    connection: Connection, batches: list[list[tuple[int, int, str, dict[str, int], bool]]], data: st.DataObject
) -> None:
    connection.execute(
        "TRUNCATE core.engagement_metrics, core.engagement_daily, core.engagement_latest, core.engagement_growth,"
        " core.engagement_unsettled"
    )
    connection.execute("UPDATE core.checkpoints SET next_offset = 0")
    offset = 0
    for batch in batches:
        raws = []
        for day, hour, post, values, again in batch:
            for _ in range(1 + again):
                raws.append(seen(NOON + timedelta(days=day, hours=hour), offset=offset, post=post, **cast("Any", values)))
                offset += 1
        write(connection, raws)
        if data.draw(st.booleans(), label="settled now"):
            growth.settle(connection, "core")
    recomputed = connection.execute(RECOMPUTED).fetchall()
    assert connection.execute(GROWTH).fetchall() == recomputed, "before the last ones are settled"
    growth.settle(connection, "core")
    assert connection.execute("SELECT count(*) FROM core.engagement_unsettled").fetchone() == (0,)
    assert connection.execute(GROWTH).fetchall() == recomputed
    kept, told = (connection.execute(question).fetchall() for question in LAST)
    assert kept == told
    newest = {(post, metric): value for post, metric, value in connection.execute(NEWEST).fetchall()}
    published(connection, ["p1", "p2", "p3"])
    for post, *numbers in connection.execute("SELECT platform_id, views, likes, replies FROM analytics_v1.post_facts").fetchall():
        assert numbers == [newest.get((post, metric)) for metric in ("views", "likes", "replies")]


def test_what_is_observed_while_growth_is_settled_is_not_taken_for_settled(connection: Connection) -> None:
    write(connection, [seen(NOON, offset=0, views=5)])
    with connect(connection.info.dsn) as rival:
        rival.execute("SET lock_timeout TO '60s'")
        with connection.transaction():
            locked, kept, forgotten = growth._statements("core")
            connection.execute(locked)
            later = threading.Thread(target=lambda: write(rival, [seen(NOON, offset=1, views=7)]))
            later.start()  # writes its rows, and waits for whoever holds what is unsettled
            connection.execute(kept)
            connection.execute(forgotten)
        later.join(60)
    assert connection.execute("SELECT count(*) FROM core.engagement_unsettled").fetchone() == (1,)
    assert [row[-1] for row in connection.execute(GROWTH).fetchall()] == [7.0]
    assert growth.settle(connection, "core") == 1
    assert [row[-1] for row in connection.execute(GROWTH).fetchall()] == [7.0]
