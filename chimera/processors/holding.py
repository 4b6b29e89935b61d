"""The partitions that a process holds: taken over, caught up, folded as records come, and let go.

The rule not to break: no agent is served before all that was appended to its partition is folded, and two threads never fold one
partition.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from chimera import failpoints
from chimera.commands.keys import LOG
from chimera.events.envelope import Record
from chimera.events.partition import PartitionFold
from chimera.events.raw import RawRecord
from chimera.processors import clock
from chimera.processors.catchup import catch_up
from chimera.processors.reading import Reading
from chimera.processors.swarm import Swarm
from chimera.snapshots.keeper import Keeper

log = logging.getLogger(__name__)


class Holding:
    """What becomes of the assignments that Faust hands over.

    Args:
        new_fold: makes the empty fold of a partition.
        ping: the broker's time (ms).
        begins: called when a new assignment is caught up, just before its agents are served.
        keeper: keeps snapshots; None: every partition is folded from offset 0.
    """

    def __init__(
        self,
        swarm: Swarm,
        reading: Reading,
        bootstrap: str,
        new_fold: Callable[[int], PartitionFold],
        ping: Callable[[], Awaitable[int]],
        begins: Callable[[], None],
        *,
        name: str,
        keeper: Keeper | None,
    ) -> None:
        self._swarm, self._reading, self._keeper = swarm, reading, keeper
        self._bootstrap, self._new_fold, self._ping, self._begins, self._name = bootstrap, new_fold, ping, begins, name
        self._rebalances = 0
        self._catching_up: asyncio.Future[None] | None = None

    async def take_over(self, partitions: set[int]) -> Mapping[int, int]:
        """The new assignment is known: drop what was lost, catch up what is held, then let its agents be served.

        A rebalance may begin before the last one was caught up: then the older assignment serves nothing and returns no offsets.
        Its thread is waited for all the same, since two must never fold one partition.
        """
        began, before = time.monotonic(), self._swarm.counters.folded
        self.revoked()
        mine = self._rebalances
        while self._catching_up is not None and not self._catching_up.done():
            await asyncio.wait([self._catching_up])
        if mine != self._rebalances:
            return {}
        self._swarm.keep_only(partitions)
        if self._keeper is not None:
            self._keeper.keep_only(partitions)
        self._catching_up = asyncio.get_running_loop().run_in_executor(
            None, catch_up, self._swarm, partitions, self._bootstrap, LOG, self._new_fold, self._keeper
        )
        await asyncio.shield(self._catching_up)
        await failpoints.at("catchup.folded")
        if mine == self._rebalances:
            await clock.ask(self._swarm.clock, self._ping)  # what was caught up is old: without it, timers are late by its age
        if mine != self._rebalances:
            return {}
        self._begins()
        self._swarm.light(partitions)
        folded = self._swarm.counters.folded - before
        seconds = time.monotonic() - began
        log.info("%s serves %d partitions, caught up in %.2f s by %d records", self._name, len(partitions), seconds, folded)
        return {p: self._swarm.fold_for(p).next_offset for p in partitions}

    def revoked(self) -> None:
        """A rebalance begins: nothing new starts, and what is being cut for a snapshot is given up."""
        self._rebalances += 1
        self._swarm.darken()
        if self._keeper is not None:
            self._keeper.pause()

    def before(self, record: Record, raw: RawRecord) -> None:
        """About to be folded: what its agent was goes into the snapshot, and the record is what jobs read next."""
        if self._keeper is not None:
            self._keeper.before(record.partition, record.key, record.append_ts)
        if not self._swarm.dark:  # catching up runs in a thread, and reads more than any job will ask for
            self._reading.folded(record, raw)

    def folded(self, raws: list[RawRecord]) -> None:
        """A batch came: fold it, then ask what is owed to the agents that it touched. Raises `HoleInLog`."""
        touched = self._swarm.fold_batch(raws)
        failpoints.here("swarm.folded")
        self._swarm.ask_all(touched)
