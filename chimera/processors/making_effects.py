"""Work that ends in a call: publications, takedowns, boosts, payments, each proposed and never sent.

The rule not to break: the call says what the draft or the signed command says, and nothing besides.
"""

from __future__ import annotations

from typing import Any

from chimera.events.records import (
    ArtifactProduced,
    PlanRow,
)
from chimera.mcp.disclosure import disclose
from chimera.mcp.profiles import BadArguments
from chimera.policy.brief import FOLLOW_UP, WALLET, Transfer
from chimera.processors import follow_ups, materials, replies, transfers
from chimera.processors.jobs import CannotWork, Job, Tools
from chimera.processors.kit import PUBLISH, Kit, heard_part, proposal, rehashed
from chimera.processors.making_media import shown


async def publish(kit: Kit, job: Job, row: PlanRow, tools: Tools) -> ArtifactProduced:
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
        answer = kit.profiles.answer_to(heard.capability, platform)
        capability = answer.by
        said |= {name: heard_part(kit, heard.item, part) for name, part in answer.inputs.items()}
    else:
        capability = PUBLISH.get(platform, f"{platform}.publish")
    if FOLLOW_UP in row.inputs:
        before = await follow_ups.first(job, row, tools)
        way = follow_ups.in_thread(kit.profiles, platform, before.platform_id)
        if way is not None:
            capability, where = way
            said |= where
    try:
        profile = kit.profiles.provider(capability, platform)
        told = disclose(profile, capability, brief.disclosure, draft.content["text"], paid=brief.paid_partnership)
    except BadArguments as error:
        raise CannotWork(f"cannot_disclose: {error}"[:500]) from error
    text = told.text
    said |= {"text": text, **told.inputs}
    not_before = materials.not_before(await materials.rules(job, tools), brief, row, tools.broker_now())
    shows, assets, told_of = await shown(kit, job, row, tools)
    effect = proposal(kit, job, capability, said | shows, platform, account, brief.disclosure, text, thread, not_before)
    if assets:
        effect = rehashed(effect, asset_hashes=assets)
    place = {"platform": platform, "format": row.inputs.get("format", "")} if row.inputs.get("media") else {}
    content = {**draft.content, **place, **shows, "text": text, "draft": list(job.facts["deps"][0])}
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


async def takedown(kit: Kit, job: Job, row: PlanRow, tools: Tools) -> ArtifactProduced:
    """The exact call that takes down what a signed command named: nothing is written, so there is nothing to be unsure of."""
    platform, platform_id = row.inputs["platform"], row.inputs["platform_id"]
    account = job.facts["accounts"].get(platform)
    if account is None:
        raise CannotWork(f"no account on {platform} is linked")
    effect = proposal(kit, job, "social.delete", {"id": platform_id}, platform, account, "none")
    content = {"takedown": platform_id, "platform": platform, "reason": row.inputs["reason"]}
    made = materials.artifact(job, row, content, 1.0, "owner", [], {"by": "command"})
    return made.model_copy(update={"effect": effect})


async def boost(kit: Kit, job: Job, row: PlanRow, tools: Tools) -> ArtifactProduced:
    """The exact call that shows what a signed command named to more people; its price is the tier table's."""
    platform, post = row.inputs["platform"], row.inputs["platform_id"]
    account = job.facts["accounts"].get(platform)
    if account is None:
        raise CannotWork(f"no account on {platform} is linked")
    asked = {"post_id": post, "tier": row.inputs["tier"], "days": row.inputs["days"]}
    effect = proposal(kit, job, "ads.boost", asked, platform, account, "none")
    content = {
        "boost": post,
        "platform": platform,
        "tier": asked["tier"],
        "days": asked["days"],
        "reason": row.inputs["reason"],
    }
    made = materials.artifact(job, row, content, 1.0, "owner", [], {"by": "command"})
    return made.model_copy(update={"effect": effect})


async def transfer(kit: Kit, job: Job, row: PlanRow, tools: Tools) -> ArtifactProduced:
    """The exact call that pays what a signed command named to whom it named; held in the ledger by the profile's quote."""
    account = job.facts["accounts"].get(WALLET)
    if account is None:
        raise CannotWork("no wallet is linked: `chimera account link AGENT wallet/NAME`")
    try:
        asked = (row.inputs["asset"], row.inputs["to"], row.inputs["amount"])
        capability, inputs = kit.profiles.transfer(WALLET, *asked, kit.mode)
    except BadArguments as error:
        raise CannotWork(f"bad_arguments: {error}"[:500]) from error
    effect = rehashed(proposal(kit, job, capability, inputs, WALLET, account, "none"), payee=row.inputs["to"])
    made = materials.artifact(
        job, row, transfers.content_of(Transfer.model_validate(row.inputs)), 1.0, "owner", [], {"by": "command"}
    )
    return made.model_copy(update={"effect": effect})
