"""What must hold whatever was broken, as a table: number (docs/reliability.md), sentence, check.

The rule not to break: a check compares two accounts of the same thing, of which no fault could have misled both; and each has a
planted wrong (`test_oracle.py`) that turns it red.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import psycopg

from chimera.eventlog.read import end_offsets
from chimera.events.records import ArtifactProduced, HumanApproved, HumanEdited, JudgeVerdict, TaskPlanned, TaskRecord
from chimera.projections import analysts, views
from chimera.projections.engine import LOG
from tests.e2e.house import House
from tests.faults.oracle import every_effect_happened_once, executed, no_task_is_lost

Check = Callable[[House, Sequence[str]], None]

APPROVE_ABOVE = 0.9
LOOKS = 5


class Invariant(NamedTuple):
    """One sentence and what tests it."""

    number: str
    says: str
    check: Check


def acknowledged_is_read(house: House, names: Sequence[str]) -> None:
    """The log is read without hole or repetition up to its end, and holds every acknowledged command where it was said to lie."""
    read: dict[int, list[int]] = {}
    at: dict[tuple[int, int], str] = {}
    for seen in house.seen:
        read.setdefault(seen.record.partition, []).append(seen.record.offset)
        at[seen.record.partition, seen.record.offset] = seen.record.id
    for partition, end in end_offsets(house.addresses.kafka, LOG).items():
        assert read.get(partition, []) == list(range(end)), f"partition {partition} was not read from 0 to {end}, each record once"
    assert house.acked, "nothing was acknowledged: nothing is proved"
    for partition, offset, id_ in house.acked:
        assert at[partition, offset] == id_, f"acknowledged at {LOG}[{partition}]@{offset} and not there: {id_}"


def versions_have_no_gap(house: House, names: Sequence[str]) -> None:
    """Each agent's state_version goes on from where it stood, by at most one per record; the read model holds the last."""
    at: dict[str, int] = {}
    for record, ruling in house.seen:
        before = at.get(record.key, 0)
        if ruling.outcome == "void":
            continue
        assert ruling.version_before == before, f"{record.key}: version {ruling.version_before} was written over {before}"
        assert 0 <= ruling.version - before <= 1, f"{record.key}: version {before} became {ruling.version}"
        at[record.key] = ruling.version
    keys = [agent.key for agent in house.agents(names)]
    held = dict(house.sql("SELECT agent_id, state_version FROM core.agents WHERE agent_id = ANY(%s)", keys))
    assert held == {key: at[key] for key in keys}


def read_models_equal_a_refold(house: House, names: Sequence[str]) -> None:
    """`chimera replay verify`: every table equals what the log folded anew gives."""
    house.equals_refold()


class Watermarks:
    """The checkpoints as they move, each looked at together with the rows that it stands for."""

    def __init__(self) -> None:
        self.at: dict[int, int] = {}
        """Partition -> checkpoint, as last seen."""

    def look(self, house: House) -> None:
        """One snapshot of the database: no checkpoint is ahead of its rows, and none went back since the last look."""
        rows = house.sql(
            'SELECT c.partition, c.next_offset, count(e.*), coalesce(max(e."offset") + 1, 0) FROM core.checkpoints c'
            " LEFT JOIN core.events e USING (partition) WHERE c.model_set = 'core' AND c.topic = %s GROUP BY 1, 2",
            LOG,
        )
        for partition, at, count, end in rows:
            assert at == count == end, f"partition {partition}: checkpoint {at}, {count} rows up to {end}"
            assert at >= self.at.get(partition, 0), f"partition {partition}: from {self.at[partition]} back to {at}"
            self.at[partition] = at


def watermarks_are_true(house: House, names: Sequence[str]) -> None:
    """Checkpoints stand at the end of the log, with exactly the rows of what lies before them."""
    marks = Watermarks()
    marks.look(house)
    ends = {p: end for p, end in end_offsets(house.addresses.kafka, LOG).items() if end}
    assert {p: at for p, at in marks.at.items() if at} == ends


def stale_is_planned_again(house: House, names: Sequence[str]) -> None:
    """What was rejected as stale is tried again, or was dropped or closed, visibly."""
    keys = {agent.key: agent.name for agent in house.agents(names)}
    planned: dict[tuple[str, int, int], list[int]] = {}
    for number, seen in enumerate(house.seen):
        d = seen.record.data
        if isinstance(d, TaskPlanned) and seen.ruling.outcome == "applied":
            planned.setdefault((seen.record.key, d.campaign, d.ordinal), []).append(number)
    over = {
        (row.agent, row.number, ordinal)
        for row in house.campaigns(names)
        for ordinal, status in row.tasks.items()
        if status in ("closed", "dropped")
    }
    for number, (record, ruling) in enumerate(house.seen):
        d = record.data
        if record.key in keys and ruling.reason == "stale" and ruling.outcome == "rejected" and isinstance(d, TaskRecord):
            place = (record.key, d.campaign, d.ordinal)
            again = any(later > number for later in planned.get(place, []))
            assert again or place in over, (
                f"{keys[record.key]} {d.campaign}.{d.ordinal}.{d.attempt} was stale and is not planned again"
            )


def nothing_left_unjudged(house: House, names: Sequence[str]) -> None:
    """Each executed effect was proposed with its hash, and that hash has a vote above 0.90 or a person's approval."""
    proposed, approved = set[str](), set[str]()
    for type_ in ("ArtifactProduced", "HumanEdited", "JudgeVerdict", "HumanApproved"):
        for seen in house.records(type_, names):
            d: Any = seen.record.data
            if isinstance(d, ArtifactProduced | HumanEdited) and d.effect is not None:
                proposed.add(d.effect.effect_hash)
            if isinstance(d, HumanEdited) and d.effect is not None:
                approved.add(d.effect.effect_hash)
            if isinstance(d, HumanApproved) or (isinstance(d, JudgeVerdict) and _passes(d)):
                approved.add(str(d.effect_hash))
    for hash_, place in executed(house, names).items():
        assert hash_ in proposed, f"{place}: {hash_} was never proposed"
        assert hash_ in approved, f"{place}: nobody approved {hash_}"


def _passes(d: JudgeVerdict) -> bool:
    return d.judge == "content" and d.decision == "pass" and d.confidence is not None and d.confidence > APPROVE_ABOVE


def every_record_counts_once(house: House, names: Sequence[str]) -> None:
    """Read = applied + rejected + void, row by row: nothing is skipped, nothing is counted twice, and nothing is parked."""
    folded = Counter((seen.record.partition, seen.ruling.outcome) for seen in house.seen)
    rows = house.sql("SELECT partition, outcome, count(*) FROM core.events GROUP BY 1, 2")
    assert {(partition, outcome): count for partition, outcome, count in rows} == dict(folded)
    assert house.sql("SELECT count(*) FROM core.parked") == [(0,)]


def no_row_of_a_tenant_crosses(house: House, names: Sequence[str]) -> None:
    """Each tenant's analyst sees that tenant's agents, as the log tells whose they are, and in no view a row of anybody else's."""
    of = {agent.key: agent.tenant for agent in house.service.agents.values()}
    with psycopg.connect(house.addresses.postgres, autocommit=True) as owner:
        for tenant in sorted(set(of.values())):
            analysts.add(owner, "eye", [tenant], by="test")
            try:
                with psycopg.connect(house.addresses.postgres, user="eye") as eye:
                    own = {key for (key,) in eye.execute("SELECT agent_id FROM analytics_v1.agents")}
                    assert own == {key for key, whose in of.items() if whose == tenant}, f"what {tenant} sees are not its agents"
                    for view in views.views():
                        columns = {column.name for column in view.columns}
                        if view.scope == "tenant" and "agent_id" in columns:
                            asked = f'SELECT DISTINCT tenant, agent_id FROM analytics_v1."{view.name}" WHERE agent_id IS NOT NULL'
                            crossed = [row for row in eye.execute(asked.encode()) if (row[0], of.get(row[1])) != (tenant, tenant)]
                            assert not crossed, f"{view.name} shows {tenant} rows of others: {crossed}"
            finally:
                analysts.remove(owner, "eye")


INVARIANTS = (
    Invariant("I1", "every acknowledged record is read, at its place, once", acknowledged_is_read),
    Invariant("I2", "every approved effect happened exactly once", every_effect_happened_once),
    Invariant("I3", "an agent's state_version has no gap and never goes back", versions_have_no_gap),
    Invariant("I4", "the read models equal a refold of the log", read_models_equal_a_refold),
    Invariant("I5", "no checkpoint is ahead of its rows, and all stand at the log's end", watermarks_are_true),
    Invariant("I6", "what was stale is planned again", stale_is_planned_again),
    Invariant("I7", "nothing left without a vote above 0.90 or a person's approval of that hash", nothing_left_unjudged),
    Invariant("I10", "no task is lost: campaigns complete, every task is done or visibly closed", no_task_is_lost),
    Invariant("I11", "every record counts exactly once", every_record_counts_once),
    Invariant("I12", "no row of a tenant crosses to another", no_row_of_a_tenant_crosses),
)
NOT_HERE = {
    "I8": "no effect of these runs costs money; test_paid_effects ties ledger, calls and the platform's book, with planted wrongs",
    "I9": "tested with the audit export",
}


def all_hold(house: House, names: Sequence[str]) -> None:
    """Every invariant, after the read models have come to the log's end.

    Accounts that were taken while somebody appended (a timer, a note) are not of the same moment: then they are taken anew.
    """
    for _ in range(LOOKS):
        house.until_projected()
        house.service.catch_up()
        ends = end_offsets(house.addresses.kafka, LOG)
        try:
            for invariant in INVARIANTS:
                _holds(invariant, house, names)
            return
        except AssertionError:
            if end_offsets(house.addresses.kafka, LOG) == ends:
                raise
    raise AssertionError(f"the log never stood still in {LOOKS} looks")


def _holds(invariant: Invariant, house: House, names: Sequence[str]) -> None:
    try:
        invariant.check(house, names)
    except AssertionError as error:
        raise AssertionError(f"{invariant.number} ({invariant.says}) does not hold: {error}") from error
