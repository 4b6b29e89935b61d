"""What a process remembers of ends that it asked about in vain, so that it asks seldomer.

The rule not to break: nothing is decided by it. Who loses it, by a restart, looks up more often and comes to the same ends.
"""

from __future__ import annotations

from typing import NamedTuple

from chimera.events.state import Agent, Campaign, Effect, Task
from chimera.processors.jobs import Job

SWITCH_POLL_MS = 1_000
"""How soon an effect that a closed switch holds back looks at the switch again; no record is made meanwhile."""
LOOK_UPS = 8
"""How often a process looks an unknown end up before it leaves it to a person."""
_MOST = 10_000


class Note(NamedTuple):
    """What this process remembers of an end that it asked about in vain: how often, and when (broker time) to ask again."""

    tries: int
    again_at: int


NoteKey = tuple[str, str, int, int, int, int]
"""poll or look, agent, campaign, ordinal, attempt, claim."""


class Notes:
    """Vain polls and look-ups of this process, and what switches hold. Losing them (a restart) costs look-ups, nothing else."""

    def __init__(self) -> None:
        self._notes: dict[NoteKey, Note] = {}

    def holds(self, reason: str) -> bool:
        """Is an approved effect with this wait reason held back by a switch that is still closed?"""
        return False

    def of(self, what: str, agent: Agent, c: Campaign, t: Task, e: Effect) -> Note:
        """What is remembered of polls or look-ups of the effect's current claim."""
        return self._notes.get((what, agent.key, c.number, t.ordinal, t.attempt, e.claim), Note(0, 0))

    def vain(self, job: Job, now: int, first_ms: int, longest_ms: int, *, counts: bool = True) -> Note:
        """One more answer that proved nothing; the wait doubles. `counts` False: a closed switch, no try at all."""
        key = (job.what, job.agent, job.campaign, job.ordinal, job.attempt, job.number)
        tries = self._notes.pop(key, Note(0, 0)).tries
        wait = min(longest_ms, first_ms << min(tries, 20)) if counts else SWITCH_POLL_MS
        note = self._notes[key] = Note(tries + counts, now + wait)
        while len(self._notes) > _MOST:  # the oldest goes: at worst an old end is looked up again
            del self._notes[next(iter(self._notes))]
        return note

    def forget(self, job: Job) -> None:
        """The end is known."""
        self._notes.pop((job.what, job.agent, job.campaign, job.ordinal, job.attempt, job.number), None)


NOTHING_NOTED = Notes()
