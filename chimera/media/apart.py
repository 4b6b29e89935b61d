"""A room's own module run in a process of its own, for bytes from outside: what a decoder makes of them ends that process alone."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE


class NotDone(Exception):
    """The process failed or took too long; the text says why, in its own last words where it had any."""


async def run_apart(module: str, *arguments: str, told: bytes = b"", timeout_s: float) -> bytes:
    """What `python -m module` answers on its standard output when it is given `told`. It is killed after `timeout_s` seconds.

    Raises NotDone.
    """
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", module, *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    try:
        async with asyncio.timeout(timeout_s):
            answer, said = await process.communicate(told)
    except TimeoutError:
        raise NotDone(f"it took longer than {timeout_s:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        lines = said.decode(errors="replace").strip().splitlines()
        raise NotDone(lines[-1] if lines else f"its process ended with {process.returncode}")
    return answer
