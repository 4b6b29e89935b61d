"""The disclosure compiler: what a platform must be told of how a post came about, as arguments of its tool or as words of the text.

The one rule: a label that is required and that a profile can express in no way refuses the effect by name. None is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from chimera.mcp.profiles import BadArguments, Profile

AI_LABELS: Mapping[str, Mapping[str, str | None]] = {
    "x": {"automated": "made_with_ai", "assisted": "made_with_ai", "none": None},
    "instagram": {"automated": "is_ai_generated", "assisted": "is_ai_generated", "none": None},
    "tiktok": {"automated": "is_aigc", "assisted": "is_aigc", "none": None},
}
"""Platform -> disclosure level -> the label that the platform asks for (docs.x.com; Instagram's changelog of June 2026; TikTok)."""
PAID_LABEL = "paid_partnership"
"""What every platform asks for where somebody pays for what is said."""


class CannotDisclose(BadArguments):
    """A required label cannot be expressed; the text names profile, platform and label."""


class Disclosed(NamedTuple):
    """What goes into the call, and the text as people will read it."""

    inputs: dict[str, Any]
    text: str


def labels_for(platform: str, level: str, *, paid: bool = False) -> list[str]:
    """The labels that a platform must be told. Raises CannotDisclose for a platform or level that the table does not know."""
    table = AI_LABELS.get(platform)
    if table is None or level not in table:
        raise CannotDisclose(f"no table says how {platform} is told the disclosure level {level!r}: add it to AI_LABELS")
    label = table[level]
    return [*([label] if label is not None else []), *([PAID_LABEL] if paid else [])]


def disclose(profile: Profile, capability: str, level: str, text: str, *, paid: bool = False) -> Disclosed:
    """How this capability of the profile says what must be said. Raises CannotDisclose.

    An argument of the tool comes first; where there is none the label's words end the text, once.
    """
    spec, platform = profile.spec.capabilities[capability], profile.spec.platform or profile.name
    inputs: dict[str, Any] = {"disclosure_level": level} if spec.disclosure else {}
    words: list[str] = []
    for label in labels_for(platform, level, paid=paid):
        if spec.disclosure.get(level, {}).get(label) is True:
            continue
        if label in spec.inputs.optional:
            inputs[label] = True
        elif label in spec.labels and spec.words is not None:
            words += [spec.labels[label]] if spec.labels[label] not in text else []
        else:
            raise CannotDisclose(
                f"profile {profile.name} cannot tell {platform} {label!r} ({capability}, disclosure {level!r}): use another profile"
            )
    return Disclosed(inputs, text + "\n\n" + " ".join(words) if words else text)
