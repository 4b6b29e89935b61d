"""Who has which card open right now. Held in memory: it is a courtesy between people, not a lock.

The rule not to break: nothing is decided by it; whoever is not seen for `GONE_S` is not there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from chimera.control.accounts import Login

GONE_S = 45.0
"""An open card tells of itself every 20 s."""


class Look(NamedTuple):
    """One login at one card."""

    name: str
    card: str
    until: float


class Presence:
    """One look per login, the last. `now`: seconds that only go forward."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._looks: dict[str, Look] = {}

    def looks(self, login: Login, card: str) -> set[str]:
        """This login has that card open; the tokens of others for whom that is news: at this card, or at the one it left."""
        now = self._now()
        self._looks = {token: look for token, look in self._looks.items() if look.until > now}
        before = self._looks.get(login.csrf)
        self._looks[login.csrf] = Look(login.principal.name, card, now + GONE_S)
        if before is not None and before.card == card:
            return set()
        about = {card, before.card if before is not None else card}
        return {token for token, look in self._looks.items() if token != login.csrf and look.card in about}

    def others(self, login: Login, card: str) -> list[str]:
        """Who else has it open, by name."""
        now = self._now()
        return sorted(
            {look.name for token, look in self._looks.items() if token != login.csrf and look.card == card and look.until > now}
            - {login.principal.name}
        )
