"""given(history).when(record) -> ruling and state: one idea for every test of the law.

The rule not to break: whatever is tried here is tried twice, and the second time must be void and change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from chimera.events.envelope import Record
from chimera.events.fold import fold
from chimera.events.state import Agent, Change, Law, Ruling, Task
from chimera.events.state_codec import state_from_json, state_to_json
from tests.histories import LAW, Log, rec, record


@dataclass(frozen=True)
class Then:
    """What came of one record."""

    ruling: Ruling
    state: Agent | None
    before: bytes
    after: bytes

    @property
    def said(self) -> tuple[str, str]:
        """(outcome, reason)."""
        return self.ruling.outcome, self.ruling.reason

    def changed(self, what: str) -> list[str]:
        """Statuses of the changes of one kind, in order."""
        return [change.status for change in self.ruling.changes if change.what == what]

    def task(self, campaign: int = 1, ordinal: int = 1) -> Task:
        """A task that is still in the plan."""
        assert self.state is not None
        return self.state.campaigns[campaign].tasks[ordinal]


@dataclass(frozen=True)
class Given:
    """A state of one agent, as bytes, and when it is."""

    state: bytes
    law: Law
    offset: int
    now: int

    def when(self, data: rec.Data, *, after: int = 1, actor: str = "svc", **how: object) -> Then:
        """One record `after` milliseconds; `how` replaces fields of the decoded record (`signed_by`, `hash_ok` ...)."""
        return self.when_record(replace(record(data, self.offset, self.now + after, actor=actor), **how))  # type: ignore[arg-type]

    def when_record(self, r: Record) -> Then:
        """One record; then the same again, which must be void and change nothing."""
        agent = state_from_json(self.state) if self.state else None
        agent, ruling = fold(self.law, agent, r)
        after = snapshot(agent)
        if ruling.outcome == "void" and ruling.reason != "unreadable":
            assert after == self.state, f"a void {r.type} changed the state"
        if agent is not None:
            assert ruling.version == agent.version
        again, second = fold(self.law, state_from_json(after) if after else None, replace(r, offset=r.offset + 1))
        assert second.outcome == "void", f"the second {r.type} is {second.outcome}"
        assert snapshot(again) == after, f"the second {r.type} changed the state"
        return Then(ruling, agent, self.state, after)


def snapshot(agent: Agent | None) -> bytes:
    """Comparable bytes of a state; nothing for no agent."""
    return b"" if agent is None else state_to_json(agent)


def fold_all(law: Law, records: Sequence[Record]) -> tuple[Agent | None, list[Ruling]]:
    """The real fold over a history."""
    agent: Agent | None = None
    rulings = []
    for r in records:
        agent, ruling = fold(law, agent, r)
        rulings.append(ruling)
    return agent, rulings


def given(log: Log) -> Given:
    """The real fold's state after a history."""
    agent, _ = fold_all(log.law, log.records)
    return Given(snapshot(agent), log.law, len(log.records), log.now)


__all__ = ["LAW", "Change", "Given", "Then", "fold_all", "given", "snapshot"]
