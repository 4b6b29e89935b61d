"""When is the swarm quiet? No role owes a job now, no timer within five seconds, and the read models have caught up.

The rule not to break: quiet is read from what the processes say of themselves and from the broker's end offsets, never from time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from chimera.commands.keys import LOG
from chimera.eventlog.read import end_offsets

FRESH_S = 5.0
TIMER_MS = 5_000
ROLE_SETS = ("brain", "gate")


class Quiet(NamedTuple):
    """Whether the swarm is quiet, and if not, what it still does."""

    is_quiet: bool
    why_not: str


def statuses(home: Path) -> list[dict[str, Any]]:
    """What each running role process last said of itself; those of dead processes are left out."""
    found = []
    for path in sorted((home / "run").glob("*.json")):
        try:
            status = json.loads(path.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            continue  # it ended, or is being replaced, this moment
        if isinstance(status, dict) and time.time() - status.get("at", 0) < FRESH_S:
            found.append(status)
    return found


def is_quiet(kafka: str, home: Path, lag: Mapping[int, int]) -> Quiet:
    """Judge from the status files, the broker's end offsets and the read models' lag."""
    told = statuses(home)
    ends = end_offsets(kafka, LOG)
    for role_set in ROLE_SETS:
        ours = [status for status in told if status["role_set"] == role_set]
        served = {p: status["offsets"].get(str(p), 0) for status in ours for p in status["partitions"]}
        missing = [p for p in ends if p not in served]
        if missing:
            return Quiet(False, f"{role_set} does not serve {len(missing)} partitions yet")
        behind = sum(max(0, ends[p] - served[p]) for p in ends)
        if behind:
            return Quiet(False, f"{role_set} has {behind} records to fold")
        if not all(status["idle"] for status in ours):
            return Quiet(False, f"{role_set} works on {sum(status['running'] for status in ours)} jobs")
        wakes = [status["next_wake_ms"] for status in ours if status["next_wake_ms"] is not None]
        if wakes and min(wakes) <= TIMER_MS:
            return Quiet(False, f"{role_set} has a timer in {min(wakes) / 1000:.1f} s")
    unprojected = sum(lag.values())
    return Quiet(not unprojected, f"{unprojected} records are not projected yet" if unprojected else "")
