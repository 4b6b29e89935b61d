"""What a swarm tells of itself: its counters, states and snapshots as one `Look`.

The rule not to break: called on the swarm's own loop, twice a second; what walks all agents is done only every few seconds.
"""

from __future__ import annotations

import time

from chimera.observe.look import Look, count_agents
from chimera.processors.swarm import Swarm
from chimera.snapshots.keeper import Keeper

COUNT_EVERY_S = 5.0


class Teller:
    """Makes the looks of one swarm."""

    def __init__(self, swarm: Swarm, keeper: Keeper | None = None) -> None:
        self._swarm = swarm
        self._keeper = keeper
        self._counts: dict[str, int] = {}
        self._counted_at = -COUNT_EVERY_S

    def look(self, troubles: tuple[str, ...] = ()) -> Look:
        """The swarm as it is now."""
        swarm, now = self._swarm, time.monotonic()
        dark = frozenset(swarm.partitions) - swarm.live
        if now - self._counted_at >= COUNT_EVERY_S and not dark:  # a dark partition is being folded by a thread
            self._counts = count_agents(agent for fold in swarm.partitions.values() for agent in fold.agents.values())
            self._counted_at = now
        return Look(
            positions={p: fold.next_offset for p, fold in list(swarm.partitions.items())},
            dark=dark,
            rulings=dict(swarm.counters.rulings),
            jobs=swarm.running_by_role(),
            jobs_done=swarm.counters.jobs,
            job_errors=swarm.counters.job_errors,
            counts=self._counts,
            snapshot_age_s=None if self._keeper is None else self._keeper.age_s(),
            snapshot_behind=0 if self._keeper is None else self._keeper.behind(),
            troubles=troubles,
        )
