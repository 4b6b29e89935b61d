"""The conditions of `events grep --where`: what they mean, and that what they cannot mean is refused."""

from __future__ import annotations

from typing import Any

import pytest

from chimera.replay.where import BadWhere, parse

RECORD: dict[str, Any] = {
    "type": "JudgeVerdict",
    "actor": "judge",
    "version": 7,
    "payload": {
        "confidence": 0.65,
        "cost": "0.50",
        "effect": None,
        "ok": True,
        "reasons": ["numbers[20 %]: no source", "length: too LONG"],
        "items": [{"platform": "x"}, {"platform": "bluesky"}],
        "": "nameless",
    },
}


@pytest.mark.parametrize(
    "condition",
    [
        "payload.confidence<0.7",
        "payload.confidence<=0.65",
        "payload.cost>=0.5",
        "payload.cost=0.5",
        "payload.cost<10",
        "version>6",
        "type=JudgeVerdict",
        'type="JudgeVerdict"',
        "actor!=courier",
        "payload.ok=true",
        "payload.ok",
        "payload.effect=null",
        "payload.items[*].platform=bluesky",
        "payload.items[0].platform=x",
        'payload.reasons[*]~"too long"',
        "payload.items[*].platform!=mastodon",
    ],
)
def test_a_condition_that_holds(condition: str) -> None:
    assert parse(condition).holds(RECORD)


@pytest.mark.parametrize(
    "condition",
    [
        "payload.confidence<0.6",
        "payload.cost<0.5",
        "payload.ok=1",
        "payload.effect",
        "payload.effect!=null",
        "payload.missing",
        "payload.missing!=x",
        "payload.confidence~6",
        "payload.items[2].platform=x",
        "payload.items[*].platform!=x",
        "payload.items.platform=x",
        "payload.reasons<3",
        "actor<3",
    ],
)
def test_a_condition_that_does_not_hold(condition: str) -> None:
    assert not parse(condition).holds(RECORD)


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ("confidence<0.7", "a path begins with payload or one of"),
        ("payload.confidence<", "nothing stands after <"),
        ("payload..x=1", "is no path"),
        ("payload.items[x]=1", "is no path"),
        ("=1", "is no path"),
        ("", "is no path"),
    ],
)
def test_what_is_no_condition_is_refused_with_the_way_to_write_it(condition: str, says: str) -> None:
    with pytest.raises(BadWhere, match=says.replace("<", r"<")):
        parse(condition)


def test_text_that_looks_like_code_is_only_text() -> None:
    assert not parse("payload.confidence=__import__('os')").holds(RECORD)
