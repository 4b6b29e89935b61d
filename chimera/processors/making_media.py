"""Work that ends in pictures and films: orders, storyboards, cuts, and what is shown with words.

The rule not to break: nothing is ordered that could not be shown, and what is shown is named by its hash.
"""

from __future__ import annotations

from typing import Any

from chimera.events.records import (
    ArtifactProduced,
    PlanRow,
    PolicyAdopted,
)
from chimera.mcp.profiles import BadArguments
from chimera.media.credentials import Statement
from chimera.policy.brief import SHORT
from chimera.processors import filming, imaging, materials
from chimera.processors.jobs import CannotWork, Job, Tools
from chimera.processors.kit import PUBLISH, Kit, only, proposal, rehashed, shelf


async def picture(kit: Kit, job: Job, row: PlanRow, tools: Tools) -> ArtifactProduced:
    """The exact order for a picture or a film, proposed as a paid effect. As sure of it as of the words that it shows."""
    draft = materials.made(await tools.read(job.facts["deps"][0]))
    platform = row.inputs["platform"]
    account = job.facts["accounts"].get(platform)
    if account is None:
        raise CannotWork(f"no account on {platform} is linked")
    shows(kit, platform)
    try:
        order = await imaging.order_of(job, row, draft, kit.profiles, shelf(kit), kit.mode, tools)
    except imaging.NoMedia as missing:
        raise CannotWork(str(missing), retry=missing.wait) from missing
    except BadArguments as error:
        raise CannotWork(f"bad_arguments: {error}"[:500]) from error
    effect = proposal(kit, job, order.capability, order.inputs, platform, account, "none", at=order.studio)
    assets = [asset.sha256 for asset in order.made_from]
    effect = rehashed(effect, max_cost_usd=max(effect.max_cost_usd, order.most_usd), asset_hashes=assets)
    content = {
        "prompt": order.inputs["prompt"],
        "platform": platform,
        "format": row.inputs["format"],
        "aspect": row.inputs["aspect"],
        **only(row.inputs, "shot"),
    }
    provenance = {"tool": order.capability, "draft": list(job.facts["deps"][0]), **only(draft.provenance, "research")}
    made = materials.artifact(job, row, content, draft.confidence_score, draft.taint, draft.sources, provenance)
    return made.model_copy(update={"effect": effect})


async def storyboard(kit: Kit, job: Job, row: PlanRow, tools: Tools) -> ArtifactProduced:
    """The judged words as shots, each with its caption; as sure of it as of the words."""
    draft = materials.made(await tools.read(job.facts["deps"][0]))
    shows(kit, row.inputs["platform"])
    shots = filming.storyboard(draft.content["text"], row.inputs["shots"])
    if len(shots) < row.inputs["shots"]:
        raise CannotWork(f"{len(shots)} shots are all that the text gives; the brief asks for {row.inputs['shots']}")
    place = {"platform": row.inputs["platform"], "format": row.inputs["format"]}
    content = {**place, "shots": [shot._asdict() for shot in shots]}
    return from_draft(job, row, content, draft, "chimera.storyboard")


async def cut(kit: Kit, job: Job, row: PlanRow, tools: Tools) -> ArtifactProduced:
    """The film of all shots, or another platform's picture or film in this one's shape; in the media store before the record."""
    draft, board = [materials.made(await tools.read(ref)) for ref in job.facts["deps"][:2]]
    shows(kit, row.inputs["platform"])
    try:
        if row.inputs["media"] == SHORT:
            content = await filming.film_of(job, row, filming.shots_of(board.content), shelf(kit), tools)
        else:
            content = await filming.shaped(job, row, shelf(kit), tools)
    except imaging.NoMedia as missing:
        raise CannotWork(str(missing), retry=missing.wait) from missing
    return from_draft(job, row, content, draft, filming.TOOL)


def from_draft(job: Job, row: PlanRow, content: dict[str, Any], draft: ArtifactProduced, tool: str) -> ArtifactProduced:
    provenance = {"tool": tool, "draft": list(job.facts["deps"][0]), **only(draft.provenance, "research")}
    return materials.artifact(job, row, content, draft.confidence_score, draft.taint, draft.sources, provenance)


def shows(kit: Kit, platform: str) -> None:
    """Nothing is paid for a picture that could not be published. Raises CannotWork."""
    capability = PUBLISH.get(platform, f"{platform}.publish")
    try:
        takes = kit.profiles.capability(capability, platform).inputs
    except BadArguments as error:
        raise CannotWork(f"bad_arguments: {error}"[:500]) from error
    if not {"image_url", "video_url"} & {*takes.required, *takes.optional}:
        raise CannotWork(f"{capability} on {platform} shows nothing beside words: take `media` out of the brief's format")


async def shown(kit: Kit, job: Job, row: PlanRow, tools: Tools) -> tuple[dict[str, str], list[str], list[dict[str, Any]]]:
    """The inputs that say what is shown with the words, the hashes of its bytes, and what the artifact says of them."""
    if row.inputs.get("media") is None:
        return {}, [], []
    try:
        store = shelf(kit)
        made = await imaging.collected(job.facts["deps"][1], store, tools)
        asset, told = await imaging.final(made, store, await statement(job, tools))
        return {f"{asset.kind}_url": store.address(kit.mode, asset)}, [asset.sha256], told
    except imaging.NoMedia as missing:
        raise CannotWork(str(missing), retry=missing.wait) from missing


async def statement(job: Job, tools: Tools) -> Statement:
    """What is said, inside the file, of what is shown."""
    policy, source = await tools.read(job.facts["policy"]), await tools.read(job.facts["deps"][1])
    made = materials.made(source)
    by = made.effect.profile if made.effect is not None else str(made.provenance.get("tool", ""))
    title = f"{job.agent} {job.campaign}.{job.ordinal}.{job.attempt}"
    assert isinstance(policy.data, PolicyAdopted)
    return Statement(title, job.agent, job.tenant, policy.data.digest, source.id, by, composite="film" in made.content)
