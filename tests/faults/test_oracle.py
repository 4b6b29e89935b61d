"""The oracle itself: for each invariant at least one planted wrong that turns its check red, and only while it is there.

Wrongs are planted in a copy of what was read from the log or of the platform's books, or in the read models and taken out again.
"""

from __future__ import annotations

import copy
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from chimera.events.records import EffectClaimed, JudgeVerdict, TaskPlanned, TaskRecord
from chimera.projections import views
from chimera.projections.engine import LOG
from tests.e2e.house import House, Seen
from tests.faults.invariants import INVARIANTS, NOT_HERE, Watermarks, all_hold

NAMES = ["ora0", "ora1"]
Wrong = Callable[[House, Path], AbstractContextManager[House]]


@pytest.fixture(scope="module")
def names(house: House) -> Iterator[list[str]]:
    """Two agents with a finished campaign, in which an approved effect became stale before it was claimed.

    From then on nobody appends: a record that comes while a wrong is planted in its place would be taken out with it.
    """
    names = house.enrol("ora", 2, approve_above=1.0)
    assert names == NAMES
    house.start(house.brief("Oracle", 2), names)
    house.until(lambda: len(house.cards(names)) == 4, "every card waits")
    house.done("agent", "pause", "ora0")
    house.approve_all(["ora0"])
    agent = house.agent("ora0")
    campaign = next(iter(agent.campaigns.values()))
    brief = house.brief("Oracle", 2, goal="Show people that winter on a small budget can be rich.")
    house.done("campaign", "change", campaign.campaign_id, "-f", brief)
    house.done("agent", "resume", "ora0")
    house.until_completed(names)
    house.enrol("canary", 1, tenant="bolt")  # whose rows are not acme's
    with house.asleep("brain", "gate"):
        yield names


# --- planting -----------------------------------------------------------------------------------------------------------


def in_the_log(change: Callable[[House, list[Seen]], Sequence[Seen]]) -> Wrong:
    """Another account of what was read from the log."""

    @contextmanager
    def plant(house: House, where: Path) -> Iterator[House]:
        other = copy.copy(house)
        other.seen = list(change(house, list(house.seen)))
        assert other.seen != house.seen
        yield other

    return plant


def in_the_books(statement: str) -> Wrong:
    """A statement run behind everybody's back in a copy of the platform's books."""

    @contextmanager
    def plant(house: House, where: Path) -> Iterator[House]:
        shutil.copytree(house.home / "mcp" / "x", where / "mcp" / "x")
        with closing(sqlite3.connect(where / "mcp" / "x" / "timeline.sqlite3")) as db, db:
            assert db.execute(statement).rowcount == 1
        other = copy.copy(house)
        other.home = where
        yield other

    return plant


def in_the_read_models(do: str, undo: str) -> Wrong:
    """A statement run behind the projector's back, while nothing else changes."""

    @contextmanager
    def plant(house: House, where: Path) -> Iterator[House]:
        with psycopg.connect(house.addresses.postgres, autocommit=True) as connection:
            connection.execute("DROP TABLE IF EXISTS pg_temp.kept")
            with connection.transaction():  # a plant that fails leaves nothing
                for statement in do.split(";"):
                    connection.execute(statement.encode())
            try:
                yield house
            finally:
                connection.execute(undo.encode())

    return plant


def dropped(which: Callable[[Seen], bool]) -> Wrong:
    """All records of a kind were never read."""
    return in_the_log(lambda house, seen: [s for s in seen if not which(s)])


def first(house: House, seen: list[Seen], which: Callable[[Seen], bool]) -> int:
    """Where the first such record of the oracle's agents is."""
    keys = {agent.key for agent in house.agents(NAMES)}
    return next(n for n, s in enumerate(seen) if s.record.key in keys and which(s))


def of(type_: str) -> Callable[[Seen], bool]:
    return lambda s: s.record.type == type_ and s.ruling.outcome == "applied"


def without_one(type_: str) -> Wrong:
    def change(house: House, seen: list[Seen]) -> Sequence[Seen]:
        del seen[first(house, seen, of(type_))]
        return seen

    return in_the_log(change)


def twice(type_: str) -> Wrong:
    def change(house: House, seen: list[Seen]) -> Sequence[Seen]:
        return [*seen, seen[first(house, seen, of(type_))]]

    return in_the_log(change)


def _a_stale_version_accepted(house: House, seen: list[Seen]) -> Sequence[Seen]:
    n = first(house, seen, lambda s: s.ruling.outcome == "applied" and s.ruling.version_before > 1)
    ruling = seen[n].ruling
    seen[n] = Seen(seen[n].record, ruling._replace(version_before=ruling.version_before - 1))
    return seen


def judges_alone(confidence: float) -> Wrong:
    """No person approved, and judges passed everything with this confidence."""

    def change(house: House, seen: list[Seen]) -> Sequence[Seen]:
        changed = []
        for record, ruling in seen:
            d = record.data
            if isinstance(d, JudgeVerdict):
                record = replace(record, data=d.model_copy(update={"decision": "pass", "confidence": confidence}))
            if record.type != "HumanApproved":
                changed.append(Seen(record, ruling))
        return changed

    return in_the_log(change)


def _not_planned_again(house: House, seen: list[Seen]) -> Sequence[Seen]:
    stale = next(n for n, s in enumerate(seen) if s.ruling.reason == "stale" and isinstance(s.record.data, EffectClaimed))
    d = seen[stale].record.data
    assert isinstance(d, TaskRecord)
    place = (seen[stale].record.key, d.campaign, d.ordinal)
    later = [
        s
        for s in seen[stale:]
        if not (isinstance(s.record.data, TaskPlanned) and (s.record.key, s.record.data.campaign, s.record.data.ordinal) == place)
    ]
    return [*seen[:stale], *later]


@contextmanager
def _acknowledged_and_lost(house: House, where: Path) -> Iterator[House]:
    other = copy.copy(house)
    partition, offset, _ = house.acked[-1]
    other.acked = [*house.acked, (partition, offset, "another record")]
    yield other


@contextmanager
def _task_left_open(house: House, where: Path) -> Iterator[House]:
    row = house.campaigns(NAMES)[0]
    before = row.tasks[1]
    row.tasks[1] = "open"
    try:
        yield house
    finally:
        row.tasks[1] = before


ORA = "(SELECT agent_id FROM core.agents WHERE name = 'ora0')"
LAST = '(SELECT partition, max("offset") FROM core.events WHERE stream = ' + ORA + " GROUP BY partition)"
CHECKPOINT = (
    f"UPDATE core.checkpoints SET next_offset = next_offset {{}} 1 WHERE model_set = 'core' AND topic = '{LOG}' AND partition = 2"
)
KEPT = 'CREATE TEMP TABLE kept AS SELECT * FROM core.events WHERE (partition, "offset") IN ' + LAST
SKIPPED = in_the_read_models(
    f'{KEPT}; DELETE FROM core.events e USING kept k WHERE (e.partition, e."offset") = (k.partition, k."offset")',
    "INSERT INTO core.events SELECT * FROM kept",
)
APPLIED_TWICE = in_the_read_models(
    # Behind the partition's last record: the place behind the agent's own may be another stream's.
    f'{KEPT}; UPDATE kept k SET "offset" = 1 + (SELECT max("offset") FROM core.events e WHERE e.partition = k.partition);'
    " INSERT INTO core.events SELECT * FROM kept",
    'DELETE FROM core.events e USING kept k WHERE (e.partition, e."offset") = (k.partition, k."offset")',
)
UNGUARDED = next(view for view in views.views() if view.name == "tasks")

WRONGS: dict[str, dict[str, Wrong]] = {
    "I1": {
        "a command was acknowledged and is not where it was said to be": _acknowledged_and_lost,
        "a record was skipped": without_one("JudgeVerdict"),
        "a record was read twice": twice("JudgeVerdict"),
    },
    "I2": {
        "a second post in the same words": in_the_books(
            "INSERT INTO posts SELECT (SELECT max(id) + 1 FROM posts), account, text, created_at, reply_to, conversation, extra, "
            "deleted_at FROM posts WHERE account = 'ora0_x' LIMIT 1"
        ),
        "a post that was forgotten": in_the_books(
            "DELETE FROM posts WHERE id = (SELECT min(id) FROM posts WHERE account = 'ora0_x')"
        ),
        "a tool called twice, the second time under a key of its own": in_the_books(
            "INSERT INTO keys SELECT account, 'never approved', tool, arguments_sha256, response FROM keys "
            "WHERE account = 'ora0_x' LIMIT 1"
        ),
        "a call under another key": in_the_books(
            "UPDATE keys SET key = 'another' WHERE key = (SELECT key FROM keys WHERE account = 'ora0_x' LIMIT 1)"
        ),
        "an execution that the log lost": without_one("EffectEnded"),
        "an execution that the log holds twice": twice("EffectEnded"),
    },
    "I3": {
        "a stale version was accepted": in_the_log(_a_stale_version_accepted),
        "the read model is one version behind": in_the_read_models(
            "UPDATE core.agents SET state_version = state_version - 1 WHERE name = 'ora0'",
            "UPDATE core.agents SET state_version = state_version + 1 WHERE name = 'ora0'",
        ),
    },
    "I4": {
        "a task has another title": in_the_read_models(
            f"UPDATE core.tasks SET title = title || '!' WHERE (agent_id, campaign, ordinal) = ({ORA}, 1, 1)",
            f"UPDATE core.tasks SET title = left(title, -1) WHERE (agent_id, campaign, ordinal) = ({ORA}, 1, 1)",
        ),
        "a record's row is missing": SKIPPED,
    },
    "I5": {
        "a checkpoint is ahead of its rows": in_the_read_models(CHECKPOINT.format("+"), CHECKPOINT.format("-")),
        "a checkpoint lags behind": in_the_read_models(CHECKPOINT.format("-"), CHECKPOINT.format("+")),
        "rows are missing below the checkpoint": SKIPPED,
    },
    "I6": {"what was stale was forgotten": in_the_log(_not_planned_again)},
    "I7": {
        "nobody approved": dropped(lambda s: s.record.type in ("JudgeVerdict", "HumanApproved")),
        "a judge approved at the threshold, not above it": judges_alone(0.9),
        "what was executed was never proposed": dropped(of("ArtifactProduced")),
    },
    "I10": {"a task is left open": _task_left_open},
    "I11": {"a record was skipped": SKIPPED, "a record was applied twice": APPLIED_TWICE},
    "I12": {
        "an agent's rows stand under another tenant": in_the_read_models(
            "UPDATE core.agents SET tenant = 'bolt' WHERE name = 'ora0'",
            "UPDATE core.agents SET tenant = 'acme' WHERE name = 'ora0'",
        ),
        "a view lost its guard": in_the_read_models(
            f"CREATE OR REPLACE VIEW analytics_v1.tasks AS {UNGUARDED.defined().removesuffix(views.GUARD)}",
            f"CREATE OR REPLACE VIEW analytics_v1.tasks WITH (security_barrier = true) AS {UNGUARDED.defined()}",
        ),
    },
}
CHECKS = {invariant.number: invariant for invariant in INVARIANTS}


def test_every_invariant_is_checked_or_said_to_be_tested_elsewhere_and_every_check_has_a_planted_wrong() -> None:
    assert sorted([*CHECKS, *NOT_HERE]) == sorted(f"I{n}" for n in range(1, 13))
    assert WRONGS.keys() == CHECKS.keys()
    page = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text()
    for number, says in [*((i.number, i.says) for i in INVARIANTS), *NOT_HERE.items()]:
        assert f"| {number} | {says} |" in page, f"docs/reliability.md does not say {number} in these words"


def test_all_invariants_hold_before_anything_is_planted(house: House, names: list[str]) -> None:
    claimed = house.records("EffectClaimed", names, "rejected")
    assert any(seen.ruling.reason == "stale" for seen in claimed), "something became stale"
    all_hold(house, names)


@pytest.mark.parametrize(("number", "wrong"), [(number, wrong) for number, wrongs in WRONGS.items() for wrong in wrongs])
def test_the_oracle_sees(number: str, wrong: str, house: House, names: list[str], tmp_path: Path) -> None:
    check = CHECKS[number].check
    house.until_projected()
    with WRONGS[number][wrong](house, tmp_path) as planted, pytest.raises(AssertionError):
        check(planted, names)
    check(house, names)


def test_a_judge_above_the_threshold_is_enough(house: House, names: list[str], tmp_path: Path) -> None:
    with judges_alone(0.91)(house, tmp_path) as other:
        CHECKS["I7"].check(other, names)


def test_a_watermark_that_goes_back_is_seen_as_it_does(house: House, names: list[str], tmp_path: Path) -> None:
    marks = Watermarks()
    house.until_projected()
    marks.look(house)
    marks.at[2] += 1
    with pytest.raises(AssertionError, match="back to"):
        marks.look(house)
