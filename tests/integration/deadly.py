"""A brain whose worker dies of one task: `python -m tests.integration.deadly`, with the installation in the environment.

The task with ordinal 1 kills the process as a segmentation fault would; the others are made. Leases are short.
"""

from __future__ import annotations

import asyncio
import os
import signal

from chimera.events.records import ArtifactProduced, PlanRow
from chimera.processors import materials, worker
from chimera.processors.jobs import Job, Tools
from chimera.processors.kit import Kit
from chimera.settings import Settings
from tests.integration.stage import at_work


async def _make(kit: Kit, job: Job, row: PlanRow, tools: Tools) -> ArtifactProduced:
    if job.ordinal == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return materials.artifact(job, row, {"text": f"made of {job.ordinal}"}, 0.95, "owner", [], {})


async def main() -> None:
    worker.START_LEASE_MS, worker.LONG_OPEN_MS = 1_500, 500
    worker.MAKERS = {**worker.MAKERS, "publish": _make}
    async with at_work("brain", Settings()) as process:
        del process.swarm.roles["judge"]  # what is made waits: nobody here reads it
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
