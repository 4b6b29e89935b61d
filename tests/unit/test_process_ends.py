"""How a process of a role set ends: everything that it holds is let go, whatever made it end."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import AsyncMock, MagicMock

from chimera.processors.runtime import Process


def parts() -> Any:
    """What a process closes, in place of a whole one."""
    process = MagicMock()
    for part in (process.swarm.stop, process.gate.close, process.calls.close, process.seen.close):
        part.side_effect = AsyncMock()
    process.swarm.traces = None
    return process


def test_a_process_that_ends_because_a_clock_of_its_stopped_lets_everything_else_go() -> None:
    """Records of calls that were sent are on their way to the log, and children run: they end with it."""
    process = parts()

    async def stopped() -> None:
        raise RuntimeError("the clock stopped")

    async def story() -> None:
        ticking = asyncio.create_task(asyncio.sleep(3_600))
        process._background = [asyncio.create_task(stopped()), ticking]
        await asyncio.wait([process._background[0]])
        await Process.close(process)
        assert ticking.cancelled()

    asyncio.run(story())
    for let_go in (process.gate.close, process.calls.close, process.seen.close, process.seat.leave, process.watchdog.closed):
        let_go.assert_called_once()
