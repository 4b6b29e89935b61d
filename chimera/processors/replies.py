"""Answers: what people said to an agent becomes tasks of a campaign that listens, one reply and its publication for each item.

The rule not to break: what was said is data of `open` taint; it chooses no tool, no account and no price, and its words are only
ever handed to the writer as what somebody said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from chimera.events.records import (
    ArtifactProduced,
    BriefChanged,
    CampaignStarted,
    Disclosure,
    PlanDrafted,
    PlanRow,
    Signal,
    SignalObserved,
)
from chimera.events.state import Agent, Campaign, Ref
from chimera.policy.brief import read_brief
from chimera.processors import remembering, searching
from chimera.processors.jobs import Answer, Job, Tools

MOST_SIGNALS = 4
"""Signal records that one round answers: at most 20 items each, two rows an item."""


THREAD = "thread/"
"""Aspects of what is said in a thread."""
PUBLISH = "publish"
"""The kind of task by which an answer goes out."""
SAID_BY = {"automated": "(automated reply)", "assisted": "(written with AI)"}
"""What an answer says of itself where the platform has no field for it and the policy names no tag of its own."""


class Heard(NamedTuple):
    """One item, and the capability that brought it."""

    capability: str
    item: Signal


async def heard(row: PlanRow, tools: Tools) -> Heard:
    """What this row answers."""
    d = (await tools.read(Ref(*row.inputs["signal"]))).data
    assert isinstance(d, SignalObserved)
    return Heard(d.source.split("/", 1)[1], d.items[row.inputs["item"]])


def label(disclosure: Disclosure, fields: Mapping[str, Any] | None, tag: str) -> str:
    """The words that tell who wrote an answer, "" where a field of the call does. `fields`: what the profile adds to the call for
    this level (None: it has no table of levels); `tag`: what the policy asks for in every text on the platform."""
    return tag or ("" if fields else SAID_BY.get(disclosure, ""))


def answers_now(agent: Agent, c: Campaign, now: int) -> bool:
    """Is it this campaign, of all that listen, which answers? The newest one, once its own plan stands."""
    if agent.held or agent.policy is None or c.planned_edition != c.brief_edition:
        return False
    listening = [o.number for o in agent.campaigns.values() if o.status == "running" and now < o.listens_until]
    return bool(listening) and c.number == max(listening)


def facts(agent: Agent, c: Campaign) -> dict[str, Any]:
    """What a round of answers is made from."""
    assert agent.policy is not None
    return {
        "brief": c.brief,
        "edition": c.brief_edition,
        "next_ordinal": c.next_ordinal,
        "heard": agent.heard[:MOST_SIGNALS],
        "answered": _answers(agent),
        "most": agent.policy.inline.replies_per_thread,
        "open": [(t.ordinal, t.kind) for t in c.tasks.values()],
        "done": [(ordinal, done.artifact) for ordinal, done in sorted(c.done.items())],
    }


def _answers(agent: Agent) -> dict[str, int]:
    """Thread -> answers of this agent in it: those committed, and those planned, which may wait for people for long."""
    count = Counter(dict(agent.answered))
    for t in (t for c in agent.campaigns.values() for t in c.tasks.values() if t.kind == PUBLISH):
        if t.effect is None or not t.effect.committed:
            count.update(aspect.removeprefix(THREAD) for aspect in t.reads if aspect.startswith(THREAD))
    return dict(count)


async def plan(job: Job, tools: Tools) -> Answer:
    """The round: rows for every item that is still to be answered; those beyond the policy's number in a thread are let be."""
    f = job.facts
    brief_record = await tools.read(f["brief"])
    started = brief_record.data
    assert isinstance(started, CampaignStarted | BriefChanged)
    brief = read_brief(started.brief)
    on_brief = f"brief/{job.campaign}"
    rows: list[PlanRow] = []
    research = await _research(job, tools)
    if research is None:
        research = f["next_ordinal"]
        rows.append(_row(research, "research", searching.title_of(brief), [], [on_brief], searching.inputs_of(brief)))
    count: dict[str, int] = dict(f["answered"])
    cause = brief_record.id
    for ref in f["heard"]:
        record = await tools.read(ref)
        cause, d = record.id, record.data
        assert isinstance(d, SignalObserved)
        platform = d.source.split("/", 1)[0]
        for index, item in enumerate(d.items):
            if count.get(item.thread, 0) >= f["most"]:
                continue
            count[item.thread] = count.get(item.thread, 0) + 1
            first = f["next_ordinal"] + len(rows)
            said = {"signal": list(ref), "item": index, "platform": platform, "format": "reply"}
            said["max_chars"] = brief.replies.max_chars if brief.replies is not None else None
            reads = [on_brief, f"{THREAD}{item.thread}"]
            rows.append(_row(first, "reply", f"Answer in {item.thread}", [research], [*reads, "soul"], said))
            title = f"Publish the answer in {item.thread}"
            rows.append(_row(first + 1, PUBLISH, title, [first], [*reads, f"account/{platform}"], said))
    if all(row.kind == "research" for row in rows):
        rows = []
    rows = await remembering.marked(rows, job, tools)
    drafted = PlanDrafted(campaign=job.campaign, round=job.number, brief_edition=f["edition"], rows=rows, answers=len(f["heard"]))
    return Answer(drafted, cause)


async def _research(job: Job, tools: Tools) -> int | None:
    """The ordinal of research that this campaign has or will have."""
    for ordinal, kind in job.facts["open"]:
        if kind == "research":
            return int(ordinal)
    for ordinal, artifact in job.facts["done"]:
        made = (await tools.read(artifact)).data
        if isinstance(made, ArtifactProduced) and made.kind == "research":
            return int(ordinal)
    return None


def _row(ordinal: int, kind: str, title: str, depends_on: list[int], reads: list[str], inputs: dict[str, Any]) -> PlanRow:
    return PlanRow(ordinal=ordinal, kind=kind, title=title[:200], depends_on=depends_on, reads=reads, inputs=inputs)
