"""Whole partitions side by side in several processes, of which the calling one is one.

The rule not to break: what comes out does not depend on how many processes there are, and none outlives the one that began it.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from threading import Thread
from typing import TypeVar

RARELY = (100_000, 20, 50)
"""How often a process that folds looks for garbage: folded agents live as long as it does, and looking at them costs a tenth."""


Item = TypeVar("Item")
Found = TypeVar("Found")


def side_by_side(
    do: Callable[[Item], Found], work: Sequence[Item], jobs: int, size: Callable[[Item], int]
) -> Iterator[tuple[Item, Found]]:
    """`do` for each item, in `jobs` processes, as they are done: the others begin with the largest, this one with the smallest.

    `do` and items are copied into processes that begin anew: a fork would take the locks of a client's threads along, and not the
    threads. Raises what `do` raises; what was not begun by then is not done.
    """
    with _rarely():
        if jobs == 1 or len(work) < 2:
            for item in work:
                yield item, do(item)
            return
        pool = ProcessPoolExecutor(jobs - 1, mp_context=multiprocessing.get_context("spawn"), initializer=_begin)
        try:
            yield from _shared(pool, do, sorted(work, key=size, reverse=True))
        finally:
            pool.shutdown(cancel_futures=True)


def _shared(pool: ProcessPoolExecutor, do: Callable[[Item], Found], work: Sequence[Item]) -> Iterator[tuple[Item, Found]]:
    asked: dict[Future[Found], Item] = {pool.submit(do, item): item for item in work}
    for future in reversed(tuple(asked)):
        if not future.cancel():  # the others have it, and all before it
            break
        yield asked[future], do(asked.pop(future))
    for future in as_completed(asked):
        yield asked[future], future.result()


def _begin() -> None:
    """In a process that was begun: it ends with the one that began it, even by SIGKILL, and writes nothing after it."""
    gc.set_threshold(*RARELY)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _rarely() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(*RARELY)
    try:
        yield
    finally:
        gc.set_threshold(*before)
