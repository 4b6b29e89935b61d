"""Searches as material of a campaign: asked of the chosen provider, open web in all that is made from them, cited in the post."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from chimera.events import records as rec
from chimera.mcp.profiles import load_profiles
from chimera.mcp.sandbox import search
from chimera.policy.brief import Brief
from chimera.processors.searching import article_of, inputs_of, plain, title_of
from tests.swarmhouse import SwarmHouse

FEEDS = Path("examples/feeds").resolve()
KEY = "agent/11111111-1111-4111-8111-111111111111"
POLICY = """---
boardkit: 1
name: searching
approvers: {publish: [ann]}
taint_auto: {publish: open}
undo_s: 0
---
What is found may go out.
"""
SOUL = "---\nname: ava\nvoice: {tone: [plain]}\ntopics: [food, soup, squash]\n---\nCalm.\n"
BRIEF: dict[str, Any] = {
    "name": "Autumn",
    "goal": "Show people that autumn on a small budget can be rich: cook food in season.",
    "audience": "people in Marrow Bay who cook",
    "key_messages": ["Food in season costs less and tastes of something"],
    "research": {"search": ["autumn squash soup"], "news": ["harbour market"]},
    "formats": [{"platform": "x", "format": "post", "max_chars": 280}],
    "acceptance": [{"kind": "links_source"}, {"kind": "quotes_source", "min_words": 4}],
}


def run(place: Path, provider: str, root: Path = FEEDS, **brief: Any) -> SwarmHouse:
    """A swarm that worked off the brief with this provider of searches."""
    index = search.Index(place / provider, [FEEDS])
    vendors = {provider: {"brave": search.brave, "tavily": search.tavily}[provider](index)}
    profiles = load_profiles(providers={"search": provider})
    house = SwarmHouse(root, POLICY, vendors=vendors, profiles=profiles)
    house.enrol(KEY, SOUL, Brief.model_validate(BRIEF | brief), "ava_cooks")
    asyncio.run(asyncio.wait_for(house.run(), 120))
    index.close()
    return house


def made(house: SwarmHouse, kind: str) -> rec.ArtifactProduced:
    """The first artifact of a kind."""
    failed = [r.data.reason for r in house.records if isinstance(r.data, rec.WorkFailed)]
    found = [r.data for r in house.records if isinstance(r.data, rec.ArtifactProduced) and r.data.kind == kind]
    assert found, f"no {kind}: {failed}"
    return found[0]


@pytest.mark.parametrize("provider", ["brave", "tavily"])
def test_a_post_cites_what_was_searched_for_whoever_is_asked_and_carries_the_taint_of_the_web(
    tmp_path: Path, provider: str
) -> None:
    house = run(tmp_path, provider)
    research = made(house, "research")
    assert research.taint == "open"
    assert research.provenance == {"tools": ["search.news", "search.web"]}
    assert all(article["url"].startswith("https://") and article["text"] for article in research.content["articles"])
    post = made(house, "publish")
    assert post.effect is not None
    assert post.taint == "open"
    addresses = {article["url"] for article in research.content["articles"]}
    assert {source["url"] for source in post.sources} <= addresses
    assert any(url in post.effect.arguments["text"] for url in addresses), "the post links an article that was found"
    at = post.provenance["research"]
    assert house.records[at[1]].data is research, "from the words of the post a reader gets to the record that holds the article"


def test_another_provider_is_one_line_of_settings_and_changes_no_record_type(tmp_path: Path) -> None:
    types = {provider: [r.type for r in run(tmp_path, provider).records] for provider in ("brave", "tavily")}
    assert set(types["brave"]) == set(types["tavily"])
    shapes = {
        provider: set(made(run(tmp_path / "again", provider), "research").content["articles"][0])
        for provider in ("brave", "tavily")
    }
    assert shapes["brave"] == shapes["tavily"]


def test_feeds_and_searches_go_together_and_an_article_of_both_is_taken_from_the_feed(tmp_path: Path) -> None:
    feed = str(FEEDS / "harbour-courier.xml")
    house = run(tmp_path, "brave", feeds=[feed], research={"search": ["harbour market autumn squash"]})
    research = made(house, "research")
    urls = [article["url"] for article in research.content["articles"]]
    assert len(urls) == len(set(urls))
    assert (research.provenance["tools"], research.taint) == (["feeds.read", "search.web"], "open")


def test_a_search_that_finds_nothing_is_named_and_the_rest_is_worked_with(tmp_path: Path) -> None:
    feed = str(FEEDS / "field-notes.xml")
    research = made(run(tmp_path, "tavily", feeds=[feed], research={"search": ["zyxwvut qqqq"]}), "research")
    (broken,) = research.content["broken_feeds"]
    assert broken["feed"] == "search.web: zyxwvut qqqq"
    assert broken["reason"].startswith("nothing_found")
    assert research.confidence_score is not None
    assert research.confidence_score < 1


def test_one_item_with_a_hostile_link_takes_no_other_item_of_its_feed_with_it(tmp_path: Path) -> None:
    feed = tmp_path / "hostile.xml"
    text = (FEEDS / "harbour-courier.xml").read_text()
    item = "<item><title>Click</title><link>javascript:alert(1)</link><description>Some words.</description></item>"
    feed.write_text(text.replace("<item>", f"{item}<item>", 1))
    research = made(run(tmp_path, "brave", tmp_path, feeds=[str(feed)], research=None), "research")
    assert research.content["left_out"] == 1
    assert len(research.content["articles"]) > 3
    assert all(article["url"].startswith("https://") for article in research.content["articles"])


def test_markup_and_what_cannot_be_seen_leave_a_result_and_what_cannot_be_linked_is_none() -> None:
    assert plain("<strong>Squash</strong> &amp; soup\u200b for\n ten") == "Squash & soup for ten"
    assert article_of({"url": "javascript:alert(1)", "title": "a", "text": "b"}) is None
    assert article_of({"url": "https://a.example/x", "title": "a", "text": "<b></b>"}) is None


def test_a_brief_has_feeds_or_searches() -> None:
    with pytest.raises(ValidationError, match="the brief has no sources: name feeds, or queries under research"):
        Brief.model_validate({**BRIEF, "research": None})
    with pytest.raises(ValidationError, match="looks for nothing"):
        Brief.model_validate({**BRIEF, "research": {}})
    brief = Brief.model_validate(BRIEF)
    assert (title_of(brief), inputs_of(brief)["news"]) == ("Ask 2 searches", ["harbour market"])
