"""Follow-ups: a second text in the thread of a first one that has gone out, after a time or once it was liked enough.

The rule not to break: what follows is written from the campaign's own sources, and is no answer to a stranger: it passes as a
post of its own. The platform's numbers decide whether it is written, and never what is in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from chimera.events.records import ArtifactProduced, EffectEnded, HumanEdited, PlanRow, Taint
from chimera.events.state import Ref
from chimera.mcp.profiles import BadArguments, Profiles
from chimera.mcp.results import at
from chimera.policy.brief import FOLLOW_UP, FollowUp
from chimera.policy.writing import reason
from chimera.processors.jobs import CannotWork, Job, Tools

METRICS = "social.metrics"
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


async def first(job: Job, row: PlanRow, tools: Tools) -> First:
    """The last of what the task depends on. Raises CannotWork where the agent's account there is another by now."""
    platform, ended = row.inputs["platform"], Ref(*job.facts["ended"][-1])
    end = await tools.read(ended)
    made = (await tools.read(job.facts["deps"][-1])).data
    assert isinstance(end.data, EffectEnded)
    assert isinstance(made, ArtifactProduced | HumanEdited)
    assert made.effect is not None
    if job.facts["accounts"].get(platform) != made.effect.account:
        raise CannotWork(f"what is to be followed up went out by another account on {platform}", needless=True)
    origin = made if isinstance(made, ArtifactProduced) else (await tools.read(Ref(*made.content["draft"]))).data
    taint: Taint = origin.taint if isinstance(origin, ArtifactProduced) else "open"
    return First(made.content["text"], made.effect.account, taint, end.data.platform_id, end.append_ts, ended)


async def wanted(profiles: Profiles, job: Job, row: PlanRow, tools: Tools) -> First:
    """The text that went out, where its numbers are what the brief asks for. Raises CannotWork where they are not yet, or were not
    in time."""
    before, platform = await first(job, row, tools), row.inputs["platform"]
    wish = FollowUp.model_validate(row.inputs[FOLLOW_UP])
    if not wish.at_least:
        return before
    if before.platform_id is None:
        raise CannotWork(f"{platform} told no id of what went out, so its numbers cannot be asked for", needless=True)
    told = await tools.tool(job, METRICS, {"id": before.platform_id}, before.account, platform)
    if told.result != "ok":
        why, gone = f"{METRICS}: {told.reason}: {told.detail}"[:500], told.reason == "not_found"
        raise CannotWork(why, retry=told.result != "refused", needless=gone)  # what was taken down is followed by nothing
    found = {name: at(told.data, path) for name, path in profiles.capability(METRICS, platform).numbers.items()}
    short = lacking(wish, {name: value for name, value in found.items() if isinstance(value, int)})
    if short:
        again_at = look_again_at(wish, before.out_ts, tools.broker_now())
        raise CannotWork(f"not followed up: {', '.join(short)}", again_at=again_at, needless=again_at is None)
    return before


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
