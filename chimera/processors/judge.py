"""The judge: one vote per artifact or effect, bound to its exact hashes. Content by rules and a score; money by rules alone.

The rule not to break: it fails closed. An error, a timeout or a missing policy is "people decide", never "pass"; and its word
alone approves nothing: the fold counts.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from chimera.events.does.people import needs_cfo
from chimera.events.envelope import Record
from chimera.events.hashes import canonical, commit_hash, simhash, text_hash
from chimera.events.records import (
    ArtifactProduced,
    BriefChanged,
    CampaignStarted,
    EffectProposal,
    HumanEdited,
    JudgeVerdict,
    PlanDrafted,
    PlanRow,
    PolicyAdopted,
    SoulAdopted,
)
from chimera.events.state import Agent, Ref
from chimera.mcp.tiers import UnknownTier
from chimera.policy.boardkit import Rules, Soul, parse_rules, parse_soul
from chimera.policy.brief import Brief, boost_of, read_brief, read_criteria, takedown_of, transfer_of
from chimera.policy.money import judge_money
from chimera.policy.routing import Verdict, verdict
from chimera.policy.rules import OF_POSTS, Context, Findings, judge
from chimera.policy.writing import Article, RateRequest, body_of, read_article, read_rating, reason
from chimera.processors import filming, imaging, remembering, transfers
from chimera.processors.elsewhere import Elsewhere
from chimera.processors.jobs import Answer, Due, Job, Role, Tools
from chimera.processors.ratings import Ratings

NAME = "judge"
Price = Callable[[EffectProposal], Decimal | None]
"""What exactly this call costs in US dollars by its profile's table; None where that says nothing, UnknownTier where it prices
other arguments only."""


def due(agent: Agent, now: int) -> Due:
    """Votes owed under the adopted edition."""
    jobs: list[Job] = []
    if agent.policy is None or agent.soul is None:
        return Due(jobs)
    for c in agent.campaigns.values():
        for t in c.tasks.values():
            e = t.effect
            if t.status != "produced" or t.artifact is None or (e is not None and e.status != "proposed"):
                continue
            edit = e.edit if e is not None else 0
            facts: dict[str, Any] = {
                "input": t.input_state_version,
                "artifact": t.artifact,
                "artifact_hash": t.artifact_hash,
                "effect_hash": e.hash if e is not None else None,
                "edit": edit,
                "edition": agent.policy.edition,
                "policy": agent.policy.ref,
                "soul": agent.soul,
                "brief": c.brief,
                "plan": t.ref,
                "output": agent.version + 1,
                "said": [
                    (f[0], f[1])
                    for f in agent.fingerprints.get(f"{e.platform}/{e.account}" if e is not None else "", ())
                    if (f[2], f[3]) != (c.number, t.ordinal)
                ],
            }
            number = agent.policy.edition * 1000 + edit
            if e is None or e.content_ask is None:
                jobs.append(
                    Job(NAME, "content", agent.key, agent.tenant, c.campaign_id, c.number, t.ordinal, t.attempt, number, facts)
                )
            if e is not None and needs_cfo(e) and e.cfo is None and e.funds in (None, "held"):  # the ledger answers first
                jobs.append(Job(NAME, "cfo", agent.key, agent.tenant, c.campaign_id, c.number, t.ordinal, t.attempt, number, facts))
    return Due(jobs)


async def do(
    job: Job,
    tools: Tools,
    price: Price,
    elsewhere: Elsewhere | None = None,
    moves: transfers.Moves = lambda effect: None,
    ratings: Ratings | None = None,
) -> Answer | None:
    """The vote. Whatever goes wrong on the way to it is a vote for asking people, with the reason.

    `price`: the table that the CFO's half looks at; `elsewhere`: what this process knows of the tenant's other accounts; `moves`:
    which asset a call moves; `ratings`: what this process was told of texts."""
    record = await tools.read(job.facts["artifact"])
    vote: Verdict
    trace: dict[str, Any]
    if job.what == "cfo":
        vote, trace = _cfo(record, price)
    else:
        vote, trace = await _content(job, record, tools, elsewhere or Elsewhere(), moves, ratings or Ratings())
    trace["artifact"] = list(job.facts["artifact"])
    data = JudgeVerdict(
        campaign=job.campaign,
        ordinal=job.ordinal,
        attempt=job.attempt,
        policy_edition=job.facts["edition"],
        input_state_version=job.facts["input"],
        artifact_hash=job.facts["artifact_hash"],
        effect_hash=job.facts["effect_hash"],
        edit=job.facts["edit"],
        expected_output_version=job.facts["output"],
        commit_hash=commit_hash(
            job.agent,
            f"{job.campaign}.{job.ordinal}",
            job.facts["input"],
            job.facts["artifact_hash"],
            job.facts["effect_hash"],
        ),
        judge="cfo" if job.what == "cfo" else "content",
        decision=vote.decision,
        confidence_raw=vote.confidence_raw,
        confidence=vote.confidence,
        tags=vote.tags,
        failed_rules=vote.failed_rules,
        reasons=vote.reasons,
        trace=trace,
    )
    return Answer(data, record.id)


def _cfo(record: Record, price: Price) -> tuple[Verdict, dict[str, Any]]:
    """Rules only, no opinion; the tenant's ledger holds the money itself (docs/decisions/0039)."""
    effect = getattr(record.data, "effect", None)
    if not isinstance(effect, EffectProposal):
        asked = reason("judge_error", record.type, "the record proposes nothing that costs: people decide")
        return Verdict("people", None, None, [], [], [asked]), {"by": "rules"}
    try:
        priced = price(effect)
    except UnknownTier as unknown:
        why = reason("tier", effect.tool, str(unknown))
        return Verdict("fail", 1.0, 1.0, [], ["tier"], [why]), {"by": "rules"}
    return judge_money(effect, priced), {"by": "rules", "price_usd": None if priced is None else str(priced)}


async def _content(
    job: Job, record: Record, tools: Tools, elsewhere: Elsewhere, moves: transfers.Moves, ratings: Ratings
) -> tuple[Verdict, dict[str, Any]]:
    d = record.data
    assert isinstance(d, ArtifactProduced | HumanEdited)
    try:
        if "takedown" in d.content:
            return await _takedown(job, d, tools)
        if "boost" in d.content:
            return await _boost(job, d, tools)
        if "transfer" in d.content:
            return await _transfer(job, d, tools, moves)
        rules, soul, brief = await _bundle(job, tools)
        if "prompt" in d.content:
            return _prompt(d, rules, soul)
        if "shots" in d.content:
            return await _shots(d, rules, tools)
        if "text" not in d.content:
            return _structure(d, rules)
        return await _text(job, d, rules, soul, brief, tools, elsewhere, ratings)
    except (ValidationError, ValueError, LookupError) as error:
        asked = reason("judge_error", type(error).__name__, "the judge could not finish: people decide")
        return Verdict("people", None, None, [], [], [asked]), {"error": type(error).__name__}


def _structure(d: ArtifactProduced | HumanEdited, rules: Rules) -> tuple[Verdict, dict[str, Any]]:
    """Research and angles: is there something to work from, with its sources?"""
    articles, angles = d.content.get("articles"), d.content.get("angles")
    score: float
    if articles is not None:
        complete = [a for a in articles if a["title"] and a["url"] and (a["text"] or a["summary"])]
        score = len(complete) / len(articles) if articles else 0.0
    elif angles is not None:
        supported = [a for a in angles if a["support"] and all(s["quote"] for s in a["support"])]
        score = len(supported) / len(angles) if angles else 0.0
    else:
        raise LookupError("content of no known shape")
    claimed = d.confidence_score if isinstance(d, ArtifactProduced) else 1.0
    return verdict(Findings(), claimed, score, rules), {"complete": score}


def _prompt(d: ArtifactProduced | HumanEdited, rules: Rules, soul: Soul) -> tuple[Verdict, dict[str, Any]]:
    """An order for a picture or film: the call asks for just these words, and no rule about what may be shown speaks against them.

    What is a matter of posts (length, links, voice, sameness) was judged with the words that the prompt was made from.
    """
    if d.effect is None or not imaging.says_only(d.effect, d.content):
        why = reason("effect_prompt", "", "the call asks for more or other than the judged prompt")
        return Verdict("fail", 1.0, 1.0, [], ["effect_prompt"], [why]), {"by": "rules"}
    taint = d.taint if isinstance(d, ArtifactProduced) else "open"
    found = judge(d.content["prompt"], Context(rules=rules, soul=soul, platform=d.content["platform"], sources=(), taint=taint))
    shown = Findings([hit for hit in found.failed if hit.rule not in OF_POSTS], found.asked, found.tags, found.tagged)
    trace = {"rules": [hit.reason for hit in (*shown.failed, *shown.asked)]}
    claimed = d.confidence_score if isinstance(d, ArtifactProduced) else 1.0
    return verdict(shown, claimed, claimed, rules), trace


async def _shots(d: ArtifactProduced | HumanEdited, rules: Rules, tools: Tools) -> tuple[Verdict, dict[str, Any]]:
    """A storyboard or a cut: the words were judged in the draft, so what is judged is that it says and shows just these."""
    if not isinstance(d, ArtifactProduced):
        raise LookupError("nobody edits a film in words")
    draft = (await tools.read(Ref(*d.provenance["draft"]))).data
    if not isinstance(draft, ArtifactProduced | HumanEdited):
        raise LookupError("draft not where the provenance says")
    differs = filming.wrong(d.content, draft)
    if differs:
        return Verdict("fail", 1.0, 1.0, [], ["film"], [reason("film", "", differs)]), {"by": "rules"}
    claimed = d.confidence_score
    return verdict(Findings(), claimed, claimed, rules), {"by": "rules"}


async def _takedown(job: Job, d: ArtifactProduced | HumanEdited, tools: Tools) -> tuple[Verdict, dict[str, Any]]:
    """A signed command named the post; what is judged is that the call takes down that post and says nothing."""
    started = (await tools.read(job.facts["brief"])).data
    named = takedown_of(started.brief) if isinstance(started, CampaignStarted | BriefChanged) else None
    e = d.effect
    if named is None or e is None or e.platform != named.platform or e.text_hash:
        right = False
    else:
        right = e.capability == "social.delete" and e.arguments == {"id": named.platform_id}
    if not right:
        why = reason("effect_takedown", "", "the call does more or other than take down what the command named")
        return Verdict("fail", 1.0, 1.0, [], ["effect_takedown"], [why]), {"by": "rules"}
    return Verdict("pass", 1.0, 1.0, [], [], []), {"by": "rules"}


async def _boost(job: Job, d: ArtifactProduced | HumanEdited, tools: Tools) -> tuple[Verdict, dict[str, Any]]:
    """A signed command named post, tier and days; the call must ask for just these. What it costs is the CFO's half's matter."""
    started = (await tools.read(job.facts["brief"])).data
    named = boost_of(started.brief) if isinstance(started, CampaignStarted | BriefChanged) else None
    e = d.effect
    right = (
        named is not None
        and e is not None
        and (e.platform, e.capability, e.text_hash) == (named.platform, "ads.boost", "")
        and e.arguments == {"post_id": named.platform_id, "tier": named.tier, "days": named.days}
    )
    if not right:
        why = reason("effect_boost", "", "the call does more or other than boost what the command named")
        return Verdict("fail", 1.0, 1.0, [], ["effect_boost"], [why]), {"by": "rules"}
    return Verdict("pass", 1.0, 1.0, [], [], []), {"by": "rules"}


async def _transfer(
    job: Job, d: ArtifactProduced | HumanEdited, tools: Tools, moves: transfers.Moves
) -> tuple[Verdict, dict[str, Any]]:
    """A signed command named asset, amount and payee; the call must move just these. Whether to pay it is people's matter."""
    started = (await tools.read(job.facts["brief"])).data
    named = transfer_of(started.brief) if isinstance(started, CampaignStarted | BriefChanged) else None
    differs = transfers.wrong(named, d, moves)
    if differs:
        return Verdict("fail", 1.0, 1.0, [], ["effect_transfer"], [reason("effect_transfer", "", differs)]), {"by": "rules"}
    return Verdict("pass", 1.0, 1.0, [], [], []), {"by": "rules"}


async def _text(
    job: Job,
    d: ArtifactProduced | HumanEdited,
    rules: Rules,
    soul: Soul,
    brief: Brief,
    tools: Tools,
    elsewhere: Elsewhere,
    ratings: Ratings,
) -> tuple[Verdict, dict[str, Any]]:
    """Rules on the exact text, acceptance criteria one by one, then the quality score."""
    origin = d if isinstance(d, ArtifactProduced) else await _origin(d, tools)
    sources = await _sources(origin, tools)
    text: str = d.content["text"]
    platform: str = d.content["platform"]
    row = await _plan_row(job, tools)
    criteria = read_criteria(row.criteria)
    context = Context(
        rules=rules,
        soul=soul,
        platform=platform,
        sources=sources,
        max_chars=row.inputs.get("max_chars"),
        disclosure=d.effect.disclosure if d.effect is not None else origin.disclosure_level,
        criteria=criteria,
        fingerprints=job.facts["said"],
        elsewhere=elsewhere.like(job.tenant, job.agent, text, soul) if rules.distinct_across_tenant else (),
        taint=origin.taint,
        is_reply=d.effect.thread is not None if d.effect is not None else row.kind == "reply",
        addressee=str(d.content.get("addressee", "")),
    )
    findings = judge(text, context)
    before, notes = await remembering.refused(job, row.inputs, text, tools)
    if before is not None:
        findings.asked.append(before)
    hits = list(findings.failed)
    if not hits:
        elsewhere.enter(job.tenant, job.agent, text, soul)  # at once: the next text is judged while this one is rated
    trace: dict[str, Any] = {
        "rules": [hit.reason for hit in (*hits, *findings.asked)],
        "criteria": [{"name": c.name, "met": c.met, "why": c.why} for c in findings.criteria],
    }
    if notes:
        trace[remembering.INPUT] = notes
    if d.effect is not None and not _says(d.effect, text):
        trace["effect"] = "the call's text, text hash or SimHash is not the artifact's"
        return Verdict("fail", 1.0, 1.0, findings.tags, ["effect_text"], [reason("effect_text", "", trace["effect"])]), trace
    asked, no_score = (text, brief, soul, canonical(row.criteria), tuple(sources)), ""
    rated = ratings.of(asked)
    if rated is not None:
        trace["rated"] = "before"
    else:
        request = RateRequest(text=text, brief=brief, soul=soul, criteria=list(criteria), articles=sources)
        outcome = await tools.tool(job, "text.complete", {"purpose": "rate", "request": body_of(request)})
        if outcome.result == "ok":
            try:
                rated = read_rating(outcome.data)
                ratings.keep(asked, rated)
            except ValidationError as error:
                # What the rules found stands: an unusable rating must not turn a failed text into a card.
                no_score = reason("bad_value", "rating", "the rating is no usable answer: people decide")
                trace["score_error"] = f"bad_value: {error.error_count()} fields"
        else:
            trace["score_error"] = outcome.reason
    score: float | None = None
    quality: list[str] = []
    if rated is not None:
        score, quality = rated.score, rated.reasons
        trace["score"], trace["parts"] = rated.score, rated.parts
    claimed = d.confidence_score if isinstance(d, ArtifactProduced) else 1.0  # a person's edit claims no confidence of its own
    own_tags = origin.risk_tags  # an edit keeps what was said of the draft
    vote = verdict(findings, claimed, score, rules, quality_reasons=quality, no_score=no_score, platform=platform, tags=own_tags)
    people_from = rules.borders(platform, (*own_tags, *findings.tags)).people_from
    if not hits and vote.confidence is not None and vote.confidence < people_from:
        elsewhere.leave(job.tenant, job.agent, text, soul)  # it will be written anew: others may say it
    return vote, trace


def _says(effect: EffectProposal, text: str) -> bool:
    """Does the proposed call say exactly this text, under its true fingerprints?"""
    return (
        text in (effect.arguments.get("text"), effect.arguments.get("caption"))
        and effect.text_hash == text_hash(text)
        and effect.simhash == f"{simhash(text):016x}"
    )


# --- what a vote looks at --------------------------------------------------------------------------------------------


async def _bundle(job: Job, tools: Tools) -> tuple[Rules, Soul, Brief]:
    policy = (await tools.read(job.facts["policy"])).data
    persona = (await tools.read(job.facts["soul"])).data
    started = (await tools.read(job.facts["brief"])).data
    if not isinstance(policy, PolicyAdopted) or not isinstance(persona, SoulAdopted):
        raise LookupError("policy or persona not where the state says")
    if not isinstance(started, CampaignStarted | BriefChanged):
        raise LookupError("brief not where the state says")
    return parse_rules(policy.rules), parse_soul(persona.soul), read_brief(started.brief)


async def _plan_row(job: Job, tools: Tools) -> PlanRow:
    d = (await tools.read(job.facts["plan"])).data
    if not isinstance(d, PlanDrafted):
        raise LookupError("plan not where the state says")
    return next(row for row in d.rows if row.ordinal == job.ordinal)


async def _origin(edited: HumanEdited, tools: Tools) -> ArtifactProduced:
    """The worker's draft behind a person's edit: its content names the draft's record."""
    d = (await tools.read(Ref(*edited.content["draft"]))).data
    if not isinstance(d, ArtifactProduced):
        raise LookupError("the edited text names no draft")
    return d


async def _sources(d: ArtifactProduced, tools: Tools) -> list[Article]:
    """The articles that the text was made from."""
    research = (await tools.read(Ref(*d.provenance["research"]))).data
    if not isinstance(research, ArtifactProduced):
        raise LookupError("research not where the provenance says")
    used = {source.get("id") for source in d.sources}
    return [read_article(a) for a in research.content["articles"] if a["id"] in used]


def role(price: Price, moves: transfers.Moves = lambda effect: None) -> Role:
    """The judge, with the table of prices that its CFO's half looks at, and the one of assets that transfers are held against."""
    elsewhere, ratings = Elsewhere(), Ratings()

    def owed(agent: Agent, now: int) -> Due:
        elsewhere.saw(agent)
        return due(agent, now)

    return Role(NAME, owed, lambda job, tools: do(job, tools, price, elsewhere, moves, ratings))
