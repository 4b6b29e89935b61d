"""The worker: one atomic task at a time, stateless; what it makes is an artifact, at most proposing one effect.

The rule not to break: it reads only what the task states that it reads, and what a tool returned is data that carries its taint
into everything made from it. It holds no publishing credential and calls no tool that changes anything.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from pydantic import ValidationError

from chimera import failpoints
from chimera.errors import ChimeraError
from chimera.events.envelope import Record
from chimera.events.hashes import digest, simhash, text_hash
from chimera.events.records import (
    ArtifactProduced,
    Disclosure,
    EffectProposal,
    PlanRow,
    PolicyAdopted,
    Signal,
    Taint,
    WorkFailed,
    WorkStarted,
    effect_body,
)
from chimera.events.sealed import Forgotten, Sealed, SubjectKeys, unseal
from chimera.events.state import Agent, Ref
from chimera.mcp.disclosure import disclose
from chimera.mcp.profiles import BadArguments, Profiles
from chimera.media.credentials import Statement
from chimera.policy.brief import FOLLOW_UP, WALLET, Research, Transfer
from chimera.policy.writing import (
    AnglesRequest,
    AnglesResponse,
    Article,
    DraftRequest,
    DraftResponse,
    ReplyRequest,
    read_reason,
)
from chimera.processors import filming, follow_ups, imaging, materials, remembering, replies, searching, transfers
from chimera.processors.jobs import Answer, CannotWork, Due, Job, NotNow, Role, Tools, soonest
from chimera.processors.listening import Ear

NAME = "worker"
START_LEASE_MS = 120_000
LONG_OPEN_MS = 120_000
"""A task open for longer than one lease needs a start, so that a second worker leaves it alone."""
RETRY_MS = 5_000
"""First wait after a tool that was not reached; doubles with the attempt, up to five minutes."""
_PUBLISH = {"x": "social.publish", "instagram": "social.publish"}
"""Platform -> capability that publishes there."""


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
        self._profiles = profiles
        self._media = media
        self._subjects = subjects
        self._ear = Ear(profiles, subjects)
        self._mode = mode
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
            make = self._makers().get(row.kind)
            if make is None:
                raise CannotWork(f"unknown kind of task {row.kind!r}")
            try:
                made = await make(job, row, tools)
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

    def _makers(self) -> dict[str, Callable[[Job, PlanRow, Tools], Awaitable[ArtifactProduced]]]:
        """Kind of task -> how it is made."""
        return {
            "research": self._research,
            "angles": self._angles,
            "draft": self._draft,
            "image": self._picture,
            "video": self._picture,
            "storyboard": self._storyboard,
            "cut": self._cut,
            "publish": self._publish,
            "reply": self._reply,
            "takedown": self._takedown,
            "boost": self._boost,
            "transfer": self._transfer,
        }

    # --- kinds -------------------------------------------------------------------------------------------------------

    async def _research(self, job: Job, row: PlanRow, tools: Tools) -> ArtifactProduced:
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
        looked = await searching.found(
            job, tools, searches, row.inputs.get("per_search", Research.model_fields["per_search"].default)
        )
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

    async def _angles(self, job: Job, row: PlanRow, tools: Tools) -> ArtifactProduced:
        """What is worth saying, by the writer, from the research. Confidence: how many quotes stand in the sources exactly so, and
        whether there is an angle for each format; how well an angle fits is the draft's own matter."""
        research = await tools.read(job.facts["deps"][0])
        found = materials.made(research)
        articles = [Article.model_validate(a) for a in found.content["articles"]]
        brief, soul = await materials.brief(job, tools), await materials.soul(job, tools)
        request = AnglesRequest(brief=brief, soul=soul, articles=articles, count=row.inputs["count"])
        answer = AnglesResponse.model_validate(await self._complete(job, tools, "angles", request.model_dump(mode="json")))
        if not answer.angles:
            raise CannotWork("no sentence of the sources bears on the brief")
        confidence = materials.verbatim(answer, articles) * min(1.0, len(answer.angles) / row.inputs["wanted"])
        content = {"angles": [angle.model_dump(mode="json") for angle in answer.angles]}
        used = {support.article_id for angle in answer.angles for support in angle.support}
        sources = [{"title": a.title, "url": a.url, "id": a.id} for a in articles if a.id in used]
        provenance = {"tool": "text.complete", "research": list(job.facts["deps"][0])}
        return materials.artifact(job, row, content, confidence, materials.worst(found.taint), sources, provenance)

    async def _draft(self, job: Job, row: PlanRow, tools: Tools) -> ArtifactProduced:
        """One text from one angle; each format starts with another angle, each attempt moves on. A follow-up knows the text that it
        follows, and is written only where that has been liked enough."""
        before = await follow_ups.wanted(self._profiles, job, row, tools) if FOLLOW_UP in row.inputs else None
        angles_record = await tools.read(job.facts["deps"][0])
        found = materials.made(angles_record)
        research_ref = Ref(*found.provenance["research"])
        articles = [Article.model_validate(a) for a in materials.made(await tools.read(research_ref)).content["articles"]]
        answer = AnglesResponse.model_validate(found.content)
        feedback, used = await materials.feedback(job, tools)
        taint = found.taint
        if before is not None:
            feedback, used, taint = [*feedback, before.told], [*used, before.text], materials.worst(taint, before.taint)
        variant = int(digest(job.agent)[:6], 16)
        # Where another account has told it, those who were told so spread over what is left, each by its own number.
        spread = variant if any(read_reason(line).rule == "tenant_duplicate" for line in feedback) else 0
        angle = materials.angle(answer.angles, row.inputs["index"] + spread, row.inputs["formats"], job.attempt)
        supporting = [a for a in articles if a.id in {s.article_id for s in angle.support}] or articles[:1]
        rules = await materials.rules(job, tools)
        limit = row.inputs.get("max_chars") or rules.max_chars_on(row.inputs["platform"]) or 280
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
        draft = DraftResponse.model_validate(await self._complete(job, tools, "draft", request.model_dump(mode="json")))
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
            "tool": "text.complete",
            "research": list(research_ref),
            "angle": angle.id,
            "parts": draft.parts,
            "feedback": feedback,
        }
        if reasons.notes or posts.notes:
            provenance[remembering.INPUT] = [*reasons.notes, *posts.notes]
        return materials.artifact(job, row, content, draft.confidence_score, taint, sources, provenance, request.brief.disclosure)

    async def _picture(self, job: Job, row: PlanRow, tools: Tools) -> ArtifactProduced:
        """The exact order for a picture or a film, proposed as a paid effect. As sure of it as of the words that it shows."""
        draft = materials.made(await tools.read(job.facts["deps"][0]))
        platform = row.inputs["platform"]
        account = job.facts["accounts"].get(platform)
        if account is None:
            raise CannotWork(f"no account on {platform} is linked")
        self._shows(platform)
        try:
            order = await imaging.order_of(job, row, draft, self._profiles, self._shelf(), self._mode, tools)
        except imaging.NoMedia as missing:
            raise CannotWork(str(missing), retry=missing.wait) from missing
        except BadArguments as error:
            raise CannotWork(f"bad_arguments: {error}"[:500]) from error
        effect = self._proposal(job, order.capability, order.inputs, platform, account, "none", at=order.studio)
        assets = [asset.sha256 for asset in order.made_from]
        effect = _rehashed(effect, max_cost_usd=max(effect.max_cost_usd, order.most_usd), asset_hashes=assets)
        content = {
            "prompt": order.inputs["prompt"],
            "platform": platform,
            "format": row.inputs["format"],
            "aspect": row.inputs["aspect"],
        }
        provenance = {"tool": order.capability, "draft": list(job.facts["deps"][0]), **_only(draft.provenance, "research")}
        made = materials.artifact(job, row, content, draft.confidence_score, draft.taint, draft.sources, provenance)
        return made.model_copy(update={"effect": effect})

    async def _storyboard(self, job: Job, row: PlanRow, tools: Tools) -> ArtifactProduced:
        """The judged words as shots, each with its caption; as sure of it as of the words."""
        draft = materials.made(await tools.read(job.facts["deps"][0]))
        self._shows(row.inputs["platform"])
        shots = filming.storyboard(draft.content["text"], row.inputs["shots"])
        if len(shots) < row.inputs["shots"]:
            raise CannotWork(f"{len(shots)} shots are all that the text gives; the brief asks for {row.inputs['shots']}")
        content = {"shots": [shot._asdict() for shot in shots]}
        return self._from_draft(job, row, content, draft, "chimera.storyboard")

    async def _cut(self, job: Job, row: PlanRow, tools: Tools) -> ArtifactProduced:
        """The film of all shots, in the media store before the record that names it."""
        draft, board = [materials.made(await tools.read(ref)) for ref in job.facts["deps"][:2]]
        try:
            content = await filming.film_of(job, row, filming.shots_of(board.content), self._shelf(), tools)
        except imaging.NoMedia as missing:
            raise CannotWork(str(missing), retry=missing.wait) from missing
        return self._from_draft(job, row, content, draft, "chimera.media.film")

    def _from_draft(self, job: Job, row: PlanRow, content: dict[str, Any], draft: ArtifactProduced, tool: str) -> ArtifactProduced:
        provenance = {"tool": tool, "draft": list(job.facts["deps"][0]), **_only(draft.provenance, "research")}
        return materials.artifact(job, row, content, draft.confidence_score, draft.taint, draft.sources, provenance)

    def _shows(self, platform: str) -> None:
        """Nothing is paid for a picture that could not be published. Raises CannotWork."""
        capability = _PUBLISH.get(platform, f"{platform}.publish")
        try:
            takes = self._profiles.capability(capability, platform).inputs
        except BadArguments as error:
            raise CannotWork(f"bad_arguments: {error}"[:500]) from error
        if not {"image_url", "video_url"} & {*takes.required, *takes.optional}:
            raise CannotWork(f"{capability} on {platform} shows nothing beside words: take `media` out of the brief's format")

    def _shelf(self) -> imaging.Media:
        if self._media is None:
            raise imaging.NoMedia("this worker has no media store")
        return self._media

    async def _shown(self, job: Job, row: PlanRow, tools: Tools) -> tuple[dict[str, str], list[str], list[dict[str, Any]]]:
        """The inputs that say what is shown with the words, the hashes of its bytes, and what the artifact says of them."""
        if row.inputs.get("media") is None:
            return {}, [], []
        try:
            shelf = self._shelf()
            made = await imaging.collected(job.facts["deps"][1], shelf, tools)
            asset, told = await imaging.final(made, shelf, await self._statement(job, tools))
            return {f"{asset.kind}_url": shelf.address(self._mode, asset)}, [asset.sha256], told
        except imaging.NoMedia as missing:
            raise CannotWork(str(missing), retry=missing.wait) from missing

    async def _statement(self, job: Job, tools: Tools) -> Statement:
        """What is said, inside the file, of what is shown."""
        policy, source = await tools.read(job.facts["policy"]), await tools.read(job.facts["deps"][1])
        made = materials.made(source)
        by = made.effect.profile if made.effect is not None else str(made.provenance.get("tool", ""))
        title = f"{job.agent} {job.campaign}.{job.ordinal}.{job.attempt}"
        assert isinstance(policy.data, PolicyAdopted)
        return Statement(title, job.agent, job.tenant, policy.data.digest, source.id, by, composite=made.effect is None)

    async def _publish(self, job: Job, row: PlanRow, tools: Tools) -> ArtifactProduced:
        """The exact call that would publish the draft: rendered, hashed, proposed. Nothing is sent from here."""
        draft = materials.made(await tools.read(job.facts["deps"][0]))
        platform = row.inputs["platform"]
        account = job.facts["accounts"].get(platform)
        if account is None:
            raise CannotWork(f"no account on {platform} is linked")
        brief = await materials.brief(job, tools)
        said: dict[str, Any] = {}
        thread: str | None = None
        if "signal" in row.inputs:
            heard = await replies.heard(row, tools)
            thread = heard.item.thread
            answer = self._profiles.answer_to(heard.capability, platform)
            capability = answer.by
            said |= {name: self._part(heard.item, part) for name, part in answer.inputs.items()}
        else:
            capability = _PUBLISH.get(platform, f"{platform}.publish")
        if FOLLOW_UP in row.inputs:
            before = await follow_ups.first(job, row, tools)
            way = follow_ups.in_thread(self._profiles, platform, before.platform_id)
            if way is not None:
                capability, where = way
                said |= where
        try:
            profile = self._profiles.provider(capability, platform)
            told = disclose(profile, capability, brief.disclosure, draft.content["text"], paid=brief.paid_partnership)
        except BadArguments as error:
            raise CannotWork(f"cannot_disclose: {error}"[:500]) from error
        text = told.text
        said |= {"text": text, **told.inputs}
        not_before = materials.not_before(await materials.rules(job, tools), brief, row, tools.broker_now())
        shown, assets, told_of = await self._shown(job, row, tools)
        effect = self._proposal(job, capability, said | shown, platform, account, brief.disclosure, text, thread, not_before)
        if assets:
            effect = _rehashed(effect, asset_hashes=assets)
        content = {**draft.content, **shown, "text": text, "draft": list(job.facts["deps"][0])}
        if told_of:
            content["assets"] = told_of
        made = materials.artifact(
            job,
            row,
            content,
            draft.confidence_score,
            materials.worst(draft.taint),
            draft.sources,
            draft.provenance,
            brief.disclosure,
        )
        return made.model_copy(update={"effect": effect})

    async def _takedown(self, job: Job, row: PlanRow, tools: Tools) -> ArtifactProduced:
        """The exact call that takes down what a signed command named: nothing is written, so there is nothing to be unsure of."""
        platform, platform_id = row.inputs["platform"], row.inputs["platform_id"]
        account = job.facts["accounts"].get(platform)
        if account is None:
            raise CannotWork(f"no account on {platform} is linked")
        effect = self._proposal(job, "social.delete", {"id": platform_id}, platform, account, "none")
        content = {"takedown": platform_id, "platform": platform, "reason": row.inputs["reason"]}
        made = materials.artifact(job, row, content, 1.0, "owner", [], {"by": "command"})
        return made.model_copy(update={"effect": effect})

    async def _boost(self, job: Job, row: PlanRow, tools: Tools) -> ArtifactProduced:
        """The exact call that shows what a signed command named to more people; its price is the tier table's."""
        platform, post = row.inputs["platform"], row.inputs["platform_id"]
        account = job.facts["accounts"].get(platform)
        if account is None:
            raise CannotWork(f"no account on {platform} is linked")
        asked = {"post_id": post, "tier": row.inputs["tier"], "days": row.inputs["days"]}
        effect = self._proposal(job, "ads.boost", asked, platform, account, "none")
        content = {
            "boost": post,
            "platform": platform,
            "tier": asked["tier"],
            "days": asked["days"],
            "reason": row.inputs["reason"],
        }
        made = materials.artifact(job, row, content, 1.0, "owner", [], {"by": "command"})
        return made.model_copy(update={"effect": effect})

    async def _transfer(self, job: Job, row: PlanRow, tools: Tools) -> ArtifactProduced:
        """The exact call that pays what a signed command named to whom it named; held in the ledger by the profile's quote."""
        account = job.facts["accounts"].get(WALLET)
        if account is None:
            raise CannotWork("no wallet is linked: `chimera account link AGENT wallet/NAME`")
        try:
            asked = (row.inputs["asset"], row.inputs["to"], row.inputs["amount"])
            capability, inputs = self._profiles.transfer(WALLET, *asked, self._mode)
        except BadArguments as error:
            raise CannotWork(f"bad_arguments: {error}"[:500]) from error
        effect = _rehashed(self._proposal(job, capability, inputs, WALLET, account, "none"), payee=row.inputs["to"])
        made = materials.artifact(
            job, row, transfers.content_of(Transfer.model_validate(row.inputs)), 1.0, "owner", [], {"by": "command"}
        )
        return made.model_copy(update={"effect": effect})

    def _proposal(
        self,
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
            call = self._profiles.render(capability, inputs, platform=at or platform, mode=self._mode)
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

    def _part(self, item: Signal, part: str) -> str:
        """A part of what was heard, in clear. Its person may have been forgotten since."""
        value = getattr(item, part)
        if value is None:
            raise CannotWork(f"nothing was heard of the {part} that the answer goes to")
        try:
            return unseal(self._subjects, value) if isinstance(value, Sealed) else str(value)
        except Forgotten as gone:
            raise CannotWork("the person asked to be forgotten") from gone

    async def _reply(self, job: Job, row: PlanRow, tools: Tools) -> ArtifactProduced:
        """One answer to what somebody said, from the campaign's research; of the taint of what was said."""
        heard = await replies.heard(row, tools)
        research_ref: Ref = job.facts["deps"][0]
        found = materials.made(await tools.read(research_ref))
        articles = [Article.model_validate(a) for a in found.content["articles"]]
        rules = await materials.rules(job, tools)
        feedback, used = await materials.feedback(job, tools)
        brief = await materials.brief(job, tools)
        platform = row.inputs["platform"]
        tag = rules.disclosure[platform].text_tag if platform in rules.disclosure else ""
        by = self._profiles.answer_to(heard.capability, platform).by
        fields = self._profiles.capability(by, platform).disclosure.get(brief.disclosure)
        ending = replies.label(brief.disclosure, fields, tag)
        limit = row.inputs.get("max_chars") or rules.max_chars_on(platform) or 280
        said = self._part(heard.item, "text")
        worth = materials.worst(found.taint, heard.item.taint)
        recalled = await remembering.reasons(job, row, said, worth, job.facts["lessons"], tools)
        feedback = [*recalled.lines, *(line for line in feedback if line not in recalled.lines)]
        request = ReplyRequest(
            brief=brief,
            soul=await materials.soul(job, tools),
            said=said,
            articles=articles,
            platform=platform,
            max_chars=max(40, limit - len(ending) - 1) if ending else limit,
            feedback=feedback,
            attempt=job.attempt,
            used_texts=used,
        )
        reply = DraftResponse.model_validate(await self._complete(job, tools, "reply", request.model_dump(mode="json")))
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
            "tool": "text.complete",
            "research": list(research_ref),
            "signal": row.inputs["signal"],
            "item": row.inputs["item"],
            "parts": reply.parts,
            "feedback": feedback,
        }
        if recalled.notes:
            provenance[remembering.INPUT] = recalled.notes
        return materials.artifact(job, row, content, reply.confidence_score, worth, sources, provenance, request.brief.disclosure)

    async def _complete(self, job: Job, tools: Tools, purpose: str, request: dict[str, Any]) -> dict[str, Any]:
        """Ask the text writer. A refusal is a failure of the attempt, an unreached server is not."""
        outcome = await tools.tool(job, "text.complete", {"purpose": purpose, "request": request})
        if outcome.result == "ok":
            data: dict[str, Any] = outcome.data
            return data
        raise CannotWork(f"{outcome.reason}: {outcome.detail}"[:500], retry=outcome.result != "refused")

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


def _rehashed(effect: EffectProposal, **changes: Any) -> EffectProposal:
    """The proposal with other parts, under their hash."""
    changed = effect.model_copy(update=changes)
    return changed.model_copy(update={"effect_hash": digest(effect_body(changed))})


def _only(values: dict[str, Any], name: str) -> dict[str, Any]:
    return {name: values[name]} if name in values else {}


@asynccontextmanager
async def _together() -> AsyncIterator[None]:
    yield


async def _follows_a_lost_one(job: Job, tools: Tools) -> bool:
    """Did the last attempt end with whoever worked on it? It may be the task that killed it, so from now on it is counted."""
    if job.facts["feedback"] is None:
        return False
    before = (await tools.read(job.facts["feedback"])).data
    return isinstance(before, WorkFailed) and before.lost
