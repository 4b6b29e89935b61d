"""The CFO judge: what stops an effect that costs, what asks people, and to the cent where one begins and the other ends."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from chimera.mcp.profiles import load_profiles
from chimera.policy.money import judge_money
from tests.histories import proposal

PRICE = Decimal("2.00")


def paid(cost: str = "2", **fields: Any) -> Any:
    return proposal(input_version=1, cost=Decimal(cost), **{"effect_class": "paid", **fields})


def transfer(to: str | None = "0xabc", arguments: Any = None, cost: str = "2") -> Any:
    arguments = {"transfer": [{"to": "0xabc", "usd": "2"}]} if arguments is None else arguments
    return paid(cost, effect_class="financial", payee=to, arguments=arguments)


def test_a_call_at_its_price_passes_without_an_opinion() -> None:
    made = judge_money(paid(), PRICE)
    assert (made.decision, made.confidence, made.failed_rules, made.reasons) == ("pass", 1.0, [], [])


@pytest.mark.parametrize(("cost", "decision"), [("1.99", "fail"), ("2", "pass"), ("2.01", "people")])
def test_less_than_the_price_would_not_cover_it_and_more_is_asked_about(cost: str, decision: str) -> None:
    assert judge_money(paid(cost), PRICE).decision == decision


def test_a_call_without_a_known_price_is_asked_about() -> None:
    made = judge_money(paid(), None)
    assert made.decision == "people"
    assert "price_unknown" in made.reasons[0]


def test_money_goes_to_the_payee_that_funds_were_asked_for_or_nowhere() -> None:
    assert judge_money(transfer(), Decimal(0)).decision == "pass"
    assert judge_money(transfer(arguments={"to": "0xevil"}), Decimal(0)).failed_rules == ["payee_argument"]
    assert judge_money(transfer(arguments={"memo": "for 0xabc", "to": "0xevil"}), Decimal(0)).failed_rules == ["payee_argument"]
    assert judge_money(transfer(to=None), Decimal(0)).failed_rules == ["payee"]
    assert judge_money(transfer(cost="0"), Decimal(0)).failed_rules == ["amount"]


def test_the_price_is_the_profiles_by_mode_and_unknown_where_it_offers_nothing() -> None:
    profiles = load_profiles()
    assert profiles.price("x", "social.publish", "sandbox") == 0
    assert profiles.price("x", "social.publish", "live") == Decimal("0.01")
    assert profiles.price("x", "social.publish", "dry_run") == Decimal("0.01")
    assert profiles.price("x", "wallet.transfer", "live") is None
    assert profiles.price("nobody", "social.publish", "live") is None
