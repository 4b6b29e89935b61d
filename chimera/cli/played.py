"""What the sandboxes keep, as rows: posts of X and Instagram, jobs of studios. Reads their files side by side with the servers.

The rule not to break: looking changes nothing.
"""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chimera.errors import ChimeraError
from chimera.mcp.sandbox.gram import Gram, seen_by
from chimera.mcp.sandbox.jobs import JobBook
from chimera.mcp.sandbox.timeline import Timeline

STUDIOS = ("ideogram", "midjourney", "runway", "luma")


def kept(server: str, directory: Path, limit: int, account: str | None) -> list[dict[str, Any]]:
    """Rows, newest first. Raises ChimeraError for a server that keeps nothing."""
    if server == "x":
        with closing(Timeline(directory)) as timeline:
            posts = timeline.posts(account, limit=limit)
        return [
            {"id": str(post.id), "account": post.account, "at": _when(post.created_at), "text": post.text, "more": post.extra}
            for post in posts
        ]
    if server == "instagram":
        with closing(Gram(directory)) as gram:
            now, found = gram.clock(), gram.posts(account, limit=limit)
        return [
            {
                "id": post.id,
                "account": post.account,
                "at": _when(post.made_at),
                "media": post.media,
                "text": post.caption,
                "likes": seen_by(post, now)["likes"],
            }
            for post in found
        ]
    if server in STUDIOS:
        with closing(JobBook(directory)) as book:
            return [
                {
                    "id": job.id,
                    "account": job.account,
                    "at": _when(job.made_at),
                    "is": "cancelled" if job.cancelled else "ready" if book.ready(job) else "running",
                    "usd": str(job.price_usd),
                    "prompt": str(job.arguments.get("prompt") or job.arguments.get("promptText") or ""),
                }
                for job in book.jobs(account, limit)
            ]
    raise ChimeraError(f"server {server} keeps nothing to show: ask for x, instagram, {', '.join(STUDIOS)}")


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
