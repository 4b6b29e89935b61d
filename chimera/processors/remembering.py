"""Remembering: what memory gives to planner, worker and judge.

The rules not to break: a plan says which tasks remember and what kinds, so a task reads what its row names; what is recalled is
data, never worth less than what it is put beside (so it raises no taint), and named in what is made from it. Memory that is away
is nobody's failure.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from chimera.events.notes import Kind
from chimera.events.records import PlanRow, Taint
from chimera.events.state import Lesson
from chimera.memory.contract import Query, Remembered, within
from chimera.policy.brief import Brief
from chimera.policy.context import RuleHit
from chimera.policy.writing import Article, reason
from chimera.processors.jobs import Job, Tools

INPUT = "remembers"
"""The input of a planned task that names the kinds of notes that it recalls."""
OF_KIND: dict[str, tuple[Kind, ...]] = {
    "research": ("fact_with_source",),
    "draft": ("human_reason", "post_result"),
    "reply": ("human_reason",),
    "publish": ("human_reason",),
}
"""Kind of task -> what it may have use for. What is published is judged once more, by what people refused."""
FACTS, REASONS, POSTS = 6, 3, 3
"""At most so many of each."""
CHARACTERS = 1_500
"""What recollections of one kind may take of a prompt, and of the record that holds what was made."""
REFUSED_ALIKE = 0.80
"""A text this near in meaning (cosine) to what a person refused is shown to people again."""
_ANY_TIME = "timing:"
"""A refusal for its timing says nothing of the words."""


class Recalled(NamedTuple):
    """Lines for a prompt, and the notes that they are from, for whoever asks later."""

    lines: list[str]
    notes: list[dict[str, Any]]


async def marked(rows: Sequence[PlanRow], job: Job, tools: Tools) -> list[PlanRow]:
    """The rows of a plan, those that have use for what the agent remembers saying so."""
    there = await tools.remembered(job)
    return [_marked(row, [kind for kind in OF_KIND.get(row.kind, ()) if kind in there]) for row in rows]


def _marked(row: PlanRow, kinds: list[Kind]) -> PlanRow:
    return row.model_copy(update={"inputs": {**row.inputs, INPUT: kinds}}) if kinds else row


async def articles(
    job: Job, row: PlanRow, brief: Brief, taint: Taint, there: Collection[str], tools: Tools
) -> list[dict[str, Any]]:
    """Facts that bear on the brief, as articles of the passages that stood in them. `there`: addresses that were read anew."""
    about = " ".join([brief.goal, *brief.key_messages])
    found = await _recalled(job, row, "fact_with_source", about, FACTS, taint, tools)
    passages: dict[str, list[Remembered]] = defaultdict(list)
    for each in found:
        if each.note.url and each.note.title and each.note.url not in there:
            passages[each.note.url].append(each)
    return [
        {
            **Article(
                id=hashlib.sha256(url.encode()).hexdigest()[:16],
                title=of[0].note.title,
                url=url,
                published=of[0].note.published or None,
                text="\n".join(each.text for each in of),
            ).model_dump(mode="json"),
            INPUT: [_place(each) for each in of],
        }
        for url, of in passages.items()
    ]


async def reasons(job: Job, row: PlanRow, about: str, taint: Taint, lessons: Sequence[Lesson], tools: Tools) -> Recalled:
    """What people refused or rewrote that bears on it, as lines of feedback; but for the last ones, which every task is told."""
    known = {(lesson.by.partition, lesson.by.offset) for lesson in lessons}
    found = await _recalled(job, row, "human_reason", about, REASONS + len(known), taint, tools)
    new = [each for each in found if each.note.record_at not in known][:REASONS]
    lines = []
    for each in new:
        code, _, said = each.text.partition(": ")
        lines.append(reason("rejected", code, f"a person said of an earlier text: {said or code}"))
    return Recalled(lines, [_place(each) for each in new])


async def posts(job: Job, row: PlanRow, about: str, taint: Taint, tools: Tools) -> Recalled:
    """What the agent posted of the matter, and how it did."""
    found = await _recalled(job, row, "post_result", about, POSTS, taint, tools)
    lines = []
    for each in found:
        numbers = ", ".join(f"{value:g} {name}" for name, value in sorted(each.note.numbers.items()))
        lines.append(f"on {each.note.platform}{f' ({numbers})' if numbers else ''}: {each.text}")
    return Recalled(lines, [_place(each) for each in found])


async def refused(job: Job, inputs: dict[str, Any], text: str, tools: Tools) -> tuple[RuleHit | None, list[dict[str, Any]]]:
    """For the judge: is this much like what a person refused? It only ever asks people; and the notes that say so."""
    if "human_reason" not in inputs.get(INPUT, ()):
        return None, []
    found = await tools.recall(job, Query(text, job.agent, ("human_reason",), most=REASONS))
    near = [each for each in found if each.parts["vector"] >= REFUSED_ALIKE and not each.text.startswith(_ANY_TIME)]
    if not near:
        return None, []
    code = near[0].text.partition(":")[0]
    return RuleHit("remembered_refusal", code, "it is much like what a person refused before"), [_place(each) for each in near]


async def _recalled(job: Job, row: PlanRow, kind: Kind, about: str, most: int, taint: Taint, tools: Tools) -> list[Remembered]:
    if kind not in row.inputs.get(INPUT, ()):
        return []
    return within(await tools.recall(job, Query(about, job.agent, (kind,), taint, most=most)), CHARACTERS)


def _place(each: Remembered) -> dict[str, Any]:
    """What is kept of a recollection in what was made from it."""
    return {"note": each.note.id, "at": list(each.note.note_at), "taint": each.note.taint, "score": each.score}
