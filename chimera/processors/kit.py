"""What every kind of work has at hand, and the parts of an artifact that several kinds need.

The rule not to break: a proposal is rendered, salted and hashed here and nowhere else; afterwards it changes only under a new hash.
"""

from __future__ import annotations

import secrets
from typing import Any, NamedTuple

from chimera.events.hashes import digest, simhash, text_hash
from chimera.events.records import (
    Disclosure,
    EffectProposal,
    Signal,
    effect_body,
)
from chimera.events.sealed import Forgotten, Sealed, SubjectKeys, unseal
from chimera.mcp.profiles import BadArguments, Profiles
from chimera.processors import imaging
from chimera.processors.jobs import CannotWork, Job

PUBLISH = {"x": "social.publish", "instagram": "social.publish"}
"""Platform -> capability that publishes there."""


class Kit(NamedTuple):
    """`profiles` render what tasks propose; `mode` is sandbox, dry_run or live; without `media` no file is worked with."""

    profiles: Profiles
    subjects: SubjectKeys
    mode: str = "sandbox"
    media: imaging.Media | None = None


def shelf(kit: Kit) -> imaging.Media:
    """Where files are. Raises NoMedia where this worker has no media store."""
    if kit.media is None:
        raise imaging.NoMedia("this worker has no media store")
    return kit.media


def heard_part(kit: Kit, item: Signal, part: str) -> str:
    """A part of what was heard, in clear. Raises CannotWork where it is not there, or its person was forgotten since."""
    value = getattr(item, part)
    if value is None:
        raise CannotWork(f"nothing was heard of the {part} that the answer goes to")
    try:
        return unseal(kit.subjects, value) if isinstance(value, Sealed) else str(value)
    except Forgotten as gone:
        raise CannotWork("the person asked to be forgotten") from gone


def proposal(
    kit: Kit,
    job: Job,
    capability: str,
    inputs: dict[str, Any],
    platform: str,
    account: str,
    disclosure: Disclosure,
    text: str = "",
    thread: str | None = None,
    not_before: int = 0,
    at: str | None = None,
) -> EffectProposal:
    """The rendered call as a proposal, hashed. Raises CannotWork where the profile does not take these inputs.

    `at` names the platform that is called, where that is not the one for which the effect is meant (a studio)."""
    try:
        call = kit.profiles.render(capability, inputs, platform=at or platform, mode=kit.mode)
    except BadArguments as error:
        raise CannotWork(f"bad_arguments: {error}"[:500]) from error
    fields = {
        "effect_class": call.effect_class,
        "tool_class": call.tool_class,
        "capability": capability,
        "profile": call.profile,
        "mode": call.mode,
        "tool": call.tool,
        "schema_sha256": call.tool_schema_sha256,
        "arguments": call.arguments,
        "platform": platform,
        "account": account,
        "thread": thread,
        "not_before": not_before,
        "max_cost_usd": call.cost_usd,
        "disclosure": disclosure,
        "agent": job.agent,
        "input_state_version": job.facts["input"],
        "salt": secrets.token_hex(16),
        "text_hash": text_hash(text) if text else "",
        "simhash": f"{simhash(text):016x}" if text else "0" * 16,
    }
    blank = EffectProposal(effect_hash="", **fields)
    return blank.model_copy(update={"effect_hash": digest(effect_body(blank))})


def rehashed(effect: EffectProposal, **changes: Any) -> EffectProposal:
    """The proposal with other parts, under their hash."""
    changed = effect.model_copy(update=changes)
    return changed.model_copy(update={"effect_hash": digest(effect_body(changed))})


def only(values: dict[str, Any], name: str) -> dict[str, Any]:
    """That entry alone, where it is there."""
    return {name: values[name]} if name in values else {}
