"""What librdkafka has to say, in our log and in bounded amounts: a broker that is away makes it say the same 30 times a second.

The rule not to break: nothing is dropped silently; what was held back is counted in the next line of its kind.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

EVERY_S = 10.0
"""One line of a kind in this time."""


class ClientLog:
    """A `logger` for librdkafka clients: lines go to `log`, at most one of a kind in ten seconds."""

    def __init__(self, log: logging.Logger, now: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._now = now
        self._said: dict[object, float] = {}
        self._held: dict[object, int] = {}

    def log(self, level: int, message: str, *args: object) -> None:
        """Called by librdkafka with (facility, client, text); the facility and client are the kind."""
        kind, now = args[:2], self._now()
        if now - self._said.get(kind, -EVERY_S) < EVERY_S:
            self._held[kind] = self._held.get(kind, 0) + 1
            return
        self._said[kind] = now
        held = self._held.pop(kind, 0)
        if held:
            self._log.log(level, f"{message} (and %d more like it)", *args, held)
        else:
            self._log.log(level, message, *args)
