"""What must hold however much was broken: judged by the platform's own books against the log.

The rule not to break: the oracle asks nobody whom the fault could have misled; it compares two records of the same thing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from chimera.events.records import EffectClaimed, EffectEnded
from tests.e2e.house import House, accounts


def executed(house: House, names: Sequence[str]) -> dict[str, tuple[str, int, int, int]]:
    """Effect hash -> (agent key, campaign, ordinal, attempt) of effects that ended as executed."""
    hashes = {}
    for seen in house.records("EffectClaimed", names):
        d = seen.record.data
        assert isinstance(d, EffectClaimed)
        hashes[(seen.record.key, d.campaign, d.ordinal, d.attempt)] = d.effect_hash
    ended = {}
    for seen in house.records("EffectEnded", names):
        d = seen.record.data
        assert isinstance(d, EffectEnded)
        if d.outcome == "executed":
            place = (seen.record.key, d.campaign, d.ordinal, d.attempt)
            assert hashes[place] not in ended, f"{place} is executed twice on the log"
            ended[hashes[place]] = place
    return ended


def every_effect_happened_once(house: House, names: Sequence[str]) -> None:
    """The platform holds exactly the executed effects, each once, under the hash that was approved."""
    ended = executed(house, names)
    marks = ",".join("?" * len(names))
    keys = Counter(key for (key,) in house.platform(f"SELECT key FROM keys WHERE account IN ({marks})", *accounts(names)))
    assert keys == Counter(ended.keys()), "what the platform did and what the log says was executed differ"
    posts = house.posts(accounts(names))
    assert len(posts) == len(ended), "posts without an executed effect, or the other way round"
    assert len(set(posts)) == len(posts), "the same words were posted twice"
    assert set(house.calls(accounts(names))) >= set(ended)


def no_task_is_lost(house: House, names: Sequence[str], campaigns: int = 1) -> None:
    """Every campaign has completed and each of its tasks is done or visibly closed."""
    rows = house.campaigns(names)
    assert len(rows) == campaigns * len(names)
    assert {row.status for row in rows} == {"completed"}
    assert {status for row in rows for status in row.tasks.values()} <= {"done", "closed", "dropped"}
    assert all(row.reasons[ordinal] for row in rows for ordinal, status in row.tasks.items() if status == "closed")


def plans(house: House, names: Sequence[str]) -> Counter[Any]:
    """(agent, campaign, round) -> plans that count."""
    return Counter((s.record.key, s.record.data.campaign, s.record.data.round) for s in house.records("PlanDrafted", names))  # type: ignore[union-attr]


def no_effect_happened_twice(house: House, names: Sequence[str]) -> None:
    """The platform was called at most once for each effect; what it did is executed on the log or unknown there, and no more."""
    calls = house.calls(accounts(names))
    assert set(calls.values()) <= {1}, "an effect was called twice"
    posts = house.posts(accounts(names))
    assert len(set(posts)) == len(posts), "the same words were posted twice"
    known, unknown = set(executed(house, names)), {card.effect.hash for card in house.cards(names, ("unknown",))}
    marks = ",".join("?" * len(names))
    keys = Counter(key for (key,) in house.platform(f"SELECT key FROM keys WHERE account IN ({marks})", *accounts(names)))
    assert set(keys.values()) <= {1}
    assert known <= set(keys) <= known | unknown, "what the platform did and what the log says was executed differ"
