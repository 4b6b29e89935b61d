"""The CFO judge's rules: is what an effect may cost right, and does it go where it says? Pure, no opinion of a model.

The rule not to break: nothing here holds money. The tenant's ledger does (amounts in windows, payees, new ones), and the fold
counts people; a rule here can only stop an effect or ask people.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from chimera.events.records import EffectProposal
from chimera.policy.routing import Verdict
from chimera.policy.writing import reason


def judge_money(effect: EffectProposal, price_usd: Decimal | None) -> Verdict:
    """The vote on an effect that costs, is paid or is financial.

    `price_usd` is what the profile's table or quote says that exactly this call costs, None where it says nothing.
    """
    failed: list[str] = []
    reasons: list[str] = []

    def fail(rule: str, found: str, why: str) -> None:
        failed.append(rule)
        reasons.append(reason(rule, found, why))

    cost = effect.max_cost_usd
    if price_usd is not None and cost < price_usd:
        fail("price", str(cost), f"the call costs {price_usd}: ask for at least as much")
    if effect.effect_class == "financial" and cost <= 0:
        fail("amount", str(cost), "money is moved, so its amount is above nothing: state it as the highest cost")
    if effect.effect_class == "financial" and not effect.payee:
        fail("payee", "", "money is moved, so it goes to somebody: name the payee")
    if effect.payee and not _names(effect.arguments, effect.payee):
        fail(
            "payee_argument",
            effect.payee,
            "the call names another receiver, or none: it must be the payee that funds are asked for",
        )
    if failed:
        return Verdict("fail", 1.0, 1.0, [], failed, reasons)
    if price_usd is None:
        asked = reason("price_unknown", effect.tool, "no table or quote says what this call costs: people decide")
        return Verdict("people", 1.0, 1.0, [], [], [asked])
    if cost > price_usd and effect.effect_class != "financial":  # the amount that is moved comes on top of what the call costs
        asked = reason("price", str(cost), f"the call costs {price_usd}, less than was asked for: people decide")
        return Verdict("people", 1.0, 1.0, [], [], [asked])
    return Verdict("pass", 1.0, 1.0, [], [], [])


def _names(arguments: Any, payee: str) -> bool:
    """Is the payee one of the values, as a whole?"""
    if isinstance(arguments, dict):
        return any(_names(value, payee) for value in arguments.values())
    if isinstance(arguments, list):
        return any(_names(value, payee) for value in arguments)
    return bool(arguments == payee)
