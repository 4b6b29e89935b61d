"""Bundles and briefs: what parses, what the fold gets, and how mistakes are explained."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from chimera.errors import ChimeraError
from chimera.policy.boardkit import digest, inline, load_text, parse_rules, parse_soul
from chimera.policy.brief import Brief, load_brief, parse_brief
from chimera.policy.documents import DocumentError

ROOT = Path(__file__).resolve().parents[2]
MINIMAL = "---\nboardkit: 1\nname: small\napprovers: {publish: [kim]}\n---\nProse.\n"
BRIEF = """name: Soup
goal: Show people how to cook soup
audience: people who cook
key_messages: [Soup is easy]
feeds: [feed.xml]
formats:
  - {platform: x, format: post}
"""


@pytest.mark.parametrize("path", [ROOT / "policies/AGENTS.md", ROOT / "examples/AGENTS.md"])
def test_the_shipped_policies_parse_and_give_the_fold_its_numbers(path: Path) -> None:
    rules = parse_rules(load_text(path), str(path))
    numbers = inline(rules)
    assert (numbers.approve_above, numbers.people_from) == (0.90, 0.70)
    assert numbers.approvers["publish"] == ["kim", "lee"]
    assert numbers.people["financial"] == 2
    assert numbers.sensitive_tags == ["finance", "health", "politics"]
    assert numbers.undo_ms == rules.undo_s * 1000
    assert rules.prose


@pytest.mark.parametrize("path", [ROOT / "policies/SOUL.md", *sorted((ROOT / "examples/souls").glob("*.md"))])
def test_the_shipped_personas_parse(path: Path) -> None:
    soul = parse_soul(load_text(path), str(path))
    assert soul.handles["x"]
    assert soul.prose


def test_seconds_and_money_reach_the_fold_in_its_units() -> None:
    text = MINIMAL.replace(
        "name: small",
        'name: small\nundo_s: 2\nfrequency: {x: {claims: 3, window_s: 60}}\namount_tiers: [{amount_usd: "10.5", people: 2}]',
    )
    numbers = inline(parse_rules(text))
    assert numbers.undo_ms == 2000
    assert (numbers.frequency["x"].claims, numbers.frequency["x"].window_ms) == (3, 60_000)
    assert numbers.amount_tiers[0].amount_usd == Decimal("10.5")


def test_a_bundle_is_named_by_its_exact_text() -> None:
    assert digest(MINIMAL) == digest(MINIMAL)
    assert digest(MINIMAL) != digest(MINIMAL + " ")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("no fence at all", ["AGENTS.md, line 1", "begin the file with a line '---'"]),
        ("---\nboardkit: 1\n", ["never closed", "add a line '---'"]),
        ("---\nboardkit: [1\n---\n", ["line 2", "not valid YAML"]),
        ("---\n- a\n---\n", ["expected fields", "list"]),
        ("---\n---\n", ["found nothing"]),
        (MINIMAL.replace("boardkit: 1\n", ""), ["field 'boardkit'", "is missing: add it"]),
        (MINIMAL.replace("name: small", "nam: small"), ["line 3, field 'nam'", "not a known field"]),
        (
            MINIMAL.replace("name: small", "name: small\napprove_above: 1.5"),
            ["line 4, field 'approve_above'", "less than or equal to 1"],
        ),
        (MINIMAL.replace("name: small", "name: small\napprove_above: .nan"), ["field 'approve_above'", "finite"]),
        (MINIMAL.replace("name: small", "name: small\npeople_from: 0.95"), ["people_from is above approve_above"]),
        (MINIMAL.replace("[kim]", "[]"), ["approvers.publish names nobody"]),
        (MINIMAL.replace("name: small", "name: small\npeople: {publish: 2}"), ["asks for 2", "names 1"]),
        (MINIMAL.replace("Prose.", "x" * 17_000), ["more than 16384", "shorten"]),
    ],
)
def test_a_policy_that_cannot_be_used_is_explained_with_place_and_way_out(text: str, says: list[str]) -> None:
    with pytest.raises(DocumentError) as caught:
        parse_rules(text)
    assert isinstance(caught.value, ChimeraError)
    assert "\n" not in str(caught.value)
    for part in says:
        assert part in str(caught.value)


def test_a_brief_makes_its_feeds_absolute_and_survives_json() -> None:
    brief = parse_brief(BRIEF.replace("[feed.xml]", "[feed.xml, https://a.example/rss]"), base=Path("/data"))
    assert brief.feeds == ["/data/feed.xml", "https://a.example/rss"]
    assert Brief.model_validate(brief.model_dump(mode="json")) == brief


def test_the_example_brief_loads_with_typed_criteria() -> None:
    brief = load_brief(ROOT / "examples/briefs/autumn.yaml")
    assert len(brief.feeds) == 2
    assert {c.kind for c in brief.acceptance} == {"links_source", "quotes_source", "max_hashtags", "min_words"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("goal: [", ["not valid YAML", "line 1"]),
        (BRIEF.replace("goal: Show people how to cook soup\n", ""), ["field 'goal'", "is missing"]),
        (BRIEF.replace("feeds: [feed.xml]", "feeds: []"), ["line 5, field 'feeds'"]),
        (BRIEF + "  - {platform: x, format: post}\n", ["formats", "x/post twice"]),
        (BRIEF + "acceptance: [{kind: sings}]\n", ["line 8, field 'acceptance.0'", "sings"]),
        (BRIEF + "acceptance:\n  - {kind: min_words, n: -1}\n", ["line 9, field 'acceptance.0.min_words.n'", "greater than 0"]),
        (BRIEF + "feeeds: [x]\n", ["line 8, field 'feeeds'", "not a known field"]),
    ],
)
def test_a_brief_that_cannot_be_used_is_explained_with_place_and_way_out(text: str, says: list[str]) -> None:
    with pytest.raises(DocumentError) as caught:
        parse_brief(text, "soup.yaml")
    for part in ["soup.yaml", *says]:
        assert part in str(caught.value)


def test_a_brief_whose_feed_file_is_missing_says_which(tmp_path: Path) -> None:
    (tmp_path / "soup.yaml").write_text(BRIEF)
    with pytest.raises(DocumentError, match=r"feed '.*feed\.xml' is not a file: correct the path"):
        load_brief(tmp_path / "soup.yaml")


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"nothing\.md: cannot be read"):
        load_text(tmp_path / "nothing.md")
    (tmp_path / "bytes.md").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DocumentError, match="UTF-8"):
        load_text(tmp_path / "bytes.md")


def test_a_bundle_is_parsed_once_for_all_jobs_that_read_it() -> None:
    text = load_text(ROOT / "examples" / "souls" / "ava.md")
    assert parse_soul(text) is parse_soul(text)
