"""What the sandboxes keep, as rows: posts of X and Instagram, jobs of studios. Reads their files side by side with the servers.

The rule not to break: looking changes nothing.
"""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chimera.errors import ChimeraError
from chimera.mcp.sandbox.audience import Audience
from chimera.mcp.sandbox.gram import Gram, GramPost, people_did
from chimera.mcp.sandbox.jobs import JobBook
from chimera.mcp.sandbox.timeline import Post, Timeline
from chimera.mcp.sandbox.x_audience import BY_ITSELF, numbers_of, public_metrics

STUDIOS = ("ideogram", "midjourney", "runway", "luma")


def kept(server: str, directory: Path, limit: int, account: str | None) -> list[dict[str, Any]]:
    """Rows, newest first. Raises ChimeraError for a server that keeps nothing."""
    if server == "x":
        with closing(Timeline(directory)) as timeline, closing(Audience(directory)) as audience:
            return [_x_row(timeline, audience, post) for post in timeline.posts(account, limit=limit)]
    if server == "instagram":
        with closing(Gram(directory)) as gram, closing(Audience(directory)) as audience:
            return [_gram_row(gram, audience, post) for post in gram.posts(account, limit=limit)]
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


def _x_row(timeline: Timeline, audience: Audience, post: Post) -> dict[str, Any]:
    counts = public_metrics(timeline, audience, post)
    did = numbers_of(timeline, audience, post)
    first = timeline.first_at(post.account)
    return {
        "id": str(post.id),
        "account": post.account,
        "followers": 0 if BY_ITSELF in post.extra else audience.followers(post.account, first),
        "at": _when(post.created_at),
        "text": post.text,
        "views": counts["impression_count"],
        "likes": counts["like_count"],
        "replies": counts["reply_count"],
        "reposts": counts["retweet_count"],
        "watched_s": did.watch_s,
        "more": post.extra,
    }


def _gram_row(gram: Gram, audience: Audience, post: GramPost) -> dict[str, Any]:
    first = gram.first_at(post.account)
    did = people_did(post, first or post.made_at, audience)
    return {
        "id": post.id,
        "account": post.account,
        "followers": audience.followers(post.account, first),
        "at": _when(post.made_at),
        "media": post.media,
        "text": post.caption,
        "views": did.views,
        "likes": did.likes,
        "replies": did.replies,
        "reposts": did.reposts,
        "watched_s": did.watch_s,
    }


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
