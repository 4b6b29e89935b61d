"""Pictures and films of the sandbox studios: real PNG and MP4, made from the prompt and nothing else.

The one rule: the same words and seed give the same bytes, so a file can be made anew instead of being kept.
"""

from __future__ import annotations

import hashlib
import io
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image as images

_LONGEST_FILM_SIDE = 320
_FRAMES_PER_S = 8


def size_of(shape: str, longest: int = 1024) -> tuple[int, int]:
    """Width and height for `16:9`, `16x9`, `1280:720` or `1024x1024`, the longer side at most `longest`, both even."""
    width, _, height = shape.replace("x", ":").partition(":")
    w, h = max(1, int(width)), max(1, int(height))
    scale = longest / max(w, h)
    return max(2, round(w * scale) // 2 * 2), max(2, round(h * scale) // 2 * 2)


def picture(prompt: str, shape: str = "1:1", seed: int = 0, longest: int = 1024) -> bytes:
    """A PNG of the prompt: two of its colours, some of its shapes, its words."""
    out = io.BytesIO()
    _drawn(prompt, size_of(shape, longest), seed, 0.0).save(out, "PNG")
    return out.getvalue()


def film(prompt: str, seconds: int, shape: str = "16:9", seed: int = 0) -> bytes:
    """An MP4 (H.264) of the prompt, so many seconds long; small, since it is looked at and not watched."""
    import av  # here: a sandbox that makes no film need not hold FFmpeg in memory

    out = io.BytesIO()
    size, frames = size_of(shape, _LONGEST_FILM_SIDE), max(1, seconds) * _FRAMES_PER_S
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=_FRAMES_PER_S, options={"preset": "ultrafast", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(frames):
            frame = av.VideoFrame.from_image(_drawn(prompt, size, seed, number / frames))  # type: ignore[no-untyped-call]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()


def _drawn(prompt: str, size: tuple[int, int], seed: int, at: float) -> images.Image:
    from PIL import Image, ImageDraw

    w, h = size
    digest = hashlib.sha256(f"{seed}:{prompt}".encode()).digest()
    upper, lower = tuple(digest[0:3]), tuple(digest[3:6])
    shades = Image.linear_gradient("L").resize(size)
    image = Image.composite(Image.new("RGB", size, lower), Image.new("RGB", size, upper), shades)
    draw = ImageDraw.Draw(image, "RGBA")
    for n in range(4):
        a, b, c, d = digest[8 + 4 * n : 12 + 4 * n]
        x, y, r = (a / 255 + at * (n + 1) / 4) % 1 * w, b / 255 * h, (0.05 + c / 255 * 0.2) * min(w, h)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=(d, 255 - d, a, 120))
    words = "\n".join(textwrap.wrap(prompt, max(12, w // 14))[:12])
    # The built-in letters know Latin only; what they do not know is shown as a question mark rather than not drawn.
    draw.multiline_text(
        (w * 0.05, h * 0.1),
        words.encode("latin-1", "replace").decode("latin-1"),
        fill=(255, 255, 255, 230),
        font_size=max(8, w // 32),
    )
    return image
