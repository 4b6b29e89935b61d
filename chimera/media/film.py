"""Cutting: takes one after the other, filled into one shape, each with its words on it, as one film.

The rule not to break: the same takes, words and shape give the same bytes, so a cut that is made again is the same asset. The
encoder keeps that only in a fresh process: it looks at memory that was somebody's before.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from chimera.media.apart import NotDone, run_apart
from chimera.media.facts import MOST_PIXELS
from chimera.media.store import MediaError

if TYPE_CHECKING:
    from PIL import Image as images

LONGEST_SIDE = {"1:1": (720, 720), "16:9": (1280, 720), "9:16": (720, 1280)}
"""Shape -> pixels at most; takes that are smaller make a smaller film."""
MOST_RATE = 30
MOST_LINES = 4
_BLOCK = 16


class Take(NamedTuple):
    """One piece: its film, the words that stand on it, and how long it may last (seconds)."""

    film: Path
    caption: str
    seconds: float


def cut(takes: Sequence[Take], shape: str, to: Path) -> None:
    """Write an MP4 (H.264, no sound) of the takes in their order. Blocks; raises MediaError for a take that cannot be read."""
    import av  # here: who only keeps files need not hold FFmpeg in memory
    from av.error import FFmpegError

    if not takes:
        raise MediaError("a film is cut from at least one take")
    try:
        size, rate = _size(takes, shape), _rate(takes)
        with av.open(str(to), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            stream = container.add_stream("libx264", rate=rate, options={"preset": "veryfast", "crf": "21", "threads": "1"})
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            for take in takes:
                words = _caption(take.caption, size)
                for image in _frames(take, size, rate):
                    image.paste(words, (0, 0), words)
                    container.mux(stream.encode(av.VideoFrame.from_image(image)))  # type: ignore[no-untyped-call]
            container.mux(stream.encode(None))
    except FFmpegError as error:
        raise MediaError(f"the film could not be cut: {error}") from error


def crop(picture: Path, shape: str, to: Path) -> None:
    """Write a PNG of a picture, filled into the shape without being made larger. Blocks; raises MediaError for no picture."""
    from PIL import Image, UnidentifiedImageError

    wide, high = LONGEST_SIDE[shape]
    try:
        with Image.open(picture) as image:
            if image.width * image.height > MOST_PIXELS:
                raise MediaError(f"{picture.name}: {image.width} x {image.height} pixels are more than are unpacked")
            scale = min(image.width / wide, image.height / high)
            _filled(image.convert("RGB"), (round(wide * scale), round(high * scale))).save(to, "PNG")
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        raise MediaError(f"the picture could not be cut: {error}") from error


def _size(takes: Sequence[Take], shape: str) -> tuple[int, int]:
    """The shape's pixels, about as many along its longer side as the smallest take has."""
    import av

    wide, high = LONGEST_SIDE[shape]
    longest = max(wide, high)
    for take in takes:
        with av.open(str(take.film), "r") as container:
            if not container.streams.video:
                raise MediaError(f"{take.film.name} has no picture")
            video = container.streams.video[0]
            if video.width * video.height > MOST_PIXELS:
                raise MediaError(f"{take.film.name}: {video.width} x {video.height} pixels are more than are unpacked")
            longest = min(longest, max(video.width, video.height))
    scale = longest / max(wide, high)
    return _whole(wide * scale), _whole(high * scale)


def _whole(pixels: float) -> int:
    """A whole number of H.264's blocks: what fills half a block up is not the same every time."""
    return max(_BLOCK, round(pixels / _BLOCK) * _BLOCK)


def _rate(takes: Sequence[Take]) -> Fraction:
    """Frames a second: those of the fastest take."""
    import av

    fastest = Fraction(1)
    for take in takes:
        with av.open(str(take.film), "r") as container:
            fastest = max(fastest, Fraction(container.streams.video[0].average_rate or 1))
    return min(Fraction(MOST_RATE), fastest).limit_denominator(1001)


def _frames(take: Take, size: tuple[int, int], rate: Fraction) -> Iterator[images.Image]:
    """Frames of a take at this rate, each filled into the shape; the last one stands until the take's time is over."""
    import av

    wanted, shown, image = int(take.seconds * rate), 0, None
    with av.open(str(take.film), "r") as container:
        for frame in container.decode(video=0):
            image = _filled(frame.to_image(), size)  # type: ignore[no-untyped-call]
            until = wanted if frame.time is None else min(wanted, int(frame.time * rate) + 1)
            while shown < until:
                shown += 1
                yield image.copy()
            if shown >= wanted:
                return
    if image is None:
        raise MediaError(f"{take.film.name} has no frame")
    while shown < wanted:
        shown += 1
        yield image.copy()


def _filled(image: images.Image, size: tuple[int, int]) -> images.Image:
    """The picture over the whole shape; what stands out at two sides is cut off."""
    from PIL import ImageOps

    return ImageOps.fit(image, size)


def _caption(text: str, size: tuple[int, int]) -> images.Image:
    """A transparent picture with the words on a dark band above the lower edge."""
    from PIL import Image, ImageDraw, ImageFont

    wide, high = size
    layer = Image.new("RGBA", size, (0, 0, 0, 0))
    if not text:
        return layer
    letters = max(10, min(wide, high) // 16)
    font = ImageFont.load_default(letters)
    lines = textwrap.wrap(text, max(10, int(wide * 0.86 / (letters * 0.55))))
    if len(lines) > MOST_LINES:
        lines = [*lines[: MOST_LINES - 1], lines[MOST_LINES - 1].rstrip(".,;:") + " …"]
    draw = ImageDraw.Draw(layer)
    words = "\n".join(lines)
    left, top, right, bottom = draw.multiline_textbbox((0, 0), words, font=font, spacing=letters // 4, align="center")
    tall, margin = bottom - top, letters // 2
    y = high - tall - 4 * margin
    draw.rectangle((0, y - margin, wide, y + tall + margin), fill=(0, 0, 0, 150))
    draw.multiline_text(
        ((wide - (right - left)) / 2 - left, y - top), words, font=font, spacing=letters // 4, align="center", fill="white"
    )
    return layer


# --- apart -----------------------------------------------------------------------------------------------------------


async def cut_apart(takes: Sequence[Take], shape: str, to: Path, timeout_s: float = 300.0) -> None:
    """`cut` in a process of its own: films come from outside, and what a decoder makes of a hostile one must not end a worker.

    Raises MediaError for a take that cannot be read, and where it took longer than `timeout_s` seconds.
    """
    takes_told = [[str(take.film), take.caption, take.seconds] for take in takes]
    await _apart("film", {"shape": shape, "to": str(to), "takes": takes_told}, timeout_s)


async def crop_apart(picture: Path, shape: str, to: Path, timeout_s: float = 60.0) -> None:
    """`crop` in a process of its own, as `cut_apart`. Raises MediaError."""
    await _apart("picture", {"shape": shape, "to": str(to), "picture": str(picture)}, timeout_s)


async def _apart(what: str, told: dict[str, Any], timeout_s: float) -> None:
    try:
        await run_apart("chimera.media.film", told=json.dumps(told).encode(), timeout_s=timeout_s)
    except NotDone as why:
        raise MediaError(f"the {what} could not be cut: {why}") from None


def main() -> None:
    """One cut, asked for as JSON on standard input."""
    told = json.load(sys.stdin)
    try:
        if "picture" in told:
            crop(Path(told["picture"]), told["shape"], Path(told["to"]))
            return
        cut([Take(Path(film), caption, seconds) for film, caption, seconds in told["takes"]], told["shape"], Path(told["to"]))
    except MediaError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
