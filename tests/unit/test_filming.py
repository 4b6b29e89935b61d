"""Short films from brief to post: shots from the judged words, ordered one by one, cut with the words on them, published."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageChops

from chimera.events import records as rec
from chimera.mcp.sandbox.art import film
from chimera.media.facts import facts_of, first_frame
from chimera.media.film import Take, cut, cut_apart
from chimera.media.store import Asset, MediaError
from chimera.processors import filming
from chimera.processors.filming import storyboard
from tests.studiohouse import AVA, house_with, run

TEXT = (
    "From the market this week: An apple in season costs half as much in October as in March, and it keeps that long at 4 degrees "
    "in damp sand. Soup weather!\n\nhttps://field-notes.example/2026/keep-an-apple #InSeason"
)


@given(st.text(max_size=400), st.integers(2, 6))
def test_every_caption_is_a_piece_of_the_text_in_its_order_and_leaves_out_addresses_and_tags(text: str, shots: int) -> None:
    board = storyboard(text, shots)
    assert len(board) <= shots
    assert not any("http://" in shot.caption or "https://" in shot.caption for shot in board)
    assert all(filming.SHORTEST_S <= shot.seconds <= filming.LONGEST_S for shot in board)
    assert all(shot.caption for shot in board)


def test_a_text_of_two_sentences_makes_three_shots_where_three_are_asked_for() -> None:
    board = storyboard(TEXT, 3)
    assert [shot.caption for shot in board] == [
        "From the market this week: An apple in season costs half as much in October",
        "as in March, and it keeps that long at 4 degrees in damp sand.",
        "Soup weather!",
    ]
    assert [shot.seconds for shot in board] == [5.0, 5.0, 2.0]
    assert all(shot.prompt.startswith("A photograph without any lettering: ") for shot in board)


def test_a_short_film_is_ordered_shot_by_shot_cut_with_its_words_and_published_by_its_hash(tmp_path: Path) -> None:
    house = house_with(tmp_path, "short")
    run(house, house.live)
    made = {r.data.kind: r.data for r in house.records if isinstance(r.data, rec.ArtifactProduced)}
    ended = house.of(rec.EffectEnded)
    assert [end.outcome for end in ended] == ["executed"] * 7
    assert sum(end.cost_usd for end in ended) == Decimal("0.93"), "three pictures at 0.06 and three films at 0.25"
    cut_there = made["cut"].content
    (asset,) = cut_there["assets"]
    films = [end.assets[0].partition(".")[0] for end in ended if end.assets and end.assets[0].endswith(".mp4")]
    assert [parent["sha256"] for parent in asset["derived_from"]] == films[:3]
    assert (asset["role"], asset["media_type"]) == ("edit", "video/mp4")
    pictures, takes = ended[0].asset_facts, ended[-2].asset_facts
    assert [(one.width, one.height, one.duration_s, one.codec) for one in (*pictures, *takes)] == [
        (1024, 576, None, "png"), (320, 180, 5.0, "h264"),
    ]  # fmt: skip
    assert all(end.server_version for end in ended if end.assets), "who made a file says which it is"
    assert pictures[0].bytes == asyncio.run(house.gate.files.store.size(ended[0].assets[0]))
    seconds = sum(shot["seconds"] for shot in cut_there["shots"])
    assert abs(asset["duration_s"] - seconds) < 0.5
    words = " ".join(made["draft"].content["text"].split())
    assert all(shot["caption"] in words for shot in cut_there["shots"])
    (post,) = house.gram.posts("ava.cooks")
    assert (post.media, post.kind) == (cut_there["film"], "video")
    published = house.proposals()[-1]
    assert published.asset_hashes == [asset["sha256"]]
    stem, _, extension = cut_there["film"].partition(".")
    body = asyncio.run(house.gate.files.store.get(Asset(stem, extension, 0)))
    assert len(body) == asset["bytes"]
    assert not house.agents[AVA].campaigns, "the campaign is complete"


def test_a_text_that_is_too_short_for_its_shots_gives_fewer() -> None:
    assert [len(storyboard(text, 3)) for text in ("Soup.", "", "#InSeason https://a.example", "Soup weather.")] == [1, 0, 0, 2]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"caption": "Buy now!"}, "a caption is no piece of the judged text"),
        ({"prompt": "Somebody famous"}, "a shot is to show something else"),
    ],
)
def test_a_storyboard_that_says_more_than_the_text_is_wrong(change: dict[str, str], says: str) -> None:
    draft = _draft(TEXT)
    board = storyboard(TEXT, 3)
    content = {"shots": [shot._asdict() for shot in board]}
    assert filming.wrong(content, draft) == ""
    content["shots"][1] |= change
    assert says in filming.wrong(content, draft)
    swapped = {"shots": [shot._asdict() for shot in reversed(board)]}
    assert "in its order" in filming.wrong(swapped, draft)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"width": 300}, "which is not 16:9"),
        ({"duration_s": 91.0}, "the film lasts 91.0 s; instagram takes 90"),
        ({"duration_s": 0.0}, "the film lasts 0.0 s"),
    ],
)
def test_a_cut_of_another_shape_or_length_than_the_platform_takes_is_wrong(change: dict[str, float], says: str) -> None:
    asset = {"width": 1280, "height": 720, "duration_s": 12.0, "parameters": {"shape": "16:9"}}
    content = {"film": "x", "shots": [shot._asdict() for shot in storyboard(TEXT, 3)], "assets": [asset]}
    assert filming.wrong(content, _draft(TEXT)) == ""
    asset |= change
    assert says in filming.wrong(content, _draft(TEXT))


def test_a_cut_is_of_the_asked_shape_as_long_as_its_takes_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    takes = []
    for n, words in enumerate(("squash soup in a blue pot", "a crate of twelve squash", "walk it at dusk")):
        (tmp_path / f"{n}.mp4").write_bytes(film(words, 5, "16:9", n))
        takes.append(Take(tmp_path / f"{n}.mp4", words, 2.5))
    bodies = []
    for n in range(2):
        asyncio.run(cut_apart(takes, "9:16", tmp_path / f"cut{n}.mp4"))
        bodies.append((tmp_path / f"cut{n}.mp4").read_bytes())
    assert bodies[0] == bodies[1]
    asset = Asset("0" * 64, "mp4", len(bodies[0]))
    facts = facts_of(asset, tmp_path / "cut0.mp4")
    frame = first_frame(asset, tmp_path / "cut0.mp4").convert("L")
    asyncio.run(cut_apart([take._replace(caption="") for take in takes[:1]], "9:16", tmp_path / "bare.mp4"))
    bare = first_frame(asset, tmp_path / "bare.mp4").convert("L")
    stands = ImageChops.difference(frame, bare).point(lambda light: 255 * (light > 40)).getbbox()
    assert stands is not None, "its words stand on it"
    assert stands[1] > 160, "in the lower half"
    assert (facts.width, facts.height, facts.codec, facts.sound) == (176, 320, "h264", "")
    assert facts.duration_s == pytest.approx(7.5, abs=0.2)


def test_a_take_that_is_no_film_is_told_by_whoever_cuts_and_nobody_dies(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"\x00\x00\x00\x18ftypisom" + b"nonsense" * 500)
    with pytest.raises(MediaError, match="could not be cut"):
        cut([Take(tmp_path / "bad.mp4", "", 2.0)], "1:1", tmp_path / "o.mp4")
    with pytest.raises(MediaError, match="could not be cut"):
        asyncio.run(cut_apart([Take(tmp_path / "bad.mp4", "", 2.0)], "1:1", tmp_path / "o.mp4"))


def _draft(text: str) -> rec.ArtifactProduced:
    return cast("Any", rec.ArtifactProduced.model_construct)(content={"text": text, "platform": "instagram"})
