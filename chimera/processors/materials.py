"""What a worker makes things from: the records that its task reads, and the artifact that comes of them.

The rule not to break: a task reads what its row and its facts name, and nothing else.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from chimera.events.envelope import Record
from chimera.events.hashes import digest
from chimera.events.records import (
    ArtifactProduced,
    BriefChanged,
    CampaignStarted,
    Data,
    Disclosure,
    HumanEdited,
    HumanRejected,
    JudgeVerdict,
    PlanDrafted,
    PlanRow,
    PolicyAdopted,
    SoulAdopted,
    Taint,
    WorkFailed,
)
from chimera.events.state import Ref
from chimera.policy.boardkit import Rules, Soul, parse_rules, parse_soul
from chimera.policy.brief import Brief, read_brief
from chimera.policy.hours import opens_at
from chimera.policy.writing import (
    Angle,
    AnglesResponse,
    Article,
    body_of,
    read_article,
    reason,
)
from chimera.processors.jobs import Job, Tools

INLINE_BYTES = 14_000
MOST_REASONS = 20
MOST_REASON_CHARS = 600
_TAINTS: tuple[Taint, ...] = ("owner", "allowlisted", "open")


def row(plan: Record, ordinal: int) -> PlanRow:
    d = plan.data
    assert isinstance(d, PlanDrafted)
    return next(row for row in d.rows if row.ordinal == ordinal)


def made(record: Record) -> ArtifactProduced:
    d = record.data
    assert isinstance(d, ArtifactProduced)
    return d


async def brief(job: Job, tools: Tools) -> Brief:
    d = (await tools.read(job.facts["brief"])).data
    assert isinstance(d, CampaignStarted | BriefChanged)
    return read_brief(d.brief)


async def soul(job: Job, tools: Tools) -> Soul:
    d = (await tools.read(job.facts["soul"])).data
    assert isinstance(d, SoulAdopted)
    return parse_soul(d.soul)


async def rules(job: Job, tools: Tools) -> Rules:
    d = (await tools.read(job.facts["policy"])).data
    assert isinstance(d, PolicyAdopted)
    return parse_rules(d.rules)


async def feedback(job: Job, tools: Tools) -> tuple[list[str], list[str]]:
    """What the writer is to obey and what it is not to say again: what people refused of this agent's words, then why earlier
    attempts of this task did not pass, newest last; and those texts."""
    reasons, used = await _refused_by_people(job, tools)
    if job.facts["feedback"] is None:
        return reasons, used
    d: Data | None = (await tools.read(job.facts["feedback"])).data
    if isinstance(d, WorkFailed):
        # A server that was not there and a worker that was killed say nothing about the text.
        said = [] if d.lost or d.not_before is not None else [d.reason]
        return [*reasons, *said], used
    if not isinstance(d, JudgeVerdict) or "artifact" not in d.trace:
        return reasons, used
    made_then = (await tools.read(Ref(*d.trace["artifact"]))).data
    if not isinstance(made_then, ArtifactProduced):
        return [*reasons, *d.reasons], used
    earlier: list[str] = made_then.provenance.get("feedback", [])
    kept = list(dict.fromkeys([*reasons, *earlier, *d.reasons]))[-MOST_REASONS:]
    return kept, [*used, made_then.content.get("text", "")]


async def _refused_by_people(job: Job, tools: Tools) -> tuple[list[str], list[str]]:
    """The reasons of the last refusals, oldest first, and the refused words.

    Words made from what strangers said are not handed on: what comes of this task would be as tainted as they are. A text
    refused for its timing may be said again.
    """
    reasons: list[str] = []
    used: list[str] = []
    for lesson in job.facts["lessons"]:
        no = (await tools.read(lesson.by)).data
        about = (await tools.read(lesson.about)).data
        assert isinstance(no, HumanRejected)
        assert isinstance(about, ArtifactProduced | HumanEdited)
        origin = about if isinstance(about, ArtifactProduced) else (await tools.read(Ref(*about.content["draft"]))).data
        words = about.content.get("text", "")
        known = isinstance(origin, ArtifactProduced) and origin.taint != "open"
        quoted = f' "{words}"' if known else ""
        comment = f": {no.comment}" if no.comment else ""
        reasons.append(reason("rejected", no.reason_code, f"a person refused an earlier text{quoted}{comment}")[:MOST_REASON_CHARS])
        if known and no.reason_code != "timing":
            used.append(words)
    return reasons, used


def not_before(rules: Rules, brief: Brief, row: PlanRow, now: int) -> int:
    """When it may go out: the brief's time for this format, then the platform's posting hours; 0 where that is now."""
    hours = rules.posting_hours.get(row.inputs["platform"])
    if "signal" in row.inputs:
        wished, hours = now, hours if hours is not None and hours.replies else None
    else:
        wanted = [form.not_before for form in brief.formats if (form.platform, form.format) == _form(row)]
        wished = max([now, *(int(when.timestamp() * 1000) for when in wanted if when is not None)])
    opens = opens_at(hours, wished)
    return opens if opens > now else 0


def _form(row: PlanRow) -> tuple[str, str]:
    return row.inputs["platform"], row.inputs["format"]


def angle(angles: list[Angle], index: int, formats: int, attempt: int) -> Angle:
    """Each format starts with an angle of its own; further attempts take the spare ones, so that no fact is told twice."""
    spare = angles[formats:] or angles
    return angles[index % len(angles)] if attempt == 1 else spare[(index + attempt - 2) % len(spare)]


def verbatim(answer: AnglesResponse, articles: list[Article]) -> float:
    """Share of quotes that stand word for word in the article they name."""
    texts = {a.id: f"{a.title}\n{a.summary}\n{a.text}" for a in articles}
    quotes = [support for angle in answer.angles for support in angle.support]
    return sum(support.quote in texts.get(support.article_id, "") for support in quotes) / len(quotes)


def worst(*taints: Taint) -> Taint:
    return max(taints, key=_TAINTS.index)


def articles(told: list[Any]) -> tuple[list[dict[str, Any]], int]:
    """What a feed told that can be used, and how many items cannot: one without an address, say. They take the others with them
    in no case, or whoever writes one item could stop everybody who reads the feed.
    """
    usable: list[dict[str, Any]] = []
    for item in told:
        try:
            usable.append(body_of(read_article(item)))
        except ValidationError:
            continue
    return usable, len(told) - len(usable)


def fitting(articles: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As many articles as fit into one record, texts cut to what all of them can have (content over 16 KB has no home yet)."""
    room = max(400, INLINE_BYTES // len(articles) - 400)
    kept: list[dict[str, Any]] = []
    size = 0
    for article in articles:
        cut = {**article, "text": article["text"][:room], "summary": article["summary"][:300]}
        size += len(cut["text"].encode()) + len(cut["summary"].encode()) + len(cut["title"].encode()) + 200
        if kept and size > INLINE_BYTES:
            break
        kept.append(cut)
    return kept


def artifact(
    job: Job,
    row: PlanRow,
    content: dict[str, Any],
    confidence: float | None,
    taint: Taint,
    sources: list[dict[str, Any]],
    provenance: dict[str, Any],
    disclosure: Disclosure = "none",
) -> ArtifactProduced:
    return ArtifactProduced(
        campaign=job.campaign,
        ordinal=job.ordinal,
        attempt=job.attempt,
        input_state_version=job.facts["input"],
        kind=row.kind,
        artifact_hash=digest(content),
        content=content,
        confidence_score=confidence,
        risk_tags=[],
        disclosure_level=disclosure,
        taint=taint,
        sources=sources,
        provenance=provenance,
        cost_usd=Decimal(0),
    )
