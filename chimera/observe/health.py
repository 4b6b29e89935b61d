"""When is a process well? When it answers *and gets on*: a process that lives and moves nothing is not well.

The rule not to break: slow is not ill. Only what stands still while work waits, or says itself what is wrong, is.
"""

from __future__ import annotations

from chimera.observe.lag import Lag
from chimera.observe.look import Look

SILENT_S = 10.0
"""The process's own loop speaks twice a second."""
ENDS_UNKNOWN_S = 15.0
STALLED_S = 30.0
DARK_S = 60.0


def unwell(look: Look | None, lag: Lag, now: float, *, told_at: float, ends_at: float, lit_at: float) -> list[str]:
    """Why a process is not well; empty = it is.

    Times are monotonic seconds: when it last told how it goes, when the log's ends were last known, when it last had no
    dark partition (for each, the process's start before the first).
    """
    if look is None:
        return [f"it has told nothing of itself for {now - told_at:.0f} s since it started"] if now - told_at > DARK_S else []
    found = list(look.troubles)
    if now - told_at > SILENT_S:
        found.append(f"it has told nothing of itself for {now - told_at:.0f} s: its loop is stuck")
    if now - ends_at > ENDS_UNKNOWN_S:
        found.append(f"Kafka has not told where the log ends for {now - ends_at:.0f} s")
    if look.dark and now - lit_at > DARK_S:
        found.append(f"{len(look.dark)} partitions are held but not served for {now - lit_at:.0f} s: catching up does not end")
    standing = sorted(lag.stalled(now, STALLED_S).items())
    if standing:
        (partition, seconds), more = standing[0], len(standing) - 1
        at, end = lag.where(partition)
        others = f", and {more} more partitions stand too" if more else ""
        found.append(f"partition {partition} stands at {at} for {seconds:.0f} s while the log ends at {end}{others}")
    return found
