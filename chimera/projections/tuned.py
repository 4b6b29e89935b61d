"""How the interpreter is set where a whole log is folded: in the projector, in loads, and in every verb that looks back.

The rule not to break: it is for processes that do nothing else; it changes how fast they go, never what they say.
"""

from __future__ import annotations

import gc
import sys


def tuned() -> None:
    """Call it once, before the first record."""
    # Folded agents live as long as the process and a batch's rows until it is written: looking at them for garbage after every few
    # hundred objects costs a fifth.
    gc.set_threshold(1_000_000, 20, 50)
    gc.enable()  # where starting had it off
    # Who verifies or writes lets go of the interpreter for microseconds and would wait 5 ms to get it back from who folds.
    sys.setswitchinterval(0.0005)
