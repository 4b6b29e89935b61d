"""Work that ends in words: research, angles, drafts, answers to people.

The rule not to break: what a tool returned carries its taint into everything made from it.
"""

from __future__ import annotations

from typing import Any

from chimera.events.hashes import digest
from chimera.events.records import (
    ArtifactProduced,
    PlanRow,
    Taint,
)
from chimera.events.state import Ref
from chimera.policy.brief import FOLLOW_UP, Research
from chimera.policy.writing import (
    AnglesRequest,
    AnglesResponse,
    DraftRequest,
    DraftResponse,
    ReplyRequest,
    body_of,
    read_article,
    read_reason,
)
from chimera.processors import follow_ups, materials, remembering, replies, searching, threads
from chimera.processors.jobs import CannotWork, Job, Tools
from chimera.processors.kit import Kit, heard_part


async def research(kit: Kit, job: Job, row: PlanRow, tools: Tools) -> ArtifactProduced:
    """Read the brief's feeds and ask its searches. Confidence: how many of them answered and how many articles have a text."""
    feeds: list[str] = row.inputs["feeds"]
    searches = searching.wanted(row.inputs)
    asked = len(feeds) + len(searches)
    limit: int = row.inputs["max_articles"]
    articles: list[dict[str, Any]] = []
    broken: list[dict[str, str]] = []
    unreached, left_out = False, 0
    taint: Taint = "owner"
    for feed in feeds:
        outcome = await tools.tool(job, "feeds.read", {"source": feed, "limit": max(1, limit // asked)})
        if outcome.result == "ok":
            taint = materials.worst(taint, outcome.taint)
            readable, left = materials.articles(outcome.data["articles"])
            articles += readable
            left_out += left
        else:
            unreached = unreached or outcome.result in ("not_sent", "unknown")
            broken.append({"feed": feed, "reason": f"{outcome.reason}: {outcome.detail}"[:300]})
    looked = await searching.found(job, tools, searches, row.inputs.get("per_search", Research.model_fields["per_search"].default))
    if looked.articles:
        taint = materials.worst(taint, looked.taint)
        there = {article["url"] for article in articles}
        articles += [a.model_dump(mode="json") for a in looked.articles if a.url not in there]
    broken, unreached = [*broken, *looked.broken], unreached or looked.unreached
    if not articles:
        none = "the sources hold no article" + (f" that can be used, of {left_out}" if left_out else "")
        reason = "; ".join(f"{b['feed']}: {b['reason']}" for b in broken) or none
        raise CannotWork(reason[:500], retry=unreached)
    kept = materials.fitting(articles)
    recalled: list[dict[str, Any]] = []
    if remembering.INPUT in row.inputs:
        there = {article["url"] for article in articles}
        recalled = await remembering.articles(job, row, await materials.brief(job, tools), taint, there, tools)
    tools_used = sorted({*(["feeds.read"] * bool(feeds)), *(capability for capability, _ in searches)})
    with_text = sum(1 for a in kept if a["text"] or a["summary"]) / len(kept)
    confidence = with_text * (0.85 + 0.15 * (asked - len(broken)) / asked)
    sources = [{"title": a["title"], "url": a["url"]} for a in (*kept, *recalled)]
    return materials.artifact(
        job,
        row,
        {"articles": [*kept, *recalled], "broken_feeds": broken, **({"left_out": left_out} if left_out else {})},
        confidence,
        taint,
        sources,
        {"tools": tools_used} if searches else {"tool": "feeds.read"},
    )


async def angles(kit: Kit, job: Job, row: PlanRow, tools: Tools) -> ArtifactProduced:
    """What is worth saying, by the writer, from the research. Confidence: how many quotes stand in the sources exactly so, and
    whether there is an angle for each format; how well an angle fits is the draft's own matter."""
    research = await tools.read(job.facts["deps"][0])
    found = materials.made(research)
    articles = [read_article(a) for a in found.content["articles"]]
    brief, soul = await materials.brief(job, tools), await materials.soul(job, tools)
    request = AnglesRequest(brief=brief, soul=soul, articles=articles, count=row.inputs["count"])
    written, maker = await complete(job, tools, "angles", body_of(request))
    answer = AnglesResponse.model_validate(written)
    if not answer.angles:
        raise CannotWork("no sentence of the sources bears on the brief")
    confidence = materials.verbatim(answer, articles) * min(1.0, len(answer.angles) / row.inputs["wanted"])
    content = {"angles": [angle.model_dump(mode="json") for angle in answer.angles]}
    used = {support.article_id for angle in answer.angles for support in angle.support}
    sources = [{"title": a.title, "url": a.url, "id": a.id} for a in articles if a.id in used]
    provenance = {**maker, "research": list(job.facts["deps"][0])}
    return materials.artifact(job, row, content, confidence, materials.worst(found.taint), sources, provenance)


async def draft(kit: Kit, job: Job, row: PlanRow, tools: Tools) -> ArtifactProduced:
    """One text from one angle; each format starts with another angle, each attempt moves on. A follow-up knows the text that it
    follows, and is written only where that has been liked enough."""
    before = await follow_ups.wanted(kit.profiles, job, row, tools) if FOLLOW_UP in row.inputs else None
    angles_record = await tools.read(job.facts["deps"][0])
    found = materials.made(angles_record)
    research_ref = Ref(*found.provenance["research"])
    told = materials.made(await tools.read(research_ref)).content["articles"]
    answer = AnglesResponse.model_validate(found.content)
    feedback, used = await materials.feedback(job, tools)
    taint = found.taint
    if before is not None:
        feedback, used, taint = [*feedback, before.told], [*used, before.text], materials.worst(taint, before.taint)
    variant = int(digest(job.agent)[:6], 16)
    # Where another account has told it, those who were told so spread over what is left, each by its own number.
    spread = variant if any(read_reason(line).rule == "tenant_duplicate" for line in feedback) else 0
    angle = materials.angle(answer.angles, row.inputs["index"] + spread, row.inputs["formats"], job.attempt)
    named = {s.article_id for s in angle.support}
    supporting = [read_article(a) for a in [a for a in told if a["id"] in named] or told[:1]]
    rules = await materials.rules(job, tools)
    limit = row.inputs.get("max_chars") or rules.max_chars_on(row.inputs["platform"]) or 280
    limit = min([limit, *(rules.max_chars_on(platform) or limit for platform in row.inputs.get("fits", ()))])
    brief = await materials.brief(job, tools)
    about = f"{brief.goal} {angle.claim}"
    reasons = await remembering.reasons(job, row, about, taint, job.facts["lessons"], tools)
    posts = await remembering.posts(job, row, about, taint, tools)
    feedback = [*reasons.lines, *(line for line in feedback if line not in reasons.lines)]
    request = DraftRequest(
        brief=brief,
        soul=await materials.soul(job, tools),
        angle=angle,
        articles=supporting,
        platform=row.inputs["platform"],
        format=row.inputs["format"],
        max_chars=limit,
        feedback=feedback,
        attempt=job.attempt,
        used_texts=used,
        remembered=posts.lines,
        variant=variant,
    )
    written, maker = await complete(job, tools, "draft", body_of(request))
    draft = DraftResponse.model_validate(written)
    content = {
        "text": draft.text,
        "platform": row.inputs["platform"],
        "format": row.inputs["format"],
        "link": draft.link,
        "quotes": [quote.model_dump(mode="json") for quote in draft.quotes],
    }
    if before is not None:
        content[FOLLOW_UP] = list(before.ended)
    sources = [{"title": a.title, "url": a.url, "id": a.id} for a in supporting]
    provenance = {
        **maker,
        "research": list(research_ref),
        "angle": angle.id,
        "parts": draft.parts,
        "feedback": feedback,
    }
    if reasons.notes or posts.notes:
        provenance[remembering.INPUT] = [*reasons.notes, *posts.notes]
    return materials.artifact(job, row, content, draft.confidence_score, taint, sources, provenance, request.brief.disclosure)


async def reply(kit: Kit, job: Job, row: PlanRow, tools: Tools) -> ArtifactProduced:
    """One answer to what somebody said, from the campaign's research; of the taint of what was said."""
    heard = await replies.heard(row, tools)
    research_ref: Ref = job.facts["deps"][0]
    found = materials.made(await tools.read(research_ref))
    articles = [read_article(a) for a in found.content["articles"]]
    rules = await materials.rules(job, tools)
    feedback, used = await materials.feedback(job, tools)
    brief = await materials.brief(job, tools)
    platform = row.inputs["platform"]
    tag = rules.disclosure[platform].text_tag if platform in rules.disclosure else ""
    by = kit.profiles.answer_to(heard.capability, platform).by
    fields = kit.profiles.capability(by, platform).disclosure.get(brief.disclosure)
    ending = replies.label(brief.disclosure, fields, tag)
    limit = row.inputs.get("max_chars") or rules.max_chars_on(platform) or 280
    said = heard_part(kit, heard.item, "text")
    worth = materials.worst(found.taint, heard.item.taint)
    recalled = await remembering.reasons(job, row, said, worth, job.facts["lessons"], tools)
    feedback = [*recalled.lines, *(line for line in feedback if line not in recalled.lines)]
    earlier = await threads.before(job, heard.item.thread, row.inputs["signal"], row.inputs["item"], worth, tools)
    request = ReplyRequest(
        brief=brief,
        soul=await materials.soul(job, tools),
        said=said,
        articles=articles,
        platform=platform,
        max_chars=max(40, limit - len(ending) - 1) if ending else limit,
        feedback=feedback,
        attempt=job.attempt,
        used_texts=[*used, *(text for text in earlier.ours if text not in used)],
        thread=earlier.lines,
    )
    written, maker = await complete(job, tools, "reply", body_of(request))
    reply = DraftResponse.model_validate(written)
    quoted = {quote.article_id for quote in reply.quotes}
    text = reply.text if not ending or ending in reply.text else f"{reply.text} {ending}"
    content = {
        "text": text,
        "platform": platform,
        "format": "reply",
        "link": reply.link,
        "quotes": [quote.model_dump(mode="json") for quote in reply.quotes],
    }
    sources = [{"title": a.title, "url": a.url, "id": a.id} for a in articles if a.id in quoted]
    provenance = {
        **maker,
        "research": list(research_ref),
        "signal": row.inputs["signal"],
        "item": row.inputs["item"],
        "parts": reply.parts,
        "feedback": feedback,
        **threads.named(earlier),
    }
    if recalled.notes:
        provenance[remembering.INPUT] = recalled.notes
    return materials.artifact(job, row, content, reply.confidence_score, worth, sources, provenance, request.brief.disclosure)


async def complete(job: Job, tools: Tools, purpose: str, request: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Ask the text writer: its answer, and who gave it (for the artifact's provenance: tool, and model, profile and the server's
    version where they are told). A refusal is a failure of the attempt, an unreached server is not.
    """
    outcome = await tools.tool(job, "text.complete", {"purpose": purpose, "request": request})
    if outcome.result == "ok":
        data: dict[str, Any] = outcome.data
        said = {
            "model": str(data.get("writer", "")).removeprefix("model:")[:200],
            "profile": outcome.profile,
            "server_version": outcome.server_version,
        }
        return data, {"tool": "text.complete", **{name: value for name, value in said.items() if value}}
    raise CannotWork(f"{outcome.reason}: {outcome.detail}"[:500], retry=outcome.result != "refused")
