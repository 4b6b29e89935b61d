"""Pictures and films from brief to post: ordered through the log, collected by whoever runs then, paid once, published by hash."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from chimera import failpoints
from chimera.commands.cards import text_of, words_in
from chimera.events import records as rec
from chimera.failpoints import Injected
from chimera.mcp.places import SANDBOX_MEDIA
from chimera.mcp.sandbox import ideogram
from chimera.mcp.sandbox.faults import Wish
from chimera.policy.boardkit import load_text
from tests.studiohouse import AVA, EXAMPLES, StudioHouse, brief_with, house_with, run


@pytest.mark.parametrize(
    ("providers", "studios", "costs"),
    [
        ({}, ("ideogram", "runway"), ["0.06", "0.25", "0"]),
        ({"image": "midjourney", "video": "luma"}, ("midjourney", "luma"), ["0.05", "0.70", "0"]),
    ],
)
def test_a_film_is_ordered_from_a_picture_and_published_by_its_hash_whoever_provides(
    providers: dict[str, str], studios: tuple[str, str], costs: list[str], tmp_path: Path
) -> None:
    house = house_with(tmp_path, "video", providers)
    run(house, house.live)
    ended = house.of(rec.EffectEnded)
    assert [(end.outcome, str(end.cost_usd)) for end in ended] == [("executed", cost) for cost in costs]
    picture, film = (end.assets[0] for end in ended[:2])
    assert (picture[-4:], film[-4:]) == (".png", ".mp4")
    assert [name for name, book in house.books.items() if book.jobs()] == list(studios)
    assert [len(house.books[name].jobs()) for name in studios] == [1, 1]
    (post,) = house.gram.posts("ava.cooks")
    assert (post.media, post.kind) == (film, "video")
    assert post.caption.endswith("\n\nMade with AI.")
    ordered, filmed, published = house.proposals()
    assert filmed.asset_hashes == [picture.partition(".")[0]]
    assert published.arguments["video_url"] == SANDBOX_MEDIA + film
    assert published.asset_hashes == [film.partition(".")[0]]
    assert ordered.max_cost_usd == Decimal(costs[0])
    assert not house.agents[AVA].campaigns, "the campaign is complete"


@pytest.mark.parametrize(("media", "kind"), [("image", "png"), ("video", "mp4")])
def test_a_picture_or_film_is_published_on_x_too_under_its_hash_with_x_s_own_labels(media: str, kind: str, tmp_path: Path) -> None:
    house = StudioHouse(tmp_path)
    house.enrol(AVA, load_text(EXAMPLES / "souls/ava.md"), brief_with(media, "x"), "ava")
    run(house, house.live)
    made = house.of(rec.EffectEnded)[-2].assets[0]
    assert made.endswith(kind)
    (post,) = house.x.timeline.posts("ava")
    assert post.extra["assets"] == [made]
    assert post.extra["made_with_ai"] is True
    published = house.proposals()[-1]
    assert published.arguments["media"] == {"media_ids": [SANDBOX_MEDIA + made]}
    assert published.asset_hashes == [made.partition(".")[0]]
    sent = post.extra["media"]["media_ids"]
    assert [each.isdigit() for each in sent] == [True], "what left names X's own id"
    assert not house.agents[AVA].campaigns, "the campaign is complete"


def test_a_gate_that_starts_anew_between_order_and_collection_collects_the_same_job_and_pays_once(tmp_path: Path) -> None:
    house = house_with(tmp_path, "image")

    async def story() -> None:
        await house.run()
        (taken,) = house.of(rec.EffectSubmitted)
        assert house.of(rec.EffectEnded) == []
        await house.gate.close()
        house.start_gate()
        await house.live()
        first, second = house.of(rec.EffectEnded)
        assert (first.outcome, first.platform_id, str(first.cost_usd)) == ("executed", taken.handle, "0.06")
        assert second.outcome == "executed"

    run(house, story)
    book = house.books["ideogram"]
    assert (len(book.jobs()), str(book.billed())) == (1, "0.06")
    assert len(house.of(rec.EffectClaimed)) == 2, "one for the picture, one for the post"
    assert len(house.gram.posts()) == 1


@pytest.mark.parametrize("point", ["gate.collected", "executor.received"])
def test_a_gate_that_dies_with_the_picture_in_hand_and_not_on_the_log_has_it_from_the_same_job(
    point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = house_with(tmp_path, "image")
    monkeypatch.setenv(failpoints.VARIABLE, f"{point}=error#1")

    async def story() -> None:
        with failpoints.armed(tmp_path, "gate"):
            with pytest.raises(Injected, match=point):
                await house.live()
            assert house.of(rec.EffectEnded) == []
            await house.gate.close()
            house.start_gate()
            await house.live()

    run(house, story)
    assert [line["point"] for line in failpoints.fired(tmp_path)] == [point]
    book = house.books["ideogram"]
    assert (len(book.jobs()), str(book.billed())) == (1, "0.06")
    assert [end.outcome for end in house.of(rec.EffectEnded)] == ["executed", "executed"]
    assert len(house.gram.posts()) == 1
    assert not house.agents[AVA].campaigns, "the campaign is complete"


def test_a_file_that_cannot_be_fetched_is_asked_for_again_and_nothing_is_ordered_twice(tmp_path: Path) -> None:
    house = house_with(tmp_path, "image", {"image": "midjourney"})
    house.refuses_files = True

    async def story() -> None:
        await house.run()
        for _ in range(3):
            house.ahead_ms += 60_000
            await house.run()
        assert house.of(rec.EffectEnded) == []
        house.refuses_files = False
        await house.live()

    run(house, story)
    assert len(house.books["midjourney"].jobs()) == 1
    assert [end.outcome for end in house.of(rec.EffectEnded)] == ["executed", "executed"]


@pytest.mark.parametrize("studio_name", ["ideogram", "midjourney"])
def test_bad_weather_while_a_job_is_asked_for_ends_nothing_that_was_paid_for(studio_name: str, tmp_path: Path) -> None:
    house = house_with(tmp_path, "image", {"image": studio_name})
    asks = {"ideogram": "ideogram_generation", "midjourney": "midjourney_get_task"}[studio_name]
    for kind in ("error_as_success", "429", "503", "nonsense", "success_as_error"):
        house.weather[studio_name].ask(Wish(kind, asks))
    run(house, house.live)
    assert house.weather[studio_name].left() == []
    assert [end.outcome for end in house.of(rec.EffectEnded)] == ["executed", "executed"]
    assert len(house.books[studio_name].jobs()) == 1


def test_a_job_that_the_studio_gave_up_is_a_failure_and_ordered_anew(tmp_path: Path) -> None:
    house = house_with(tmp_path, "image", {"image": "midjourney"})
    book = house.books["midjourney"]

    async def story() -> None:
        await house.run()
        (job,) = book.jobs()
        book.cancel(job.id, job.account)
        await house.live()

    run(house, story)
    assert [(end.outcome, end.reason) for end in house.of(rec.EffectEnded)][:2] == [
        ("refused", "generation_failed"),
        ("executed", ""),
    ]
    assert len(book.jobs()) == 2
    assert len(house.gram.posts()) == 1


def test_a_quote_above_the_table_goes_to_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ideogram.PRICES, "default", Decimal("0.10"))
    house = house_with(tmp_path, "image")
    run(house, house.run)
    (effect,) = [effect for _, effect in house.standing()]
    assert (effect.status, str(effect.max_cost)) == ("people", "0.10")
    assert house.books["ideogram"].jobs() == []


def test_nothing_is_ordered_for_a_platform_whose_profile_shows_no_pictures(tmp_path: Path) -> None:
    house = StudioHouse(tmp_path)
    x = house.profiles.by_name["x"]
    publish = x.spec.capabilities["social.publish"]
    words = publish.model_copy(update={"inputs": publish.inputs.model_copy(update={"optional": ("paid_partnership",)})})
    spec = x.spec.model_copy(update={"capabilities": {**x.spec.capabilities, "social.publish": words}})
    house.profiles = replace(house.profiles, by_name={**house.profiles.by_name, "x": replace(x, spec=spec)})
    house.start_gate()
    house.enrol(AVA, load_text(EXAMPLES / "souls/ava.md"), brief_with("image", "x"), "ava")
    run(house, house.live)
    reasons = {failed.reason for failed in house.of(rec.WorkFailed)}
    assert reasons == {"social.publish on x shows nothing beside words: take `media` out of the brief's format"}
    assert house.proposals() == []
    assert house.books["ideogram"].jobs() == []


def test_a_card_shows_the_prompt_of_an_order_and_the_caption_of_a_post(tmp_path: Path) -> None:
    house = house_with(tmp_path, "image")
    run(house, house.live)
    made = [r.data for r in house.records if isinstance(r.data, rec.ArtifactProduced) and r.data.effect is not None]
    assert [text_of(each) for each in made] == [made[0].content["prompt"], house.gram.posts()[0].caption]
    assert [words_in(each.effect.arguments) for each in made if each.effect is not None] == [None, "caption"]
