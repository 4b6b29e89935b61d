"""Work that several processes share, when one of them is killed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from chimera.audit.workers import ProcessLost, side_by_side


class Item(NamedTuple):
    mark: Path
    parent: int


def killed_elsewhere(item: Item) -> None:
    """Here: wait until another process has begun as well. There: be killed."""
    if os.getpid() != item.parent:
        item.mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    deadline = time.monotonic() + 120
    while not item.mark.exists():
        assert time.monotonic() < deadline, "no other process has begun"
        time.sleep(0.01)


def test_a_process_that_is_killed_is_told_with_the_way_out(tmp_path: Path) -> None:
    work = [Item(tmp_path / "mark", os.getpid())] * 3
    with pytest.raises(ProcessLost, match="killed from outside; if memory ran out, take fewer `--jobs`"):
        list(side_by_side(killed_elsewhere, work, 2, lambda item: 1))
