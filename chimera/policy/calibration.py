"""Calibration: what a raw confidence is worth, learned from what people decided. Isotonic regression by pool adjacent violators.

The rule not to break: a higher raw confidence never counts for less, and where nobody has decided yet none counts for more than it
says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

Calibration = Sequence[tuple[float, float]]
IDENTITY: Calibration = ((0.0, 0.0), (1.0, 1.0))
"""Raw -> calibrated, until people's decisions give a better table."""
MINIMUM = 100
"""Fewer decisions fit nothing: the identity stays."""
SMALLEST_BLOCK = 10
"""A step of the table rests on so many decisions at least; three approvals in a row are no certainty."""
_JUST_BELOW = 1e-4
_DIGITS = 6


class Decided(NamedTuple):
    """One decision of a person on a text: its raw confidence (0..1), and whether it was approved as it stood."""

    raw: float
    approved: bool


@dataclass
class _Block:
    low: float
    high: float
    approved: int
    n: int

    @property
    def share(self) -> float:
        return self.approved / self.n


def check_table(table: Calibration) -> None:
    """Raises ValueError for a table that is no calibration."""
    if len(table) < 2 or any(a[0] >= b[0] or a[1] > b[1] for a, b in pairwise(table)):
        raise ValueError("a calibration table needs two rows or more, raw rising and calibrated not falling")


def calibrate(raw: float, table: Calibration = IDENTITY) -> float:
    """`raw` through a monotone table of (raw, calibrated), linear between its rows, level beyond. ValueError for a bad table."""
    check_table(table)
    if raw <= table[0][0]:
        return table[0][1]
    for (x0, y0), (x1, y1) in pairwise(table):
        if raw <= x1:
            return raw if (x0, x1) == (y0, y1) else y1 if raw == x1 or y0 == y1 else y0 + (y1 - y0) * (raw - x0) / (x1 - x0)
    return table[-1][1]


def fit(decisions: Iterable[Decided], minimum: int = MINIMUM, smallest_block: int = SMALLEST_BLOCK) -> Calibration:
    """The isotonic table of some decisions; the identity where they are fewer than `minimum`.

    Each block of decisions keeps its share of approvals (so the mean over all decisions is the share that people approved), and
    below the lowest decided confidence the table says no more than the raw number. Raises ValueError for a raw value out of 0..1.
    """
    blocks = _pooled(decisions, smallest_block)
    if sum(b.n for b in blocks) < max(1, minimum):
        return IDENTITY
    rows: list[tuple[float, float]] = []
    lowest = blocks[0]
    before = lowest.low - _JUST_BELOW
    if before > 0:
        rows += [(0.0, 0.0), (round(before, _DIGITS), min(before, lowest.share))]
    for block in blocks:
        rows += [(x, block.share) for x in dict.fromkeys((block.low, block.high))]
    if len(rows) == 1:  # everything was decided at 0: there is nothing to tell apart
        rows.append((1.0, rows[0][1]))
    return rows


def _pooled(decisions: Iterable[Decided], smallest: int) -> list[_Block]:
    """Blocks of neighbouring confidences whose shares of approval rise."""
    stack: list[_Block] = []
    for raw, approved in sorted(decisions):
        if not 0 <= raw <= 1:
            raise ValueError(f"a raw confidence of {raw} is none: leave the decision out")
        if stack and stack[-1].high == raw:
            stack[-1].approved, stack[-1].n = stack[-1].approved + approved, stack[-1].n + 1
        else:
            stack.append(_Block(raw, raw, int(approved), 1))
    blocks: list[_Block] = []
    for block in stack:
        blocks.append(block)
        while len(blocks) > 1 and (blocks[-2].n < smallest or blocks[-2].share >= blocks[-1].share):
            _join(blocks)
    if len(blocks) > 1 and blocks[-1].n < smallest:
        _join(blocks)
    return blocks


def _join(blocks: list[_Block]) -> None:
    last = blocks.pop()
    first = blocks[-1]
    first.high, first.approved, first.n = last.high, first.approved + last.approved, first.n + last.n


# --- how good it is --------------------------------------------------------------------------------------------------


class Bin(NamedTuple):
    """Decisions whose confidence lies in [low, high): how many, their mean confidence, and the share approved."""

    low: float
    high: float
    n: int
    mean: float
    approved: float


def brier(decisions: Sequence[Decided], table: Calibration = IDENTITY) -> float:
    """Mean squared distance between calibrated confidence and decision: 0 is perfect, 0.25 is a coin. 0 without decisions."""
    if not decisions:
        return 0.0
    return sum((calibrate(raw, table) - approved) ** 2 for raw, approved in decisions) / len(decisions)


def reliability(decisions: Sequence[Decided], table: Calibration = IDENTITY, bins: int = 10) -> list[Bin]:
    """Calibrated confidence against what people did, in equal bins; empty ones are left out."""
    gathered: dict[int, list[tuple[float, bool]]] = {}
    for raw, approved in decisions:
        value = calibrate(raw, table)
        gathered.setdefault(min(bins - 1, int(value * bins)), []).append((value, approved))
    return [
        Bin(k / bins, (k + 1) / bins, len(g), sum(v for v, _ in g) / len(g), sum(a for _, a in g) / len(g))
        for k, g in sorted(gathered.items())
    ]
