"""Two policies compared by meaning: direction, words, and nothing left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
import typer
from typer.testing import CliRunner

from chimera.cli import policy
from chimera.cli.editions import share_ppm
from chimera.policy.boardkit import Rules, load_text, parse_rules
from chimera.policy.compare import UNNAMED, WORDS, Difference, differences

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "policies/AGENTS.md"


def changed(**fields: Any) -> list[Difference]:
    before = parse_rules(load_text(TEMPLATE))
    return differences(before, Rules.model_validate(before.model_dump() | fields))


@pytest.mark.parametrize(
    ("fields", "field", "meaning", "direction"),
    [
        ({"approve_above": 0.85}, "approve_above", "more leaves unasked", "looser"),
        ({"approve_above": 0.95}, "approve_above", "less leaves unasked", "stricter"),
        ({"platform_thresholds": {"x": {"approve_above": 0.95}}}, "platform_thresholds.x", "thresholds of its own", "stricter"),
        ({"shadow": True}, "shadow", "people see everything", "stricter"),
        ({"auto_financial_usd": "1"}, "auto_financial_usd", "larger payments need no people", "looser"),
        ({"frequency": {"x": {"claims": 5, "window_s": 3600}}}, "frequency.x.claims", "fewer effects on one account", "stricter"),
        ({"frequency": {}}, "frequency.x", "without a limit of its own", "looser"),
        ({"taint_auto": {"publish": "open", "reply": "open"}}, "taint_auto.publish", "less trusted sources act unasked", "looser"),
        ({"languages": ["en", "de"]}, "languages", "de may be written", "looser"),
        ({"languages": ["de"]}, "languages", "de may be written; en may be written no more", ""),
        ({"amount_tiers": []}, "amount_tiers", "amount_usd 500 people 2 counts no more", "looser"),
        (
            {"sensitive": {"health": "health", "finance": "finance"}},
            "sensitive.politics",
            "its words raise no tag any more",
            "looser",
        ),
        ({"name": "other"}, "name", UNNAMED, ""),
    ],
)
def test_a_change_is_told_by_what_it_means(fields: dict[str, Any], field: str, meaning: str, direction: str) -> None:
    (found,) = changed(**fields)
    assert (found.field, found.meaning, found.direction) == (field, meaning, direction)


def test_the_same_rules_differ_in_nothing_and_other_prose_is_counted() -> None:
    assert changed() == []
    (found,) = changed(prose="Be kind.\nBe brief.")
    assert (found.field, found.before, found.after) == ("prose", "1 lines", "2 lines")


def test_every_name_in_the_table_is_a_field_of_the_policy() -> None:
    assert {name.partition(".")[0] for name in WORDS} <= set(Rules.model_fields)


def test_diff_prints_a_line_for_each_and_json(tmp_path: Path) -> None:
    other = tmp_path / "AGENTS.md"
    other.write_text(load_text(TEMPLATE).replace("approve_above: 0.90", "approve_above: 0.85"))
    said = CliRunner().invoke(policy.app, ["diff", str(TEMPLATE), str(other)])
    assert (said.exit_code, said.output) == (0, "approve_above 0.9 -> 0.85: more leaves unasked (looser)\n")
    said = CliRunner().invoke(policy.app, ["diff", str(TEMPLATE), str(other), "--json"])
    assert [d["field"] for d in orjson.loads(said.output)["differences"]] == ["approve_above"]
    said = CliRunner().invoke(policy.app, ["diff", str(TEMPLATE), str(TEMPLATE)])
    assert said.output == "no difference in meaning\n"


@pytest.mark.parametrize(
    ("written", "ppm"), [(None, 1_000_000), ("5%", 50_000), ("0.5%", 5_000), ("100%", 1_000_000), ("0.0001%", 1)]
)
def test_a_canary_is_a_percentage(written: str | None, ppm: int) -> None:
    assert share_ppm(written) == ppm


@pytest.mark.parametrize("written", ["0%", "101%", "5", "-1%", "0.00001%", "five"])
def test_what_is_no_share_is_refused(written: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no share"):
        share_ppm(written)
