"""The X sandbox's timeline: platform rules and one post per key."""

from __future__ import annotations

from pathlib import Path

import pytest

from chimera.mcp.sandbox.timeline import PlatformRefused, Timeline, weighted_length


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("", 0),
        ("hello", 5),
        ("naïve café", 10),
        ("日本語", 6),
        ("see https://example.org/a/very/long/path?with=query", 27),
        ("a “quote” — dash", 16),
        ("…", 2),
        ("👍", 2),
        ("👍🏽", 2),
        ("👩‍💻", 2),
        ("🇩🇪🇫🇷", 4),
        ("❤️", 2),
        ("e\u0301", 1),
    ],
)
def test_length_is_counted_as_the_platform_counts(text: str, length: int) -> None:
    assert weighted_length(text) == length


def test_ids_grow_even_when_the_clock_stands_still_or_goes_back(tmp_path: Path) -> None:
    now = [1_800_000_000.0]
    timeline = Timeline(tmp_path, clock=lambda: now[0])
    ids = [timeline.post("ava", f"{n}", None, {}).id for n in range(3)]
    now[0] -= 3600
    ids.append(timeline.post("ava", "late", None, {}).id)
    assert ids == sorted(set(ids))
    timeline.close()


def test_the_same_text_is_refused_for_a_day_and_for_its_own_account_only(tmp_path: Path) -> None:
    now = [1_800_000_000.0]
    timeline = Timeline(tmp_path, clock=lambda: now[0])
    first = timeline.post("ava", "same", None, {})
    timeline.post("ben", "same", None, {})
    with pytest.raises(PlatformRefused, match="duplicate"):
        timeline.post("ava", "same", None, {})
    timeline.delete("ava", first.id)
    timeline.post("ava", "same", None, {})
    now[0] += 24 * 3600 + 1
    timeline.post("ava", "same", None, {})
    timeline.close()


def test_a_refusal_leaves_neither_post_nor_key_so_the_key_may_come_again(tmp_path: Path) -> None:
    timeline = Timeline(tmp_path)

    def refuse() -> dict[str, object]:
        timeline.post("ava", "half done", None, {})
        raise PlatformRefused(403, "Forbidden", "no")

    with pytest.raises(PlatformRefused):
        timeline.once("ava", "k", "createPosts", {}, refuse)
    assert timeline.posts() == []
    assert timeline.once("ava", "k", "createPosts", {}, lambda: {"done": 1}) == ({"done": 1}, False)
    assert timeline.once("ava", "k", "createPosts", {}, refuse) == ({"done": 1}, True)
    timeline.close()


def test_two_processes_on_one_file_agree_about_a_key(tmp_path: Path) -> None:
    one, two = Timeline(tmp_path), Timeline(tmp_path)
    first = one.once("ava", "k", "createPosts", {}, lambda: {"id": one.post("ava", "x", None, {}).id})
    again = two.once("ava", "k", "createPosts", {}, lambda: {"id": two.post("ava", "x", None, {}).id})
    assert (first[0], again[1]) == (again[0], True)
    one.close()
    two.close()
