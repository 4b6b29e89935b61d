"""What each field may say and all together may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from chimera.cli import policy
from chimera.policy.boardkit import Rules, Soul, load_text, parse_rules, parse_soul
from chimera.policy.contradictions import in_rules, in_soul

ROOT = Path(__file__).resolve().parents[2]


def found(**fields: Any) -> list[str]:
    return in_rules(Rules.model_validate(parse_rules(load_text(ROOT / "policies/AGENTS.md")).model_dump() | fields))


def test_what_the_project_ships_contradicts_itself_nowhere() -> None:
    assert found() == []
    assert in_rules(parse_rules(load_text(ROOT / "examples/AGENTS.md"))) == []
    for path in (ROOT / "policies/SOUL.md", *sorted((ROOT / "examples/souls").glob("*.md"))):
        assert in_soul(parse_soul(load_text(path))) == [], path


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"undo_s": 60, "lapse_s": 60}, "lapse_s (60) is not above undo_s (60)"),
        ({"auto_financial_usd": "500"}, "auto_financial_usd (500) reaches the tier from 500 USD"),
        ({"amount_tiers": [{"amount_usd": "500", "people": 3}]}, "approvers.paid and approvers.financial name 2 and 2"),
        (
            {"amount_tiers": [{"amount_usd": "900", "people": 2}, {"amount_usd": "500", "people": 2}]},
            "the one from 900 USD on asks for no more people",
        ),
        ({"sensitive": {"astrology": "stars"}}, "no lexicon 'astrology'"),
        ({"probation": {"decisions": 20, "window": 19}}, "probation.window (19) is below probation.decisions (20)"),
        ({"probation": {"decisions": 20, "overrides": 0.4}}, "probation.demote_above (0.3) is below probation.overrides (0.4)"),
        ({"probation": {"decisions": 20}, "shadow": True}, "shadow is true"),
        ({"watched": {"astrology": "stars"}}, "no lexicon 'astrology'"),
        ({"platform_thresholds": {"x": {"approve_above": 0.90}}}, "platform_thresholds.x.approve_above (0.9) is not above"),
        ({"tag_thresholds": {"health": {"people_from": 0.5}}}, "tag_thresholds.health.people_from (0.5) is not above people_from"),
        ({"tag_thresholds": {"health": {"people_from": 0.91}}}, "so no confidence would reach people"),
        ({"tag_thresholds": {"health": {"approve_above": 0.95}}}, "health is sensitive, so people decide whatever"),
        ({"tag_thresholds": {"gossip": {"people_from": 0.8}}}, "no lexicon in sensitive or watched raises this tag"),
        ({"platform_thresholds": {f"platform-{n}": {"people_from": 0.8} for n in range(120)}}, "more than 4096"),
    ],
)
def test_a_contradiction_is_told_with_its_fields(fields: dict[str, Any], says: str) -> None:
    (told,) = found(**fields)
    assert says in told


@pytest.mark.parametrize(
    "fields",
    [
        {"undo_s": 60, "lapse_s": 61},
        {"auto_financial_usd": "499.99"},
        {"platform_thresholds": {"x": {"approve_above": 0.9000001}}},
        {"tag_thresholds": {"health": {"people_from": 0.7000001}}},
        {"tag_thresholds": {"health": {"people_from": 0.90}}},
    ],
)
def test_one_unit_before_the_border_nothing_is_wrong(fields: dict[str, Any]) -> None:
    assert found(**fields) == []


def test_a_persona_that_likes_to_say_what_it_never_says_is_told() -> None:
    voice = {"tone": ["warm"], "sign_offs": ["Stay Lucky out there", "Unlucky you"]}
    (told,) = in_soul(Soul.model_validate({"name": "a", "voice": voice, "topics": ["t"], "taboos": ["lucky"]}))
    assert told.startswith("voice.sign_offs has 'Stay Lucky out there' and taboos has 'lucky'")


def test_lint_ends_with_3_where_a_bundle_contradicts_itself(tmp_path: Path) -> None:
    file = tmp_path / "AGENTS.md"
    file.write_text(load_text(ROOT / "policies/AGENTS.md").replace("lapse_s: 86400", "lapse_s: 30"))
    ended = CliRunner().invoke(policy.app, ["lint", str(file)])
    assert ended.exit_code == 3
    assert "raise lapse_s" in ended.output
