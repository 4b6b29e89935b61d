"""How a process ends that has used obstore's coroutines.

The rule not to break: whoever opens one of its stores says so here, once per process is enough.
"""

from __future__ import annotations

import atexit
import time
from functools import cache

ENDING_S = 0.1


@cache
def end_in_order() -> None:
    """Give the threads of obstore's runtime time to let go of Python before it ends.

    What they hold of an answered call they drop a moment later, and after the interpreter has ended that aborts the process
    (SIGABRT, exit code 134; PyO3/pyo3-async-runtimes, issue 40): without this, more than one of three that end right after a call.
    """
    atexit.register(time.sleep, ENDING_S)
