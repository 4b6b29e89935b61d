"""Tier tables of profiles: the price of the exact arguments, and what has none is refused by name."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from chimera.events.records import EffectProposal, effect_body
from chimera.mcp.profiles import BadArguments, load_profiles
from chimera.mcp.sandbox import ads
from chimera.mcp.tiers import TierTable, UnknownTier
from chimera.processors.judge import _cfo
from tests.histories import artifact, proposal, record

PROFILES = load_profiles()
TABLE = TierTable.model_validate(
    {"by": ["size", "clip.seconds"], "rows": [{"at": ["hd", 5], "cost_usd": "0.25"}, {"at": ["hd", 10], "cost_usd": "0.50"}]}
)


def boost(tier: str, days: int, cost: str, **more: Any) -> EffectProposal:
    fields = {"capability": "ads.boost", "profile": "ads", "arguments": {"post_id": "1", "tier": tier, "days": days}} | more
    return proposal(input_version=3, effect_class="paid", cost=Decimal(cost), **fields)


def vote(effect: EffectProposal) -> tuple[str, list[str], str]:
    made = record(artifact(1, 1, 1, 3, effect), 0, 0)
    price = lambda e: PROFILES.price(e.profile, e.capability, e.mode, e.arguments)  # noqa: E731
    verdict, _ = _cfo(made, price)
    return verdict.decision, verdict.failed_rules, " ".join(verdict.reasons)


def test_a_price_is_found_by_the_values_of_the_arguments_wherever_they_lie() -> None:
    assert TABLE.price({"size": "hd", "clip": {"seconds": 10}, "prompt": "soup"}) == Decimal("0.50")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"size": "4k", "clip": {"seconds": 5}}, "no price for size '4k', clip.seconds '5'"),
        ({"size": "hd", "clip": {"seconds": 6}}, "no price for size 'hd', clip.seconds '6'"),
        ({"size": "hd"}, "no price for size 'hd', clip.seconds ''"),
        ({"size": "hd", "clip": 5}, "clip.seconds ''"),
    ],
)
def test_what_is_in_no_row_is_refused_by_name_with_what_there_is(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(UnknownTier) as refusal:
        TABLE.price(arguments)
    assert named in str(refusal.value)
    assert "priced by size, clip.seconds are: hd 5; hd 10" in str(refusal.value)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"at": ["hd"], "cost_usd": "1"}], "has 1 values"),
        ([{"at": ["hd", 5], "cost_usd": "1"}, {"at": ["hd", "5"], "cost_usd": "2"}], "is priced twice"),
        ([{"at": ["hd", 5], "cost_usd": "-1"}], "is no amount"),
        ([{"at": ["hd", 5], "cost_usd": "cheap"}], "is no amount"),
        ([{"at": ["hd", 5], "cost_usd": "NaN"}], "is no amount"),
        ([], "at least 1"),
    ],
)
def test_a_table_that_cannot_be_read_in_one_way_only_is_no_profile(rows: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        TierTable.model_validate({"by": ["size", "seconds"], "rows": rows})


@pytest.mark.parametrize("tier", ads.RATES_USD)
@pytest.mark.parametrize("days", ads.SHARES)
def test_the_shipped_table_says_what_the_platform_bills(tier: str, days: int) -> None:
    call = PROFILES.render("ads.boost", {"post_id": "1", "tier": tier, "days": days}, platform="x")
    assert call.cost_usd == ads.price(tier, days) == PROFILES.price("ads", "ads.boost", "sandbox", call.arguments)


def test_a_call_without_a_price_is_not_rendered() -> None:
    with pytest.raises(BadArguments, match=r"ads.boost \(ads.boostPost\): there is no price for tier 'huge', days '1'"):
        PROFILES.render("ads.boost", {"post_id": "1", "tier": "huge", "days": 1}, platform="x")


def test_the_cfo_holds_the_cost_against_the_tier_and_fails_an_unknown_one_by_name() -> None:
    assert vote(boost("small", 3, "12.50"))[:2] == ("pass", [])
    assert vote(boost("small", 3, "12.49"))[:2] == ("fail", ["price"])
    assert vote(boost("small", 3, "12.51"))[0] == "people"
    decision, failed, why = vote(boost("huge", 3, "12.50"))
    assert (decision, failed) == ("fail", ["tier"])
    assert "no price for tier 'huge', days '3'" in why
    assert vote(boost("small", 3, "12.50", profile="gone"))[0] == "people"


def test_the_price_is_part_of_what_is_hashed_and_shown() -> None:
    assert effect_body(boost("small", 3, "12.50"))["max_cost_usd"] == "12.50"
