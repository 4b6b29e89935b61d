"""Follow-ups: a second text in the thread of a first one that has gone out, after a time or once it was liked enough.

The rule not to break: what follows is written from the campaign's own sources, and is no answer to a stranger: it passes as a
post of its own. The platform's numbers decide whether it is written, and never what is in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from chimera.events.records import ArtifactProduced, EffectEnded, HumanEdited, Taint
from chimera.events.state import Ref
from chimera.mcp.profiles import BadArguments, Profiles
from chimera.policy.brief import FollowUp
from chimera.policy.writing import reason
from chimera.processors.jobs import Job, Tools

LOOKS = 8
"""How often the numbers are looked at between the first and the last time."""
SHORTEST_PAUSE_MS = 900_000


class First(NamedTuple):
    """The text that is followed up, as it went out."""

    text: str
    account: str
    taint: Taint
    platform_id: str | None
    out_ts: int
    """Broker time (ms) at which the log knew that it was out."""
    ended: Ref

    @property
    def told(self) -> str:
        """What the writer is told of it."""
        return reason("follow_up", "", f'this follows "{self.text}" in its thread: add to it, and say nothing of it again')


async def first(job: Job, tools: Tools) -> First:
    """The last of what the task depends on."""
    ended: Ref = job.facts["ended"][-1]
    end = await tools.read(ended)
    made = (await tools.read(job.facts["deps"][-1])).data
    assert isinstance(end.data, EffectEnded)
    assert isinstance(made, ArtifactProduced | HumanEdited)
    assert made.effect is not None
    origin = made if isinstance(made, ArtifactProduced) else (await tools.read(Ref(*made.content["draft"]))).data
    taint: Taint = origin.taint if isinstance(origin, ArtifactProduced) else "open"
    return First(made.content["text"], made.effect.account, taint, end.data.platform_id, end.append_ts, ended)


def lacking(wish: FollowUp, numbers: Mapping[str, int]) -> list[str]:
    """What the numbers are short of; empty where the follow-up is wanted."""
    return [f"{numbers.get(name, 0)} of {least} {name}" for name, least in wish.at_least.items() if numbers.get(name, 0) < least]


def look_again_at(wish: FollowUp, out_ts: int, now: int) -> int | None:
    """When (ms) to look at the numbers next; None once the last time has come."""
    last = out_ts + wish.until_ms
    if now >= last:
        return None
    return min(last, now + max(SHORTEST_PAUSE_MS, (wish.until_ms - wish.after_ms) // LOOKS))


def in_thread(profiles: Profiles, platform: str, platform_id: str | None) -> tuple[str, dict[str, str]] | None:
    """(capability, inputs) of an answer to what has this id; None where the platform knows no such, and it goes out by itself."""
    if platform_id is None:
        return None
    try:
        ways = [profiles.answer_to(heard, platform) for heard in profiles.hearing(platform)]
    except BadArguments:
        return None
    found = next((way for way in ways if set(way.inputs.values()) == {"external_id"}), None)
    return None if found is None else (found.by, dict.fromkeys(found.inputs, platform_id))
