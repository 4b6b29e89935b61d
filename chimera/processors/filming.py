"""Short films: a storyboard from the judged words, an order for every shot, and the cut of what came back, with the words on it.

Also cuts of another platform's pictures and films: the same footage, in this platform's shape.

The rule not to break: a film says what was judged and nothing else. Every caption is a piece of the draft's text, in its order.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from chimera.events.records import ArtifactProduced, HumanEdited, PlanRow
from chimera.media.facts import facts_apart, facts_of
from chimera.media.film import LONGEST_SIDE, Take, crop_apart, cut_apart
from chimera.media.store import MediaError
from chimera.policy.brief import SHORT, Format
from chimera.processors.imaging import Media, NoMedia, collected, in_pieces, prompt_of, said_of
from chimera.processors.jobs import Job, Tools

WORDS_PER_S = 2.5
"""How fast people read what stands on a film."""
SHORTEST_S, LONGEST_S = 2.0, 5.0
"""Of one shot. Studios make five seconds."""
TOOL = "chimera.media.film"
LONGEST_FILM_S: Mapping[str, float] = {"x": 140.0, "instagram": 90.0}
_SENTENCE = re.compile(r"(?<=[.!?…])\s+")
_UNSEEN = re.compile(r"(?:https?://\S+|#\w+)")


class Shot(NamedTuple):
    """What one shot shows and says, and for how long (seconds)."""

    prompt: str
    caption: str
    seconds: float


def storyboard(text: str, shots: int) -> list[Shot]:
    """The text as so many shots at most; addresses and hashtags stay below the film."""
    pieces = [piece for piece in _SENTENCE.split(" ".join(_UNSEEN.sub(" ", text).split())) if piece]
    while len(pieces) < shots and (longest := max(pieces, key=lambda piece: len(piece.split()), default="")):
        words = longest.split()
        if len(words) < 2:
            break
        at, half = pieces.index(longest), (len(words) + 1) // 2
        pieces[at : at + 1] = [" ".join(words[:half]), " ".join(words[half:])]
    grouped = [pieces[len(pieces) * n // shots : len(pieces) * (n + 1) // shots] for n in range(shots)]
    said = [" ".join(group) for group in grouped if group]
    return [Shot(prompt_of(caption), caption, seconds_for(caption)) for caption in said]


def seconds_for(caption: str) -> float:
    """How long a caption stands."""
    return round(min(LONGEST_S, max(SHORTEST_S, len(caption.split()) / WORDS_PER_S)), 1)


def shots_of(content: Mapping[str, Any]) -> list[Shot]:
    """The shots that an artifact carries."""
    return [Shot(shot["prompt"], shot["caption"], float(shot["seconds"])) for shot in content["shots"]]


# --- the plan --------------------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """A row of the plan between the text and the publication of a film. `after`: earlier rows of these that it is made from."""

    kind: str
    title: str
    inputs: dict[str, Any]
    after: tuple[int, ...] = ()


def steps(form: Format) -> list[Step]:
    """Storyboard, then a picture and a film of each shot, then the cut. The last one is what is shown."""
    place = f"the {form.format} on {form.platform}"
    shape = {"aspect": form.aspect}
    rows = [Step("storyboard", f"Plan the shots for {place}", {**shape, "shots": form.shots})]
    for shot in range(form.shots):
        of = f"shot {shot + 1} of {place}"
        rows.append(Step("image", f"Order a picture for {of}", {**shape, "shot": shot}, (0,)))
        rows.append(Step("video", f"Order a film for {of}", {**shape, "shot": shot}, (0, len(rows) - 1)))
    films = tuple(n for n, row in enumerate(rows) if row.kind == "video")
    return [*rows, Step("cut", f"Cut the film for {place}", {**shape, "media": SHORT}, (0, *films))]


MADE_FROM = frozenset(("draft", "storyboard", "image", "video"))
"""Kinds of work whose results are cut for other platforms."""


def cut_from(form: Format) -> list[tuple[str, dict[str, Any]]]:
    """What a format needs of the one that it is cut from, beside the words: kinds and places."""
    if form.media != SHORT:
        return [(str(form.media), {})]
    return [("storyboard", {}), *(("video", {"shot": shot}) for shot in range(form.shots))]


# --- what is made ----------------------------------------------------------------------------------------------------


async def film_of(job: Job, row: PlanRow, board: Sequence[Shot], media: Media, tools: Tools) -> dict[str, Any]:
    """Cut what the orders brought and keep it: the content of the artifact. Raises NoMedia."""
    takes = [await collected(ref, media, tools) for ref in job.facts["deps"][2:]]
    shape, board = row.inputs["aspect"], board[: len(takes)]  # what is cut for another platform may be shorter
    with tempfile.TemporaryDirectory(prefix="chimera-cut-") as folder:
        try:
            files = [Path(folder) / f"{n}.{take.extension}" for n, take in enumerate(takes)]
            for take, file in zip(takes, files, strict=True):
                await media.store.save(take, file)
            cut = Path(folder) / "cut.mp4"
            pieces = [Take(file, shot.caption, shot.seconds) for file, shot in zip(files, board, strict=True)]
            await cut_apart(pieces, shape, cut)
            film = await media.store.put(in_pieces(cut))
            facts = facts_of(film, cut)
        except MediaError as error:
            raise NoMedia(str(error), wait="media store" in str(error)) from error
    parameters = {"shape": shape, "captions": [shot.caption for shot in board]}
    asset = said_of(film, facts, "edit", TOOL, takes, "cut", parameters=parameters)
    return {**_place(row), "film": film.name, "shots": [shot._asdict() for shot in board], "assets": [asset]}


async def shaped(job: Job, row: PlanRow, media: Media, tools: Tools) -> dict[str, Any]:
    """One picture or film, ordered for another platform, in this one's shape: the content of the artifact. Raises NoMedia."""
    source = await collected(job.facts["deps"][1], media, tools)
    shape = row.inputs["aspect"]
    with tempfile.TemporaryDirectory(prefix="chimera-cut-") as folder:
        file, out = Path(folder) / source.name, Path(folder) / ("cut.mp4" if source.kind == "video" else "cut.png")
        try:
            await media.store.save(source, file)
            if source.kind == "image":
                await crop_apart(file, shape, out)
            else:
                known = await facts_apart(source, file)
                await cut_apart([Take(file, "", known.duration_s or LONGEST_S)], shape, out)
            made = await media.store.put(in_pieces(out))
            facts = await facts_apart(made, out)
        except MediaError as error:
            raise NoMedia(str(error), wait="media store" in str(error)) from error
    asset = said_of(made, facts, "edit", TOOL, [source], "cut", parameters={"shape": shape, "captions": []})
    name = "film" if made.kind == "video" else "picture"
    return {**_place(row), name: made.name, "shots": [], "assets": [asset]}


def _place(row: PlanRow) -> dict[str, Any]:
    return {"platform": row.inputs["platform"], "format": row.inputs["format"]}


# --- what is judged --------------------------------------------------------------------------------------------------


def wrong(content: Mapping[str, Any], draft: ArtifactProduced | HumanEdited) -> str:
    """What a storyboard or a cut says or shows beyond the draft; empty where it is right."""
    said, at = " ".join(draft.content["text"].split()), 0
    for shot in shots_of(content):
        found = said.find(shot.caption, at)
        if found < 0:
            return "a caption is no piece of the judged text, in its order"
        at = found + len(shot.caption)
        if shot.prompt != prompt_of(shot.caption):
            return "a shot is to show something else than its caption says"
    if "film" not in content and "picture" not in content:
        return ""
    (asset,) = content["assets"]
    wide, high = LONGEST_SIDE[asset["parameters"]["shape"]]
    if abs(asset["width"] / asset["height"] - wide / high) > 0.05 * wide / high:
        what = "film" if "film" in content else "picture"
        return f"the {what} is {asset['width']} x {asset['height']}, which is not {asset['parameters']['shape']}"
    if "picture" in content:
        return ""
    platform = content.get("platform", draft.content["platform"])
    longest = LONGEST_FILM_S.get(platform, max(LONGEST_FILM_S.values()))
    if not 0 < asset["duration_s"] <= longest:
        return f"the film lasts {asset['duration_s']:.1f} s; {platform} takes {longest:.0f}"
    return ""
