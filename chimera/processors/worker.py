"""The worker: one atomic task at a time, stateless; what it makes is an artifact, at most proposing one effect.

The rule not to break: it reads only what the task states that it reads, and what a tool returned is data that carries its taint
into everything made from it. It holds no publishing credential and calls no tool that changes anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from pydantic import ValidationError

from chimera import failpoints
from chimera.errors import ChimeraError
from chimera.events.envelope import Record
from chimera.events.records import (
    ArtifactProduced,
    PlanRow,
    WorkFailed,
    WorkStarted,
)
from chimera.events.sealed import SubjectKeys
from chimera.events.state import Agent
from chimera.mcp.profiles import Profiles
from chimera.processors import (
    imaging,
    making_effects,
    making_media,
    making_words,
    materials,
)
from chimera.processors.jobs import Answer, CannotWork, Due, Job, NotNow, Role, Tools, soonest
from chimera.processors.kit import Kit
from chimera.processors.listening import Ear

NAME = "worker"
START_LEASE_MS = 120_000
LONG_OPEN_MS = 120_000
"""A task open for longer than one lease needs a start, so that a second worker leaves it alone."""
RETRY_MS = 5_000
"""First wait after a tool that was not reached; doubles with the attempt, up to five minutes."""
MAKERS: Mapping[str, Callable[[Kit, Job, PlanRow, Tools], Awaitable[ArtifactProduced]]] = {
    "research": making_words.research,
    "angles": making_words.angles,
    "draft": making_words.draft,
    "reply": making_words.reply,
    "image": making_media.picture,
    "video": making_media.picture,
    "storyboard": making_media.storyboard,
    "cut": making_media.cut,
    "publish": making_effects.publish,
    "takedown": making_effects.takedown,
    "boost": making_effects.boost,
    "transfer": making_effects.transfer,
}
"""Kind of task -> how it is made."""


def due(agent: Agent, now: int, here_since: int = 0) -> Due:
    """Open attempts that nobody has started, and lost ones."""
    jobs: list[Job] = []
    wake: int | None = None
    lessons = tuple(agent.lessons)
    for c in agent.campaigns.values():
        for t in c.tasks.values():
            if t.status != "open":
                continue
            if t.start_until and now >= t.start_until:
                jobs.append(_job(agent, c.campaign_id, "lost", c.number, t.ordinal, t.attempt, {"cause": t.ref}))
                continue
            if t.start_until:
                # Whoever started it works on it, or it is lost when the lease is over: running it again now would repeat
                # what killed its worker, uncounted.
                wake = soonest(wake, t.start_until)
                continue
            if agent.soul is None or agent.policy is None:
                continue
            facts = {
                "input": t.input_state_version,
                "plan": t.ref,
                "brief": c.brief,
                "soul": agent.soul,
                "policy": agent.policy.ref,
                "deps": [c.done[o].artifact for o in t.depends_on if o in c.done],
                "ended": [c.done[o].ended for o in t.depends_on if o in c.done],
                "feedback": t.feedback,
                "lessons": lessons,
                "accounts": dict(agent.accounts),
                # What was open before this process served may have killed the one before it: then that counts.
                "start": t.costly or now - t.opened_ts > LONG_OPEN_MS or t.opened_ts <= here_since,
            }
            jobs.append(_job(agent, c.campaign_id, "work", c.number, t.ordinal, t.attempt, facts))
    return Due(jobs, wake)


def _job(agent: Agent, correlation: str, what: str, campaign: int, ordinal: int, attempt: int, facts: dict[str, Any]) -> Job:
    return Job(NAME, what, agent.key, agent.tenant, correlation, campaign, ordinal, attempt, 0, facts)


class Worker:
    """The answers. `profiles` render the effects that publish tasks propose; `mode` is sandbox, dry_run or live."""

    def __init__(
        self, profiles: Profiles, subjects: SubjectKeys, mode: str = "sandbox", media: imaging.Media | None = None
    ) -> None:
        self._kit = Kit(profiles, subjects, mode, media)
        self._ear = Ear(profiles, subjects)
        self._suspects = asyncio.Lock()
        self.here_since = 0
        """Broker time (lower bound) at which this process came to serve its partitions."""

    async def do(self, job: Job, tools: Tools) -> Answer | None:
        """An artifact, or why there is none."""
        if job.what == "listen":
            return await self._ear.listen(job, tools)
        place = {"campaign": job.campaign, "ordinal": job.ordinal, "attempt": job.attempt}
        if job.what == "lost":
            started = await tools.read(job.facts["cause"])
            return Answer(WorkFailed(**place, reason="lost", lost=True), started.id)
        plan = await tools.read(job.facts["plan"])
        suspect = await _follows_a_lost_one(job, tools)
        async with self._alone() if suspect else _together():
            counted = suspect or job.facts["start"]
            if counted:
                ruling = await tools.say(job, Answer(WorkStarted(**place, lease_ms=START_LEASE_MS), plan.id))
                if ruling.outcome != "applied":
                    return None
                await failpoints.at("worker.started")
            return await self._work(job, place, plan, tools, counted)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """One attempt that follows a lost one at a time: if it kills this process too, nobody else's attempt is lost with it."""
        async with self._suspects:
            yield

    async def _work(self, job: Job, place: dict[str, int], plan: Record, tools: Tools, counted: bool) -> Answer | None:
        row = materials.row(plan, job.ordinal)
        try:
            make = MAKERS.get(row.kind)
            if make is None:
                raise CannotWork(f"unknown kind of task {row.kind!r}")
            try:
                made = await make(self._kit, job, row, tools)
            except NotNow as stopped:
                if not counted:
                    raise
                # Its lease runs: left open it would count as lost, which a closed switch is not.
                raise CannotWork(str(stopped), retry=True) from stopped
        except CannotWork as trouble:
            wait = min(300_000, RETRY_MS << min(job.attempt, 6)) if trouble.retry else None
            not_before = tools.broker_now() + wait if wait is not None else trouble.again_at
            failed = WorkFailed(**place, reason=trouble.reason, not_before=not_before, needless=trouble.needless)
            return Answer(failed, plan.id)
        await failpoints.at("worker.made")
        deps = job.facts["deps"]
        cause = (await tools.read(deps[-1])).id if deps else plan.id
        return Answer(made, cause)

    def role(self) -> Role:
        return Role(NAME, self._due, self._guarded)

    def _due(self, agent: Agent, now: int) -> Due:
        tasks, polls = due(agent, now, self.here_since), self._ear.due(agent, now)
        return Due(tasks.jobs + polls.jobs, soonest(tasks.wake_at, polls.wake_at))

    async def _guarded(self, job: Job, tools: Tools) -> Answer | None:
        """A tool's answer that does not fit its model is an unusable answer: a failure of the attempt, not of the worker."""
        try:
            return await self.do(job, tools)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            if job.what == "listen":
                raise ChimeraError(f"{job.facts['source']}: {where}: {first['msg']}") from error
            reason = f"unusable answer: {error.title}: {where}: {first['type']}"
            plan = await tools.read(job.facts["plan"])
            data = WorkFailed(campaign=job.campaign, ordinal=job.ordinal, attempt=job.attempt, reason=reason)
            return Answer(data, plan.id)


@asynccontextmanager
async def _together() -> AsyncIterator[None]:
    yield


async def _follows_a_lost_one(job: Job, tools: Tools) -> bool:
    """Did the last attempt end with whoever worked on it? It may be the task that killed it, so from now on it is counted."""
    if job.facts["feedback"] is None:
        return False
    before = (await tools.read(job.facts["feedback"])).data
    return isinstance(before, WorkFailed) and before.lost
