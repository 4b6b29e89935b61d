"""Pictures and films of a campaign: ordered as paid effects from the words that go with them, and handed on by their hashes.

The rule not to break: an order is an effect like any other. It is proposed, decided, held in the ledger and called once; what it
brought is known by the media store's receipt for its effect hash, so a restart collects the same job and orders nothing again.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from chimera.events.records import ArtifactProduced, EffectProposal, HumanEdited, PlanRow
from chimera.events.state import Ref
from chimera.mcp.places import SANDBOX_MEDIA, address_of
from chimera.mcp.profiles import BadArguments, Profiles
from chimera.media.credentials import Credentials, Statement
from chimera.media.facts import Facts, facts_of
from chimera.media.store import CHUNK, Asset, MediaError, MediaStore
from chimera.policy.brief import Format
from chimera.processors.jobs import Job, Tools

LONGEST_PROMPT = 400
_CAPABILITIES = {"image": "image.generate", "video": "video.generate"}
_NOT_SEEN = re.compile(r"https?://\S+|[#@]\w+")


class NoMedia(Exception):
    """What is needed is not in the media store; `wait`: it may come."""

    def __init__(self, why: str, *, wait: bool = False) -> None:
        super().__init__(why)
        self.wait = wait


class Media(NamedTuple):
    """Where files are, under which address live platforms fetch them, and who signs what is shown; None: nowhere, nobody."""

    store: MediaStore
    live_url: str | None = None
    credentials: Credentials | None = None

    def address(self, mode: str, asset: Asset) -> str:
        """Where a platform fetches the asset. Raises NoMedia where there is no public address."""
        base = SANDBOX_MEDIA if mode == "sandbox" else self.live_url
        if base is None:
            raise NoMedia("live platforms fetch files by a public address: set CHIMERA_MEDIA_URL")
        return address_of(base, asset)


class Step(NamedTuple):
    """A row of the plan between a text and its publication."""

    kind: str
    title: str


def steps(form: Format) -> list[Step]:
    """What is ordered for a text; a film begins with a picture. (Short films: `filming.steps`.)"""
    if form.media not in ("image", "video"):
        return []
    picture = Step("image", f"Order a picture for the {form.format} on {form.platform}")
    film = Step("video", f"Order a film for the {form.format} on {form.platform}")
    return [picture] if form.media == "image" else [picture, film]


def prompt_of(text: str) -> str:
    """What is to be seen, by the words that go with it: one line, without addresses, hashtags and names of accounts."""
    seen = " ".join(_NOT_SEEN.sub(" ", text).split())
    return f"A photograph without any lettering: {seen}"[:LONGEST_PROMPT].rstrip()


class Order(NamedTuple):
    """What is to be asked of a studio."""

    capability: str
    studio: str
    """The platform that its profile acts on."""
    inputs: dict[str, Any]
    most_usd: Decimal
    """What it costs at most: by the table, or by a quote that is higher."""
    made_from: list[Asset]


async def order_of(
    job: Job, row: PlanRow, draft: ArtifactProduced, profiles: Profiles, media: Media, mode: str, tools: Tools
) -> Order:
    """The order for a row, priced. Raises NoMedia, and BadArguments where no profile offers it."""
    capability = _CAPABILITIES[row.kind]
    studio = profiles.provider(capability)
    prompt, before = prompt_of(draft.content["text"]), job.facts["deps"][1:]
    if "shot" in row.inputs:
        board = (await tools.read(before[0])).data
        if not isinstance(board, ArtifactProduced) or row.inputs["shot"] >= len(board.content["shots"]):
            raise NoMedia("the storyboard has no such shot")
        prompt, before = board.content["shots"][row.inputs["shot"]]["prompt"], before[1:]
    inputs: dict[str, Any] = {"prompt": prompt, "aspect": row.inputs["aspect"]}
    made_from = [await collected(ref, media, tools) for ref in before]
    if made_from:
        inputs["image_url"] = media.address(mode, made_from[0])
    most = Decimal(0)
    quote = f"{row.kind}.quote"
    if quote in studio.spec.capabilities:
        quoted = await tools.tool(job, quote, inputs)
        if quoted.result != "ok":
            raise NoMedia(f"{studio.name} names no price: {quoted.reason}", wait=quoted.result != "refused")
        most = quoted.cost_usd
    if studio.spec.platform is None:
        raise BadArguments(f"profile {studio.name} offers {capability} and names no platform")
    return Order(capability, studio.spec.platform, inputs, most, made_from)


async def collected(ref: Ref, media: Media, tools: Tools) -> Asset:
    """What the order recorded at `ref` brought, or what was cut there. Raises NoMedia."""
    d = (await tools.read(ref)).data
    if isinstance(d, ArtifactProduced) and ("film" in d.content or "picture" in d.content):
        stem, _, extension = (d.content.get("film") or d.content["picture"]).partition(".")
        film = Asset(stem, extension, d.content["assets"][0]["bytes"])
        if not await media.store.has(film):
            raise NoMedia(f"{film.name} is not in this media store: see chimera media verify", wait=True)
        return film
    effect = d.effect if isinstance(d, ArtifactProduced | HumanEdited) else None
    if effect is None:
        raise NoMedia("the task before this one ordered nothing")
    found = await media.store.received(effect.effect_hash)
    if not found:
        raise NoMedia(f"what {effect.profile} made is not in this media store: see chimera media verify", wait=True)
    return found[0]


async def final(asset: Asset, media: Media, statement: Statement) -> tuple[Asset, list[dict[str, Any]]]:
    """The file that is shown, and what the artifact says of it: with content credentials inside where a key is there to sign them.

    Raises NoMedia.
    """
    if media.credentials is None:
        return asset, []
    with tempfile.TemporaryDirectory(prefix="chimera-sign-") as folder:
        plain, signed = Path(folder) / asset.name, Path(folder) / f"signed.{asset.extension}"
        try:
            await media.store.save(asset, plain)
            await asyncio.to_thread(media.credentials.sign, plain, signed, asset.media_type, statement)
            shown = await media.store.put(in_pieces(signed))
            facts = facts_of(shown, signed)
        except MediaError as error:
            raise NoMedia(str(error), wait="media store" in str(error)) from error
    return shown, [said_of(shown, facts, "final", "c2pa", [asset], "credentials")]


def said_of(asset: Asset, facts: Facts, role: str, tool: str, made_from: Sequence[Asset], step: str, **more: Any) -> dict[str, Any]:
    """What an artifact says of a file that was made here, as the read model of assets takes it."""
    return {
        "sha256": asset.sha256,
        "role": role,
        "media_type": asset.media_type,
        "bytes": asset.size,
        "width": facts.width,
        "height": facts.height,
        "duration_s": facts.duration_s,
        "codec": facts.codec,
        "tool": tool,
        "derived_from": [{"sha256": each.sha256, "step": step} for each in made_from],
        "cost_usd": "0",
        **more,
    }


async def in_pieces(path: Path) -> AsyncIterator[bytes]:
    """A file of this machine, as the media store takes it."""
    with path.open("rb") as file:  # a file of this machine
        while chunk := file.read(CHUNK):
            yield chunk


def says_only(effect: EffectProposal, content: dict[str, Any]) -> bool:
    """Does the order ask for exactly the judged prompt, and say nothing to people?"""
    prompt = content["prompt"]
    asked = [value for value in effect.arguments.values() if isinstance(value, str) and value.startswith(prompt)]
    ordered = effect.effect_class == "paid" and effect.capability in _CAPABILITIES.values()
    return ordered and len(asked) == 1 and not effect.text_hash
