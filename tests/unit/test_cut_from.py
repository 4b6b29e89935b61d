"""One set of pictures and films, cut for each platform: said once, ordered once, paid once, shown in each platform's shape."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from chimera.events import records as rec
from chimera.media.store import Asset
from chimera.policy.boardkit import load_text
from chimera.policy.brief import Brief, Format
from chimera.processors.planner import Standing, place_of, rows_for
from tests.studiohouse import AVA, EXAMPLES, StudioHouse, brief_with, run


def brief_of(media: str, /, **other: Any) -> Brief:
    """A reel on Instagram and its cut for X."""
    first = brief_with(media).formats[0].model_copy(update={"aspect": "9:16", "max_chars": None})
    second: dict[str, Any] = {"platform": "x", "format": "post", "aspect": "16:9", "cut_from": f"{first.platform}/{first.format}"}
    told = brief_with(media).model_dump(mode="json") | {"formats": [first.model_dump(mode="json"), second | other]}
    return Brief.model_validate(told)


@pytest.mark.parametrize(
    ("media", "other", "cost", "ordered", "shared"),
    [("short", {"shots": 2}, "0.93", 6, 2), ("image", {}, "0.06", 1, 1), ("video", {}, "0.31", 2, 1)],
)
def test_both_platforms_show_the_same_footage_in_their_own_shape_and_it_is_paid_once(
    media: str, other: dict[str, Any], cost: str, ordered: int, shared: int, tmp_path: Path
) -> None:
    house = StudioHouse(tmp_path)
    house.enrol(AVA, load_text(EXAMPLES / "souls/ava.md"), brief_of(media, **other), "ava")
    assert house.add(AVA, rec.AccountLinked(command_no=6, platform="instagram", account="ava.cooks"), "dee").outcome == "applied"
    run(house, house.live)
    ended = house.of(rec.EffectEnded)
    assert sum(end.cost_usd for end in ended) == Decimal(cost)
    assert sum(len(end.assets) for end in ended) == ordered
    cuts = [r.data.content for r in house.records if isinstance(r.data, rec.ArtifactProduced) and r.data.kind == "cut"]
    mine = next(cut for cut in cuts if cut["platform"] == "x")
    (asset,) = mine["assets"]
    brought = {name.partition(".")[0] for end in ended for name in end.assets}
    parents = [parent["sha256"] for parent in asset["derived_from"]]
    assert (len(parents), set(parents) <= brought, asset["cost_usd"], asset["role"]) == (shared, True, "0", "edit")
    assert asset["width"] / asset["height"] == pytest.approx(16 / 9, rel=0.05)
    (seen,) = house.x.timeline.posts("ava")
    (gram,) = house.gram.posts("ava.cooks")
    name = mine.get("film") or mine["picture"]
    assert (seen.extra["assets"], seen.text.partition("\n")[0]) == ([name], gram.caption.partition("\n")[0])
    assert gram.media != name
    assert asyncio.run(house.gate.files.store.check(Asset(asset["sha256"], name.rpartition(".")[2], asset["bytes"]))) is None
    if media == "short":
        whole = next(cut for cut in cuts if cut["platform"] == "instagram")
        assert mine["shots"] == whole["shots"][:2]
        assert set(parents) < {parent["sha256"] for parent in whole["assets"][0]["derived_from"]}
    assert not house.agents[AVA].campaigns, "the campaign is complete"


def test_a_plan_for_a_cut_alone_builds_on_what_is_done_and_orders_anew_only_what_is_gone() -> None:
    brief = brief_of("short")
    rows = rows_for(brief, 1, 1)
    made = {place_of(row.kind, row.inputs): row.ordinal for row in rows if row.inputs.get("platform") == "instagram"}
    published = {place: ordinal for place, ordinal in made.items() if place[0] == "publish"}
    added = rows_for(brief, 1, 50, Standing(published, made=made))
    assert [(row.ordinal, row.kind) for row in added] == [(50, "cut"), (51, "publish")]
    assert added[0].depends_on == [o for place, o in made.items() if place[0] in ("draft", "storyboard", "video")]
    gone = rows_for(brief, 1, 50, Standing(published))
    assert sum(row.kind == "video" for row in gone) == 3, "its own, of its own words"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"cut_from": "instagram/story"}, "is no format of another platform with media before x/post"),
        ({"platform": "instagram", "format": "story"}, "with media before instagram/story"),
        ({"media": "image"}, "x/post shows what instagram/"),
        ({"shots": 5}, "has 3 shots"),
        ({"follow_up": {"after_hours": 2}}, "says what that one says"),
    ],
)
def test_a_cut_of_what_is_not_there_is_refused_with_the_way_out(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        brief_of("short", **change)


def test_a_cut_takes_over_what_its_source_shows_and_stays_as_it_is_when_read_again() -> None:
    brief = brief_of("short")
    cut: Format = brief.formats[1]
    assert (cut.media, cut.shots, cut.aspect) == ("short", 3, "16:9")
    assert Brief.model_validate(brief.model_dump(mode="json")) == brief
