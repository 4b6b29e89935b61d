"""Memory after a long read: given back, and what stays is left alone by the collector."""

from __future__ import annotations

import ctypes
import gc
import sys

_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def save_memory() -> None:
    """What reading the log left behind goes back, and what was folded, which stays for long, is walked by the collector no more."""
    gc.collect()
    gc.freeze()
    if _LIBC is not None and hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)
