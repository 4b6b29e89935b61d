"""A projector's follower in a thread of the test, and waiting for what it does: by a condition with a deadline, never by time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

DEADLINE_S = 120.0


class Runs(Protocol):
    """Anything that follows a topic until it is told to stop."""

    def run(self, stop: threading.Event) -> None: ...


R = TypeVar("R", bound=Runs)


@contextmanager
def in_a_thread(follower: R) -> Iterator[R]:
    """The follower at work; it has ended when the block ends."""
    stop = threading.Event()
    thread = threading.Thread(target=follower.run, args=(stop,))
    thread.start()
    try:
        yield follower
    finally:
        stop.set()
        thread.join(60)


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait for something to be so. Raises AssertionError where it does not come about in time."""
    waiting = threading.Event()
    for _ in range(int(DEADLINE_S / 0.1)):
        if holds():
            return
        waiting.wait(0.1)
    raise AssertionError(f"not seen within {DEADLINE_S:g} s: {what}")
