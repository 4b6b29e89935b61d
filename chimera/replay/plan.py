"""What a build would read, need and take, and what forbids it: pure, on facts that `chimera.replay.survey` gathered.

The rule not to break: a plan names its cluster and its end offsets; who carries it out checks both again first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from chimera.errors import ChimeraError

Ends = Mapping[str, Mapping[int, int]]
"""Topic -> partition -> offset."""

RECORDS_PER_S = 9_000
"""What one process is taken to build in a second, where no build has been measured here yet."""
BYTES_PER_RECORD = 2_800
"""Of all tables and indexes, where there are too few rows to know better."""
ROOM = 1.25
"""Free space wanted, in units of the estimate: sorting for indexes and the server's own log need some too."""


class Refused(ChimeraError):
    """A verb that would be wrong now; the message says what to do instead."""


class Facts(NamedTuple):
    """What a plan is made of."""

    cluster: str
    begins: Ends
    ends: Ends
    live: Ends
    """Up to where the live read models are."""
    live_bytes: int
    free_bytes: int | None
    """On the database's disk; None where it is on another machine."""
    measured: float | None = None
    """Records per process and second of the last build here."""


class Plan(NamedTuple):
    """What a build is to do."""

    cluster: str
    ends: Ends
    records: int
    bytes: int
    seconds: float
    """By one process."""
    free_bytes: int | None
    models: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """As kept in the database and printed."""
        ends = {topic: {str(p): offset for p, offset in sorted(of.items())} for topic, of in self.ends.items()}
        return {**self._asdict(), "ends": ends, "models": list(self.models)}


def plan_from(said: Mapping[str, Any]) -> Plan:
    """The plan that `as_json` wrote."""
    ends = {topic: {int(p): int(offset) for p, offset in of.items()} for topic, of in said["ends"].items()}
    return Plan(**{**said, "ends": ends, "models": tuple(said["models"])})


def total(ends: Ends) -> int:
    """Records below these offsets."""
    return sum(sum(of.values()) for of in ends.values())


def make_plan(facts: Facts, models: Iterable[str]) -> Plan:
    """A build of everything up to the log's end as it is now. Raises `Refused` where records are missing."""
    _whole(facts.begins)
    records, known = total(facts.ends), total(facts.live)
    per_record = facts.live_bytes / known if known >= 10_000 else BYTES_PER_RECORD
    return Plan(
        cluster=facts.cluster,
        ends=facts.ends,
        records=records,
        bytes=round(records * per_record),
        seconds=round(records / (facts.measured or RECORDS_PER_S), 1),
        free_bytes=facts.free_bytes,
        models=tuple(models),
    )


def check(plan: Plan, facts: Facts) -> None:
    """May the plan be carried out as things are now? Raises `Refused`."""
    if plan.cluster != facts.cluster:
        raise Refused(
            f"the plan was made against Kafka cluster {plan.cluster}, this is {facts.cluster}: set CHIMERA_KAFKA to the plan's"
            " cluster, or make a new plan here (`chimera replay plan`)"
        )
    _whole(facts.begins)
    for topic, of in plan.ends.items():
        for partition, offset in of.items():
            end = facts.ends.get(topic, {}).get(partition, 0)
            if offset > end:
                raise Refused(
                    f"offset out of range: the plan reads {topic}[{partition}] up to {offset}, but the log ends at {end}."
                    " It lost its end, or is another one: make a new plan (`chimera replay plan`) when that is understood"
                )
    enough_room(plan.bytes, facts.free_bytes)


def enough_room(needed: int, free: int | None) -> None:
    """Raises `Refused` where the disk is too small."""
    if free is not None and free < needed * ROOM:
        raise Refused(
            f"low disk: the build needs about {size(needed)}, and a quarter more to be safe, but {size(free)} are free where the"
            " database is: free some, or drop older builds (`chimera replay gc`)"
        )


def _whole(begins: Ends) -> None:
    for topic, of in begins.items():
        for partition, offset in of.items():
            if offset > 0:
                raise Refused(
                    f"{topic}[{partition}] begins at offset {offset}: what came before was cut off, so the read models cannot be"
                    " built from this log. Restore the partition first"
                )


def matching(agents: Sequence[tuple[str, str, str]], agent: str | None, tenant: str | None) -> list[tuple[str, str, str]]:
    """Of (stream key, name, tenant) those that the selector means. Raises `Refused` where it means none."""
    found = [a for a in agents if (agent is None or agent in a[:2]) and (tenant is None or tenant == a[2])]
    if found:
        return found
    wanted = " ".join(f"{word} '{value}'" for word, value in (("agent", agent), ("tenant", tenant)) if value is not None)
    known = sorted({a[1] if agent is not None else a[2] for a in agents})
    there = ", ".join(known[:8]) + (f" and {len(known) - 8} more" if len(known) > 8 else "")
    raise Refused(f"the selector {wanted} matches nothing; there are {there or 'no agents at all'}")


def moment(text: str) -> datetime:
    """A point in time that says its zone. Raises `Refused`."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(f"'{text}' is no time: write it as 2026-11-22T14:00:00+01:00 or 2026-11-22T13:00:00Z") from None
    if at.tzinfo is None:
        raise Refused(f"'{text}' says no time zone, so it may mean several moments: write {text}Z for UTC, or {text}+01:00")
    return at.astimezone(UTC)


def shares(ends: Mapping[int, int], done: Mapping[int, int], processes: int) -> list[list[int]]:
    """The partitions with records left, dealt to so many processes: the largest first, each to whoever has least."""
    left = sorted(((end - done.get(p, 0), p) for p, end in ends.items() if end > done.get(p, 0)), reverse=True)
    hands: list[tuple[int, list[int]]] = [(0, []) for _ in range(max(1, min(processes, len(left))))]
    for records, partition in left:
        n = min(range(len(hands)), key=lambda i: hands[i][0])
        hands[n] = (hands[n][0] + records, [*hands[n][1], partition])
    return [sorted(hand) for _, hand in hands if hand]


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TB"
