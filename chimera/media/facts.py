"""What a picture or film is: size, length, codecs; and a small picture of it.

The rule not to break: bytes come from outside: what cannot be read is told as such, nothing huge is unpacked, and whoever works
on others' behalf looks at films in a process of their own (`facts_apart`).
"""

from __future__ import annotations

import asyncio
import io
import json
import sys
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from chimera.media.apart import NotDone, run_apart
from chimera.media.store import Asset, MediaError

if TYPE_CHECKING:
    from PIL import Image as images

MOST_PIXELS = 64_000_000
"""Of one picture or frame; what claims more is not unpacked."""
THUMB = 320
"""Longer side of a small picture, in pixels."""


@dataclass(frozen=True)
class Facts:
    """`codec` as FFmpeg names it (of a picture: its format in lower case); `duration_s`, `frames_per_s` of films only."""

    width: int
    height: int
    codec: str
    duration_s: float | None = None
    frames_per_s: float | None = None
    sound: str = ""
    """The codec of its sound; empty: it is silent."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def facts_of(asset: Asset, file: Path | BinaryIO) -> Facts:
    """What the file of an asset is. Raises MediaError for one that cannot be read as what it claims to be."""
    return _film(asset, file) if asset.kind == "video" else _picture(asset, file)


def thumbnail(asset: Asset, file: Path | BinaryIO, longest: int = THUMB) -> bytes:
    """A JPEG of the picture, or of the film's first frame, its longer side at most `longest` pixels. Raises MediaError."""
    image = first_frame(asset, file) if asset.kind == "video" else _opened(asset, file)
    image.thumbnail((longest, longest))
    out = io.BytesIO()
    image.convert("RGB").save(out, "JPEG", quality=82)
    return out.getvalue()


def first_frame(asset: Asset, file: Path | BinaryIO) -> images.Image:
    """The first picture of a film. Raises MediaError."""
    import av  # here: who only keeps files need not hold FFmpeg in memory
    from av.error import FFmpegError

    try:
        with av.open(_source(file), "r") as container:
            for frame in container.decode(video=0):
                if frame.width * frame.height > MOST_PIXELS:
                    raise _unreadable(asset, f"{frame.width} x {frame.height} pixels are more than are unpacked")
                return frame.to_image()  # type: ignore[no-any-return,no-untyped-call]
    except (FFmpegError, IndexError, ValueError) as error:
        raise _unreadable(asset, str(error)) from error
    raise _unreadable(asset, "it has no frame")


def _picture(asset: Asset, file: Path | BinaryIO, *, whole: bool = True) -> Facts:
    image = _opened(asset, file, whole=whole)
    return Facts(image.width, image.height, (image.format or "").lower())


def _opened(asset: Asset, file: Path | BinaryIO, *, whole: bool = True) -> images.Image:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(file)
            if image.width * image.height > MOST_PIXELS:
                raise _unreadable(asset, f"{image.width} x {image.height} pixels are more than are unpacked")
            if whole:
                image.load()
            return image
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        raise _unreadable(asset, str(error)) from error


def _film(asset: Asset, file: Path | BinaryIO) -> Facts:
    import av  # here: see `first_frame`
    from av.error import FFmpegError

    try:
        with av.open(_source(file), "r") as container:
            if not container.streams.video:
                raise _unreadable(asset, "it has no picture")
            video = container.streams.video[0]
            length = None if container.duration is None else container.duration / 1_000_000
            rate = None if video.average_rate is None else float(video.average_rate)
            sound = container.streams.audio[0].codec_context.name if container.streams.audio else ""
            return Facts(video.width, video.height, video.codec_context.name, length, rate, sound)
    except (FFmpegError, ValueError) as error:
        raise _unreadable(asset, str(error)) from error


def _source(file: Path | BinaryIO) -> str | BinaryIO:
    return str(file) if isinstance(file, Path) else file


def _unreadable(asset: Asset, why: str) -> MediaError:
    return MediaError(f"{asset.name} cannot be read as {asset.media_type}: {why}")


# --- apart -----------------------------------------------------------------------------------------------------------


async def facts_apart(asset: Asset, file: Path, timeout_s: float = 30.0) -> Facts:
    """`facts_of` for whoever must outlive the file: of a picture the head alone is read, a film is opened by another process.

    Raises MediaError for what cannot be read as what it claims to be, or took longer than `timeout_s` seconds.
    """
    if asset.kind == "image":
        return await asyncio.to_thread(_picture, asset, file, whole=False)
    try:
        told = await run_apart("chimera.media.facts", asset.name, str(file), timeout_s=timeout_s)
    except NotDone as why:
        raise _unreadable(asset, str(why)) from None
    return Facts(**json.loads(told))


def main() -> None:
    """The facts of the film NAME in FILE, as JSON."""
    digest, _, extension = sys.argv[1].partition(".")
    try:
        print(json.dumps(facts_of(Asset(digest, extension, 0), Path(sys.argv[2])).to_json()))
    except MediaError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
