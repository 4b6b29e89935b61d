"""Partitions shared out among processes, each with a fold of its own. The rule not to break: a partition has one reader."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any, TypeVar

from chimera.projections.tuned import tuned

T = TypeVar("T")
WORTH = 50_000
"""Records from which on another process saves more than its start costs."""


def shared_out(partitions: Iterable[int], upto: Mapping[int, int], processes: int) -> list[list[int]]:
    """Partitions with records in them, in at most so many shares of about the same length; in one where they are few."""
    wanted = sorted(partitions, key=lambda p: -upto[p])
    if sum(upto[p] for p in wanted) < WORTH:
        processes = 1
    shares: list[list[int]] = [[] for _ in range(max(1, processes))]
    for p in wanted:
        if upto[p]:
            min(shares, key=lambda share: sum(upto[q] for q in share)).append(p)
    return [share for share in shares if share] or [[]]


def side_by_side(work: Callable[..., T], calls: Iterable[tuple[Any, ...]]) -> Iterator[T]:
    """The answers of `work(*call)` of each call in a process of its own, as they come. Raises what the first to fail raised."""
    every = list(calls)
    with ProcessPoolExecutor(len(every), mp_context=get_context("spawn"), initializer=tuned) as pool:
        for done in as_completed([pool.submit(work, *call) for call in every]):
            yield done.result()
