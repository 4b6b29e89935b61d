"""Orders that wait to be worked on, and which of them are worked on together.

The rule not to break: no two orders for one stream share a batch, since the second is decided on what the first one changed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from chimera.commands.decision import Answer, Order

LARGEST_BATCH = 500
"""Orders that are decided, appended and followed together."""


class Ticket:
    """What one caller handed in; done by whichever thread holds the lock next."""

    def __init__(self, orders: Sequence[Order]) -> None:
        self.orders = list(orders)
        self.keys = {order.key for order in orders}
        self.answers: list[tuple[Answer, Exception | None]] = []
        self.error: Exception | None = None
        self.done = False


def next_batch(waiting: deque[Ticket]) -> list[Ticket]:
    """Takes out the tickets at the head of the queue, of which there is one, that may be worked on together."""
    batch, keys = [waiting.popleft()], set[str]()
    keys |= batch[0].keys
    while waiting and not keys & waiting[0].keys and len(keys) + len(waiting[0].keys) <= LARGEST_BATCH:
        batch.append(waiting.popleft())
        keys |= batch[-1].keys
    return batch
