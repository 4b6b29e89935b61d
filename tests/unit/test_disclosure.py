"""The disclosure compiler: every level on every platform, as arguments or as words, or refused by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chimera.events.records.base import Disclosure
from chimera.mcp.disclosure import AI_LABELS, CannotDisclose, disclose, labels_for
from chimera.mcp.profiles import Profile, load_profiles

PROFILES = load_profiles()
LABELS = ("made_with_ai", "paid_partnership", "is_ai_generated")
LEVELS = ("automated", "assisted", "none")
MEDIA = {"image_url": "https://media.sandbox.invalid/x"}


def says(profile: str, capability: str, level: str, paid: bool, **more: str) -> tuple[dict[str, Any], str]:
    """(arguments that the platform's labels are in, text) of the rendered call."""
    told = disclose(PROFILES.by_name[profile], capability, level, "A boat.", paid=paid)
    call = PROFILES.render(capability, {"text": told.text, **told.inputs, **more}, platform=profile)
    labels = {name: value for name, value in call.arguments.items() if name in LABELS}
    return labels, str(call.arguments.get("text", call.arguments.get("caption")))


def test_the_table_has_every_level_of_the_language_for_every_platform() -> None:
    assert set(Disclosure.__args__) == set(LEVELS)  # type: ignore[attr-defined]
    assert all(set(table) == set(LEVELS) for table in AI_LABELS.values())
    assert {profile.spec.platform for profile in PROFILES.by_name.values() if _publishes(profile)} <= set(AI_LABELS)


def _publishes(profile: Profile) -> bool:
    return any(spec.effect_class == "publish" for spec in profile.spec.capabilities.values())


@pytest.mark.parametrize("paid", [False, True])
@pytest.mark.parametrize("capability", ["social.publish", "social.reply"])
@pytest.mark.parametrize(("level", "ai"), [("automated", True), ("assisted", True), ("none", False)])
def test_x_is_told_by_its_own_arguments(capability: str, level: str, ai: bool, paid: bool) -> None:
    more = {"in_reply_to": "17"} if capability == "social.reply" else {}
    expected = ({"made_with_ai": True} if ai else {}) | ({"paid_partnership": True} if paid else {})
    assert says("x", capability, level, paid, **more) == (expected, "A boat.")


@pytest.mark.parametrize(
    ("level", "paid", "text"),
    [
        ("automated", False, "A boat.\n\nMade with AI."),
        ("assisted", False, "A boat.\n\nMade with AI."),
        ("none", False, "A boat."),
        ("automated", True, "A boat.\n\nMade with AI. Paid partnership."),
        ("assisted", True, "A boat.\n\nMade with AI. Paid partnership."),
        ("none", True, "A boat.\n\nPaid partnership."),
    ],
)
def test_instagram_is_told_in_the_caption_because_its_server_has_no_argument(level: str, paid: bool, text: str) -> None:
    assert says("instagram", "social.publish", level, paid, **MEDIA) == ({}, text)


def test_words_that_stand_there_already_are_not_said_twice() -> None:
    told = disclose(PROFILES.by_name["instagram"], "social.publish", "automated", "A boat. Made with AI.")
    assert told.text == "A boat. Made with AI."


@pytest.mark.parametrize("platform", sorted(AI_LABELS))
@pytest.mark.parametrize(("level", "paid"), [(level, paid) for level in LEVELS for paid in (False, True)])
def test_a_profile_that_cannot_say_a_required_label_is_refused_by_name(platform: str, level: str, paid: bool) -> None:
    x = PROFILES.by_name["x"]
    publish = x.spec.capabilities["social.publish"]
    optional = tuple(name for name in publish.inputs.optional if name != "paid_partnership")
    mute = publish.model_copy(update={"disclosure": {}, "inputs": publish.inputs.model_copy(update={"optional": optional})})
    spec = x.spec.model_copy(update={"name": "mute", "platform": platform, "capabilities": {"social.publish": mute}})
    required = labels_for(platform, level, paid=paid)
    if not required:
        assert disclose(replace(x, spec=spec), "social.publish", level, "A boat.").text == "A boat."
        return
    with pytest.raises(CannotDisclose, match=f"profile mute cannot tell {platform} '{required[0]}'"):
        disclose(replace(x, spec=spec), "social.publish", level, "A boat.", paid=paid)


def test_a_platform_that_no_table_knows_is_refused_by_name() -> None:
    with pytest.raises(CannotDisclose, match="no table says how myspace is told"):
        labels_for("myspace", "automated")
