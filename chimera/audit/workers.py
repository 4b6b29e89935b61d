"""Whole partitions side by side in several processes, of which the calling one is one.

The rule not to break: what comes out does not depend on how many processes there are, and none outlives the one that began it.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

from chimera.errors import ChimeraError

RARELY = (100_000, 20, 50)
"""How often a process that folds looks for garbage: folded agents live as long as it does, and looking at them costs a tenth."""
SOON_S = 0.0005
"""A thread that only hands out work waits so long for its turn; at the usual 5 ms each item would wait for 20 ms."""

Item = TypeVar("Item")
Found = TypeVar("Found")


class ProcessLost(ChimeraError):
    """A process that did a part of the work was killed."""


def side_by_side(
    do: Callable[[Item], Found], work: Sequence[Item], jobs: int, size: Callable[[Item], int]
) -> Iterator[tuple[Item, Found]]:
    """`do` for each item, in `jobs` processes, as they are done: whoever is free takes the largest that nobody has begun.

    `do` and items are copied into processes that begin anew: a fork would take the locks of a client's threads along, and not the
    threads. Raises what `do` raises, and `ProcessLost`; what was not begun by then is not done.
    """
    with _undisturbed():
        if jobs == 1 or len(work) < 2:
            for item in work:
                yield item, do(item)
            return
        others = min(jobs, len(work)) - 1
        todo = iter(sorted(work, key=size, reverse=True))
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(others, spawn, _begin) as pool, ThreadPoolExecutor(others) as threads:
            try:
                yield from _shared(threads, others, todo, do, lambda item: pool.submit(do, item).result())
            except BrokenProcessPool as error:
                raise ProcessLost(
                    "a process that did a part of this was killed from outside; if memory ran out, take fewer `--jobs`: do it again"
                ) from error
            finally:
                _leave(todo)


def _shared(
    threads: ThreadPoolExecutor, others: int, todo: Iterator[Item], do: Callable[[Item], Found], elsewhere: Callable[[Item], Found]
) -> Iterator[tuple[Item, Found]]:
    """`todo` goes over a list, so that each item is taken by one thread alone.

    The others are handed one at a time: nobody else could do what waits in their queue.
    """
    done = SimpleQueue[tuple[Item, Found]]()

    def hand_out() -> None:
        try:
            for item in todo:
                done.put((item, elsewhere(item)))
        finally:
            _leave(todo)

    handed = [threads.submit(hand_out) for _ in range(others)]
    for item in todo:
        yield item, do(item)
        yield from _arrived(done)
    for each in handed:
        each.result()
        yield from _arrived(done)


def _arrived(done: SimpleQueue[Found]) -> Iterator[Found]:
    while not done.empty():
        yield done.get()


def _leave(todo: Iterator[Item]) -> None:
    """Nobody begins another."""
    deque(todo, 0)


def _begin() -> None:
    """In a process that was begun: it ends with the one that began it, even by SIGKILL, and writes nothing after it."""
    gc.set_threshold(*RARELY)
    parent = multiprocessing.parent_process()
    if parent is None or not parent.is_alive():  # what it asked for would still be read from the queue, and done
        os._exit(1)
    Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Garbage is looked for rarely; and who hands out work gets a turn soon, though this process is busy itself."""
    garbage, turn = gc.get_threshold(), sys.getswitchinterval()
    gc.set_threshold(*RARELY)
    sys.setswitchinterval(SOON_S)
    try:
        yield
    finally:
        gc.set_threshold(*garbage)
        sys.setswitchinterval(turn)
