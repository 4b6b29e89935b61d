"""What folded agents cost in memory, made less.

The rule not to break: what is shared is frozen; nobody writes into what others see.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterable

from chimera.events.partition import PartitionFold
from chimera.events.records import PolicyInline

_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def save_memory(folds: Iterable[PartitionFold]) -> None:
    """A fleet adopts a few policies, not one per agent: equal ones become one. What reading the log left behind goes back."""
    known: dict[str, PolicyInline] = {}
    for fold in folds:
        for agent in fold.agents.values():
            if agent.policy is not None:
                inline = agent.policy.inline  # frozen: nobody writes into what others share
                agent.policy.inline = known.setdefault(inline.model_dump_json(), inline)
    gc.collect()
    if _LIBC is not None and hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)
