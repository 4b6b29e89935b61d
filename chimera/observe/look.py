"""What a process says of itself at one moment, as plain data: made on its own loop, read by metrics, health and status files.

The rule not to break: a look is a copy. Whoever reads it holds nothing that the process may change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from chimera.events.state import Agent


@dataclass(frozen=True)
class Look:
    """One moment of one process. What does not apply to a kind of process stays empty."""

    positions: Mapping[int, int] = field(default_factory=dict)
    """Partition -> next offset to be read (a projector: to be written)."""
    dark: frozenset[int] = frozenset()
    """Partitions that are held but not served yet."""
    rulings: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    """(outcome, reason, type) -> records folded; what a start only folds again is left out."""
    jobs: Mapping[str, int] = field(default_factory=dict)
    """Role -> jobs in flight."""
    jobs_done: int = 0
    job_errors: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    """What `count_agents` says; some seconds old."""
    written: int = 0
    """Projector: records written as rows."""
    checkpoint_age_s: float | None = None
    """Seconds since this process last wrote a checkpoint; None where it keeps none."""
    snapshot_age_s: float | None = None
    """Seconds since its snapshots last stood at the end of what it folded; None where it writes none."""
    snapshot_behind: int = 0
    """Records that a restart would fold again."""
    troubles: tuple[str, ...] = ()
    """What keeps the process from going on, in words that name it."""


COUNTED = ("agents", "agents_held", "quarantined", "open_tasks", "cards", "approved", "claims_open", "unknown_effects")


def count_agents(agents: Iterable[Agent]) -> dict[str, int]:
    """The figures that an operator watches, of these agents; every name of `COUNTED` is there."""
    count: Counter[str] = Counter()
    for agent in agents:
        count["agents"] += 1
        count["agents_held"] += agent.held
        count["quarantined"] += agent.quarantine is not None
        for campaign in agent.campaigns.values():
            for task in campaign.tasks.values():
                count["open_tasks"] += task.status != "planned"
                if task.effect is not None:
                    count[_NAMES.get(task.effect.status, "")] += 1
    return {name: count[name] for name in COUNTED}


_NAMES = {
    "people": "cards",
    "approved": "approved",
    "claimed": "claims_open",
    "submitted": "claims_open",
    "unknown": "unknown_effects",
}
