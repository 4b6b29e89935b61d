"""Housekeeping of the read models: parts made ahead, analysts' statements that run too long cancelled.

The rule not to break: nothing here is needed for correctness. Who projects makes the parts that it lacks, and the guards of an
analyst's role hold without a watchdog.
"""

from __future__ import annotations

import logging
import threading
import time

import psycopg

from chimera.projections import analysts, parts
from chimera.projections.checkpoints import connect

log = logging.getLogger(__name__)

WATCH_S = 2.0
AHEAD_S = 600.0


def keep(dsn: str, stop: threading.Event) -> None:
    """Until told to stop. Trouble is said and answered by trying again; several processes may do it at once."""
    ahead_at, delay = 0.0, WATCH_S
    while not stop.wait(delay):
        try:
            with connect(dsn) as connection:
                delay = WATCH_S
                while not stop.is_set():
                    if time.monotonic() >= ahead_at:
                        for name in parts.make_ahead(connection):
                            log.info("made part %s", name)
                        ahead_at = time.monotonic() + AHEAD_S
                    for role, seconds in analysts.cancel_overdue(connection):
                        log.warning("cancelled a statement of analyst %s after %.0f s", role, seconds)
                    stop.wait(WATCH_S)
        except psycopg.Error as error:
            log.warning("housekeeping: %s; trying again in %.0f s", str(error).splitlines()[0], delay)
            delay = min(delay * 2, 60.0)
