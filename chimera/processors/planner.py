"""The planner: briefs into task graphs, graphs into open tasks, cards and approvals into expiries, all done into completion.

The rule not to break: it plans only what the brief and the log say, and which tasks remember what; a second planner that asks the
same state gives the same tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

from pydantic import ValidationError

from chimera.events.does.steps import allowance_left
from chimera.events.records import (
    ArtifactProduced,
    BriefChanged,
    CampaignCompleted,
    CampaignStarted,
    Expired,
    HumanEdited,
    PlanDrafted,
    PlanRow,
    TaskPlanned,
)
from chimera.events.state import MAX_OPEN_TASKS, Agent, Campaign, Task
from chimera.policy.brief import FOLLOW_UP, SHORT, Boost, Brief, Format, Takedown, boost_of, read_brief, takedown_of, transfer_of
from chimera.processors import filming, imaging, remembering, replies, searching, transfers
from chimera.processors.jobs import Answer, Due, Job, Role, Tools, soonest

NAME = "planner"
PLAN_FAILURES_ALLOWED = 3


def due(agent: Agent, now: int) -> Due:
    """Plans, attempts, expiries and completions owed to this agent at `now` (lower bound of broker time, ms)."""
    jobs: list[Job] = []
    facts: dict[str, Any]
    wake: int | None = None
    room = MAX_OPEN_TASKS - agent.open_tasks
    for c in agent.campaigns.values():
        if c.status != "cancelled" and c.planned_edition < c.brief_edition:
            if c.plan_failures < PLAN_FAILURES_ALLOWED:
                facts = {
                    "brief": c.brief,
                    "edition": c.brief_edition,
                    "next_ordinal": c.next_ordinal,
                    "open": [(t.ordinal, t.ref) for t in c.tasks.values() if t.status != "planned" and t.ordinal not in c.passing],
                    "done": [
                        (ordinal, done.artifact, done.ended) for ordinal, done in sorted(c.done.items()) if ordinal not in c.passing
                    ],
                }
                jobs.append(_job(agent, c, "plan", 0, 0, c.round + 1, facts))
            continue
        if agent.heard and replies.answers_now(agent, c, now):
            jobs.append(_job(agent, c, "answer", 0, 0, c.round + 1, replies.facts(agent, c)))
        if c.planned_edition == c.brief_edition and not c.tasks:
            if now >= c.listens_until:
                jobs.append(_job(agent, c, "complete", 0, 0, c.brief_edition, {"cause": c.brief}))
            else:
                wake = soonest(wake, c.listens_until)
            continue
        for t in c.tasks.values():
            if t.status == "planned" or (t.stale and not (t.effect is not None and t.effect.committed)):
                at = _opens_at(agent, c, t, now)
                if at is None:
                    continue
                if at > now:
                    wake = soonest(wake, at)
                elif room > 0 or t.status != "planned":
                    room -= t.status == "planned"
                    facts = {"cause": t.feedback or t.ref, "reason": t.wait_reason}
                    jobs.append(_job(agent, c, "open", t.ordinal, t.attempt + 1, 0, facts))
            elif t.effect is not None:
                at = _expires_at(agent, c, t)
                if at is None:
                    continue
                if at > now:
                    wake = soonest(wake, at)
                else:
                    what = "card" if t.effect.status == "people" else "approval"
                    facts = {"cause": t.effect.ref, "expired": what}
                    jobs.append(_job(agent, c, "expire", t.ordinal, t.attempt, t.effect.claim, facts))
    return Due(jobs, wake)


def _opens_at(agent: Agent, c: Campaign, t: Task, now: int) -> int | None:
    """Broker time at which the next attempt may be opened; None while only a record can change that."""
    if agent.held or c.status != "running" or agent.policy is None or any(o not in c.done for o in t.depends_on):
        return None
    at = max(now, t.plan_not_before, t.not_before)
    if t.max_cost > 0 and allowance_left(agent, at) < t.max_cost:
        a = agent.allowance
        if a is None or a.limit < t.max_cost:
            return None
        at = max(at, a.window_start + a.window_ms)
    return at


def _expires_at(agent: Agent, c: Campaign, t: Task) -> int | None:
    """When the card expires or the approval lapses, if nothing is held from now on."""
    e, p = t.effect, agent.policy
    if e is None or p is None or c.held_since:
        return None
    if e.status == "people":
        return e.opened_ts + p.inline.expiry_ms + c.held_ms - e.opened_held
    if e.status == "approved":
        return e.approved_ts + e.ahead_ms + p.inline.lapse_ms + c.held_ms - e.approved_held
    return None


def _job(agent: Agent, c: Campaign, what: str, ordinal: int, attempt: int, number: int, facts: dict[str, Any]) -> Job:
    return Job(NAME, what, agent.key, agent.tenant, c.campaign_id, c.number, ordinal, attempt, number, facts)


async def do(job: Job, tools: Tools) -> Answer | None:
    """One record per debt."""
    if job.what == "plan":
        return await _plan(job, tools)
    if job.what == "answer":
        return await replies.plan(job, tools)
    cause = (await tools.read(job.facts["cause"])).id
    if job.what == "open":
        return Answer(
            TaskPlanned(campaign=job.campaign, ordinal=job.ordinal, attempt=job.attempt, reason=job.facts["reason"]), cause
        )
    if job.what == "expire":
        data = Expired(campaign=job.campaign, ordinal=job.ordinal, attempt=job.attempt, what=job.facts["expired"])
        return Answer(data, cause)
    return Answer(CampaignCompleted(campaign=job.campaign), cause)


async def _plan(job: Job, tools: Tools) -> Answer:
    record = await tools.read(job.facts["brief"])
    d = record.data
    assert isinstance(d, CampaignStarted | BriefChanged)
    rows: list[PlanRow] = []
    reason = ""
    try:
        takedown = takedown_of(d.brief)
        boost = boost_of(d.brief)
        transfer = transfer_of(d.brief)
        if takedown is not None:
            rows = [takedown_row(takedown, job.campaign, job.facts["next_ordinal"])]
        elif boost is not None:
            rows = [boost_row(boost, job.campaign, job.facts["next_ordinal"])]
        elif transfer is not None:
            rows = [transfers.row_of(transfer, job.campaign, job.facts["next_ordinal"])]
        else:
            standing = await _standing(job, tools)
            rows = rows_for(read_brief(d.brief), job.campaign, job.facts["next_ordinal"], standing)
            rows = await remembering.marked(rows, job, tools)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        reason = f"unreadable brief: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    plan = PlanDrafted(campaign=job.campaign, round=job.number, brief_edition=job.facts["edition"], rows=rows, reason=reason)
    return Answer(plan, record.id)


Place = tuple[str, str, str]
"""(kind, platform, format); the last two empty for what serves all formats, and the format marked where a post is followed up."""


class Standing(NamedTuple):
    """What a new round need not plan: ordinals by place, and when (ms) what is out went out, by ordinal."""

    ordinals: Mapping[Place, int] = MappingProxyType({})
    out_ts: Mapping[int, int] = MappingProxyType({})
    made: Mapping[Place, int] = MappingProxyType({})
    """Words, shots, pictures and films that are done: what another platform's cut is made from, and nothing else."""


def place_of(kind: str, told: Mapping[str, Any]) -> Place:
    """Of a row by its inputs, or of a text by its content."""
    form = told.get("format", "")
    if "shot" in told:
        form = f"{form} shot {told['shot']}"
    return kind, told.get("platform", ""), f"{form} {FOLLOW_UP}" if FOLLOW_UP in told else form


async def _standing(job: Job, tools: Tools) -> Standing:
    """Open tasks (planned again by themselves where stale) and what was published."""
    ordinals: dict[Place, int] = {}
    out_ts: dict[int, int] = {}
    done: dict[Place, int] = {}
    for ordinal, at in job.facts["open"]:
        d = (await tools.read(at)).data
        assert isinstance(d, PlanDrafted)
        row = next(row for row in d.rows if row.ordinal == ordinal)
        ordinals[place_of(row.kind, row.inputs)] = ordinal
    for ordinal, at, ended in job.facts["done"]:
        made = (await tools.read(at)).data
        if isinstance(made, ArtifactProduced) and made.kind in filming.MADE_FROM:
            done[place_of(made.kind, made.content)] = ordinal
        if isinstance(made, ArtifactProduced | HumanEdited) and "draft" in made.content:
            ordinals[place_of("publish", made.content)] = ordinal
            if ended is not None:
                out_ts[ordinal] = (await tools.read(ended)).append_ts
    return Standing(ordinals, out_ts, done)


def rows_for(brief: Brief, campaign: int, first: int, standing: Standing = Standing()) -> list[PlanRow]:
    """The task graph of a brief: research -> angles -> one draft per format -> its publication -> where one is wanted its
    follow-up, a draft and its publication that wait for the first.

    What stands already is built upon, not planned twice. Reads are stated by the kind of task: what is written from the brief
    reads the brief, what speaks in the agent's voice reads the persona, what goes out reads the account.
    """
    on_brief = f"brief/{campaign}"
    rows: list[PlanRow] = []
    planned: dict[Place, int] = {}
    texts = sum(1 + (form.follow_up is not None) for form in brief.formats if form.cut_from is None)

    def add(kind: str, title: str, depends_on: list[int], reads: list[str], inputs: dict[str, Any], **more: Any) -> int:
        place = place_of(kind, inputs)
        if place in standing.ordinals:
            return standing.ordinals[place]
        ordinal = planned[place] = first + len(rows)
        criteria = [c.model_dump(mode="json") for c in brief.acceptance] if "platform" in inputs else []
        about = {"title": title[:200], "depends_on": depends_on, "reads": [on_brief, *reads], "criteria": criteria}
        rows.append(PlanRow(ordinal=ordinal, kind=kind, inputs=inputs, **about, **more))
        return ordinal

    @cache
    def angles() -> int:
        research = add("research", searching.title_of(brief), [], [], searching.inputs_of(brief))
        wanted = min(20, texts)
        count = {"count": min(20, wanted + 2), "wanted": wanted}
        return add("angles", f"Find what is worth saying to {brief.audience}", [research], ["soul"], count)

    def say(form: Format, inputs: dict[str, Any], noun: str, after: list[int], **more: Any) -> int:
        """A draft and its publication, unless that stands; the publication's ordinal."""
        if place_of("publish", inputs) in standing.ordinals:
            return standing.ordinals[place_of("publish", inputs)]
        drafted = place_of("draft", inputs) in standing.ordinals
        made_from = [] if drafted else [angles(), *after]
        draft = add("draft", f"Write a {noun} for {form.platform}", made_from, ["soul"], inputs, **more)
        shown: list[int] = []
        for step in imaging.steps(form) if FOLLOW_UP not in inputs else ():
            shown = [add(step.kind, step.title, [draft, *shown], [], {**inputs, "aspect": form.aspect})]
        if form.media == SHORT and FOLLOW_UP not in inputs:
            made: list[int] = []
            for part in filming.steps(form):
                made.append(add(part.kind, part.title, [draft, *(made[n] for n in part.after)], [], {**inputs, **part.inputs}))
            shown = made[-1:]
        goes_out = {**inputs, "media": form.media} if shown else inputs
        made_of = [draft, *shown, *after]
        return add("publish", f"Publish the {noun} on {form.platform}", made_of, [f"account/{form.platform}"], goes_out)

    def cut(form: Format, inputs: dict[str, Any]) -> bool:
        """What another format says and shows, cut for this one; False where not all of that is there."""
        known = {**standing.made, **standing.ordinals, **planned}
        platform, _, name = str(form.cut_from).partition("/")
        source = {"platform": platform, "format": name}
        needed = [("draft", {}), *filming.cut_from(form)]
        made_from = [known.get(place_of(kind, source | more)) for kind, more in needed]
        if place_of("publish", inputs) in standing.ordinals:
            return True
        if None in made_from:
            return False
        draft, *parts = [ordinal for ordinal in made_from if ordinal is not None]
        told = {**inputs, "aspect": form.aspect, "media": form.media}
        made = add("cut", f"Cut {form.cut_from} for {form.platform}", [draft, *parts], [], told)
        title = f"Publish the {form.format} on {form.platform}"
        add("publish", title, [draft, made], [f"account/{form.platform}"], {**inputs, "media": form.media})
        return True

    later = len(brief.formats)
    for index, form in enumerate(brief.formats):
        inputs = {"platform": form.platform, "format": form.format, "formats": texts, "max_chars": form.max_chars}
        if form.cut_from is not None and cut(form, inputs | {"index": index}):
            continue
        fits = [each for each in brief.formats if each.cut_from == f"{form.platform}/{form.format}"]
        if fits:
            limits = [each.max_chars for each in (form, *fits) if each.max_chars is not None]
            inputs |= {"max_chars": min(limits, default=None), "fits": [each.platform for each in fits]}
        post = say(form, inputs | {"index": index}, form.format, [])
        if form.follow_up is not None:
            wish = form.follow_up
            own = {"index": later, "max_chars": wish.max_chars or form.max_chars, FOLLOW_UP: wish.model_dump(mode="json")}
            gone_out = standing.out_ts.get(post)
            wait = {"wait_ms": wish.after_ms} if gone_out is None else {"not_before": gone_out + wish.after_ms}
            say(form, inputs | own, f"follow-up of the {form.format}", [post], **wait)
            later += 1
    return rows


def takedown_row(takedown: Takedown, campaign: int, ordinal: int) -> PlanRow:
    """One task: it reads the account that published, for a takedown acts on that and no other."""
    return PlanRow(
        ordinal=ordinal,
        kind="takedown",
        title=f"Take {takedown.platform_id} down from {takedown.platform}"[:200],
        reads=[f"brief/{campaign}", f"account/{takedown.platform}"],
        inputs=takedown.model_dump(mode="json"),
    )


def boost_row(boost: Boost, campaign: int, ordinal: int) -> PlanRow:
    """One task: it reads the account that published and that is billed."""
    return PlanRow(
        ordinal=ordinal,
        kind="boost",
        title=f"Boost {boost.platform_id} on {boost.platform}: {boost.tier}, {boost.days} days"[:200],
        reads=[f"brief/{campaign}", f"account/{boost.platform}"],
        inputs=boost.model_dump(mode="json"),
    )


def role() -> Role:
    return Role(NAME, due, do)
