"""Asking memory on a job's behalf.

The rule not to break: nobody waits long for memory. Where it is away a job goes on without, and that is told, never raised.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TypeVar

from chimera.events.notes import Kind
from chimera.memory.contract import Memory, MemoryAway, Query, Remembered
from chimera.processors.jobs import Job

log = logging.getLogger(__name__)

RECALL_S = 5.0
"""How long a job waits for what its agent remembers."""
T = TypeVar("T")


class Recalling:
    """What the agents of one process recall from; None: they remember nothing."""

    def __init__(self, memory: Memory | None) -> None:
        self._memory = memory
        self.trouble = ""
        """What keeps agents from recalling; "" while nothing does."""

    async def kinds(self, job: Job) -> frozenset[Kind]:
        """The kinds of notes that the job's agent has in memory."""
        return await self._ask(lambda memory: memory.kinds(job.tenant, job.agent), frozenset())

    async def recall(self, job: Job, query: Query) -> list[Remembered]:
        """What the job's tenant remembers, best first."""
        return await self._ask(lambda memory: memory.recall(job.tenant, query), [])

    async def _ask(self, ask: Callable[[Memory], T], nothing: T) -> T:
        if self._memory is None:
            return nothing
        try:
            async with asyncio.timeout(RECALL_S):
                found = await asyncio.to_thread(ask, self._memory)
        except (MemoryAway, TimeoutError) as away:
            said = str(away) or f"no answer in {RECALL_S:g} s"
            if said != self.trouble:
                log.warning("agents recall nothing: %s", said)
            self.trouble = said
            return nothing
        self.trouble = ""
        return found
