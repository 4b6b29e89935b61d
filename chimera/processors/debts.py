"""What agents are owed by the roles: asked of their states, taken in turn, held back where one failed, and asked again in time.

The rule not to break: what is owed follows from the state and the time alone. Losing all that is kept here costs asking again
for every agent, and nothing else.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Container, Iterable, Iterator
from typing import NamedTuple

from chimera.events.state import Agent
from chimera.processors.jobs import Job, JobKey, Role

FIRST_HOLD_S = 0.2
LONGEST_HOLD_S = 30.0
MOST_OVERTAKEN = 1_000
"""Wakes that another one overtook, beyond as many as there are agents that wait."""
FORGET_S = 600.0
"""A debt that could have been tried again for so long and was not is owed no more, or is tried as for the first time."""


class _Hold(NamedTuple):
    delay_s: float
    until: float


class Debts:
    """The debts of the agents of one process. Used on its event loop."""

    def __init__(self) -> None:
        self._owed: dict[str, dict[JobKey, Job]] = {}
        self._ring: deque[str] = deque()
        self._in_ring: set[str] = set()
        self._holds: dict[JobKey, _Hold] = {}
        self._wakes: list[tuple[int, str]] = []
        self._wake_of: dict[str, int] = {}

    # --- what is owed ------------------------------------------------------------------------------------------------

    def ask(self, agent: Agent, roles: Iterable[Role], now: int) -> None:
        """Ask every role what it owes this agent at `now` (broker time, ms); an agent that is owed something waits for its turn."""
        key, mono = agent.key, time.monotonic()
        owed: dict[JobKey, Job] = {}
        wake: int | None = None
        for role in roles:
            due = role.due(agent, now)
            if due.wake_at is not None and (wake is None or due.wake_at < wake):
                wake = due.wake_at
            for job in due.jobs:
                hold = self._holds.get(job.key)
                if hold is not None and hold.until > mono:
                    held_until = now + int((hold.until - mono) * 1000) + 1
                    wake = held_until if wake is None else min(wake, held_until)
                else:
                    owed[job.key] = job  # also while it runs: so that its end need not ask again
        if owed:
            self._owed[key] = owed
        else:
            self._owed.pop(key, None)  # of ten thousand idle agents none holds a place
        if wake is not None and self._wake_of.get(key) != wake:
            self._wake_of[key] = wake
            heapq.heappush(self._wakes, (wake, key))
            if len(self._wakes) > 2 * len(self._wake_of) + MOST_OVERTAKEN:
                # Overtaken ones else stay until their time, which for a card's expiry is a day: they would be most of all.
                self._wakes = [(at, whose) for whose, at in self._wake_of.items()]
                heapq.heapify(self._wakes)
        self.take_turn(key)

    def drop(self, key: str) -> None:
        """This agent is served elsewhere."""
        self._owed.pop(key, None)

    @property
    def outstanding(self) -> bool:
        """Is anything owed now?"""
        return bool(self._owed)

    # --- whose turn it is --------------------------------------------------------------------------------------------

    @property
    def in_turn(self) -> bool:
        """Does an agent wait for its turn?"""
        return bool(self._ring)

    def take_turn(self, key: str) -> None:
        """An agent that is owed something waits for its turn, behind all others."""
        if key in self._owed and key not in self._in_ring:
            self._in_ring.add(key)
            self._ring.append(key)

    def next_agent(self) -> str:
        """Whose turn it is."""
        key = self._ring.popleft()
        self._in_ring.discard(key)
        return key

    def first_of(self, key: str, running: Container[JobKey]) -> Job | None:
        """The first debt to this agent that is not worked on."""
        return next((job for job_key, job in self._owed.get(key, {}).items() if job_key not in running), None)

    # --- what waits --------------------------------------------------------------------------------------------------

    def hold(self, job: Job) -> None:
        """Doubling delay for a debt whose record was void or could not be made: nothing spins."""
        before, mono = self._holds.pop(job.key, None), time.monotonic()
        delay = FIRST_HOLD_S if before is None else min(LONGEST_HOLD_S, before.delay_s * 2)
        self._holds[job.key] = _Hold(delay, mono + delay)
        # In the order in which they were held: who was not heard of since stands first.
        while self._holds[oldest := next(iter(self._holds))].until + FORGET_S < mono:
            del self._holds[oldest]

    def holds(self, job: Job) -> bool:
        """Did this debt go wrong, and was not paid since?"""
        return job.key in self._holds

    def release(self, job: Job) -> None:
        """It is paid."""
        self._holds.pop(job.key, None)

    @property
    def next_wake(self) -> int | None:
        """Broker time (ms) at which an agent is to be asked about again, or None."""
        return self._wakes[0][0] if self._wakes else None

    def woken(self, now: int) -> Iterator[str]:
        """The agents whose time has come by `now`."""
        while self._wakes and self._wakes[0][0] <= now:
            at, key = heapq.heappop(self._wakes)
            if self._wake_of.get(key) == at:
                del self._wake_of[key]
                yield key
