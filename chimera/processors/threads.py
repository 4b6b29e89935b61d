"""Threads: what was said in one before, for whoever writes an answer.

The rules not to break: what strangers said is data, worth no less than what it is put beside, and named in what is made from it; a
server that is away is nobody's failure: the answer is written without.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from chimera.events.records import Taint
from chimera.memory.contract import MemoryAway, allowed
from chimera.memory.episodes.contract import Threads, Told
from chimera.processors.jobs import Job, Tools

log = logging.getLogger(__name__)

INPUT = "thread"
"""What an artifact calls the words that it was made with."""
PATIENCE_S = 2.0
MOST = 8
"""Words of a thread that are put before a writer, at most, and the characters that they may take of the request."""
CHARACTERS = 1_500


class Earlier(NamedTuple):
    """Lines for a request, the agent's own words among them, and where all of them stand."""

    lines: list[str]
    ours: list[str]
    places: list[list[int]]


class Asking:
    """What one process knows of threads. `threads` None: no episodes are kept."""

    def __init__(self, threads: Threads | None) -> None:
        self._threads = threads
        self.trouble = ""
        """What keeps answers from knowing their threads; "" while nothing does."""

    async def earlier(self, job: Job, thread: str) -> list[Told]:
        """See `chimera.processors.jobs.Tools.earlier`: nobody waits long for it, and its absence is told."""
        if self._threads is None:
            return []
        try:
            async with asyncio.timeout(PATIENCE_S):
                found = await asyncio.to_thread(self._threads.thread, job.tenant, job.agent, thread, MOST)
        except (MemoryAway, TimeoutError) as away:
            said = str(away) or f"no answer in {PATIENCE_S:g} s"
            if said != self.trouble:
                log.warning("answers are written without their threads: %s", said)
            self.trouble = said
            return []
        self.trouble = ""
        return found


async def before(job: Job, thread: str, at: Sequence[int], item: int, worth: Taint, tools: Tools) -> Earlier:
    """What was said in a thread before the item at that place, as far as it is worth what the answer is worth anyway."""
    found = await tools.earlier(job, thread)
    told = [each for each in found if (each.at, each.item) < (tuple(at), item) and each.taint in allowed(worth)]
    kept: list[Told] = []
    left = CHARACTERS
    for each in reversed(told):
        left -= len(each.text)
        if left < 0:
            break
        kept.insert(0, each)
    lines = [f"{'you' if each.by == 'us' else 'they'}: {each.text}" for each in kept]
    return Earlier(lines, [each.text for each in kept if each.by == "us"], [[*each.at, each.item] for each in kept])


def named(earlier: Earlier) -> dict[str, Any]:
    """What is kept of it in what was made with it."""
    return {INPUT: earlier.places} if earlier.places else {}
