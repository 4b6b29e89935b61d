"""What a command service that started from snapshots has not folded itself, asked of whoever keeps it (the read models).

The rule not to break: no law rests on it. It fills lists and counts, knows who is in which group, and finds again what an old
command was answered; where it does not answer, what the folded states know is shown, and that it is not all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from chimera.errors import ChimeraError


class HistoryUnavailable(ChimeraError):
    """Whoever keeps the past cannot be asked now."""


class History(Protocol):
    """The past, read elsewhere. Everything here raises `HistoryUnavailable`, and may block for some seconds."""

    def missing(self, upto: Mapping[int, int]) -> int:
        """How many records below these offsets are not in it yet, after waiting for them a little."""

    def campaigns(self) -> list[dict[str, Any]]:
        """Rows like `views.campaign_rows`."""

    def campaign(self, id_: str) -> list[dict[str, Any]]:
        """One row per agent that has or had the campaign."""

    def campaign_ids(self) -> list[str]:
        """Every campaign id there ever was."""

    def totals(self) -> dict[str, dict[str, int]]:
        """Campaigns and tasks by status, rulings by outcome, effects by status: of all time."""

    def groups(self) -> dict[str, list[str]]:
        """Stream key -> groups."""

    def ruling(self, key: str, id_: str) -> dict[str, Any] | None:
        """What the law said of the record of that id: outcome, reason, state_version, partition, offset."""

    def newest(self, count: int, stream: str | None, type_: str | None, outcome: str | None) -> list[dict[str, Any]]:
        """The newest records (of a stream, a type, an outcome): partition, offset, outcome, reason, state_version."""
