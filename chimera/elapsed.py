"""Time that passes for everybody, also while this machine sleeps: what a lease or a last look is measured by.

`time.monotonic` stands still while a Linux machine is suspended: after an hour's sleep a lease of a minute would seem fresh, though
its holder was given up long ago. No clock of a guest sees that its whole virtual machine was paused; see docs/reliability.md.
"""

from __future__ import annotations

import time

CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Linux counts sleep in CLOCK_BOOTTIME; systems without it are those whose CLOCK_MONOTONIC does (macOS)."""


def elapsed() -> float:
    """Seconds since some moment of the past; never goes back, and goes on while the machine sleeps."""
    return time.clock_gettime(CLOCK)
