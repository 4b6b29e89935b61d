"""Which card a reviewer should open first: risk x deadline x blast radius, from what the card itself says.

The rule not to break: the score orders a queue and decides nothing; it stands beside a card, never in what was shown of it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from chimera.commands.cards import Card

RISK_BY_CLASS = {"publish": 1.0, "paid": 2.0, "financial": 4.0}
RISK_BY_WHY = {"sensitive": 2.0, "judge": 1.5, "bad_value": 1.5, "taint": 1.5, "new_payee": 2.0, "cfo": 1.5, "amount": 1.5}
"""Reasons that are not named weigh 1: the thresholds, shadow and the audit sample say nothing about the text."""
RISK_BY_TAINT = {"owner": 1.0, "allowlisted": 1.1, "open": 1.5}
REACH_BY_MODE = {"dry_run": 0.5, "sandbox": 1.0, "live": 3.0}
REACH_OF_ANSWER = 0.5
"""An answer in a thread is read by fewer than a post of its own."""
WAITING_BEHIND = 0.1
"""Each task that waits for this one adds so much reach."""
NEAR_END = 4.0
"""A card weighs so many times more at its end than when it was opened: then it closes as a no that nobody meant."""


class Place(NamedTuple):
    """Where a card stands in the queue. `expires_ts`: broker time at which it closes by itself, as gates are now."""

    score: float
    risk: float
    deadline: float
    reach: float
    expires_ts: int


def expires_ts(card: Card, now_ms: int) -> int:
    """When the card closes by itself if nothing holds it from now on (law: Expired; held time counts towards no expiry)."""
    policy = card.agent.policy
    if policy is None or not card.effect.opened_ts:
        return 0
    return card.effect.opened_ts + policy.inline.expiry_ms + card.campaign.held(now_ms) - card.effect.opened_held


def place(card: Card, mode: str, now_ms: int) -> Place:
    """The card's place; `mode` is that of its call (sandbox, dry_run, live)."""
    effect = card.effect
    risk = (
        RISK_BY_CLASS.get(effect.effect_class, max(RISK_BY_CLASS.values()))
        * RISK_BY_WHY.get(card.why, 1.0)
        * RISK_BY_TAINT.get(effect.taint, max(RISK_BY_TAINT.values()))
        * (1.0 + float(min(Decimal(9), effect.max_cost / 10)))
    )
    ends = expires_ts(card, now_ms)
    lasts = ends - effect.opened_ts
    passed = min(1.0, max(0.0, (now_ms - effect.opened_ts) / lasts)) if lasts > 0 and effect.opened_ts else 0.0
    deadline = 1.0 + (NEAR_END - 1.0) * passed
    behind = sum(card.task.ordinal in other.depends_on for other in card.campaign.tasks.values())
    reach = REACH_BY_MODE.get(mode, max(REACH_BY_MODE.values())) * (1.0 + WAITING_BEHIND * behind)
    if effect.thread is not None:
        reach *= REACH_OF_ANSWER
    return Place(round(risk * deadline * reach, 3), round(risk, 3), round(deadline, 3), round(reach, 3), ends)
