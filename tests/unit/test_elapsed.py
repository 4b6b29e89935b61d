"""The clock of leases and last looks counts the machine's sleep, which itself cannot be had in a test."""

from __future__ import annotations

import sys
import time

from chimera.elapsed import CLOCK, elapsed


def test_on_linux_it_is_the_clock_that_goes_on_while_the_machine_sleeps() -> None:
    assert (time.CLOCK_BOOTTIME if sys.platform == "linux" else time.CLOCK_MONOTONIC) == CLOCK


def test_it_never_goes_back() -> None:
    seen = [elapsed() for _ in range(1_000)]
    assert seen == sorted(seen)
