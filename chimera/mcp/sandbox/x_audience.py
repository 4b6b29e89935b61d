"""The audience of the X sandbox: answers and calls that come by themselves, and what a post has brought about.

The one rule: each thing that people say is posted once. It comes with a key of its own, so a server that dies between saying and
noting says nothing twice.
"""

from __future__ import annotations

import contextlib
from typing import Any

from chimera.mcp.sandbox.audience import FILM_S, Audience, Numbers
from chimera.mcp.sandbox.timeline import PlatformRefused, Post, Timeline
from chimera.mcp.sandbox.voices import Voice, answer_to, call_to
from chimera.mcp.sandbox.x_media import is_film

AT_ONCE = 20
"""So many people speak to an account at one look; the others at the next ones."""
_POSTS = 50
"""Of an account, the newest so many are still talked about."""
BY_ITSELF = "audience"
"""Marks, among what was sent with a post, that nobody sent it."""


def arrive(timeline: Timeline, audience: Audience, account: str) -> int:
    """Let those speak who have something to say to this account by now; how many did. Must not run inside `once`."""
    first_at = timeline.first_at(account)
    if not audience.there or first_at is None:
        return 0
    posts = [post for post in timeline.posts(account, limit=_POSTS) if BY_ITSELF not in post.extra]
    if not posts:
        return 0  # one of the audience: nobody of it speaks to its own
    left = AT_ONCE
    left -= _spoken(timeline, audience, f"@{account}", audience.mentions(account, first_at), left, None, account)
    for post in posts:
        if left <= 0:
            break
        due = audience.numbers(str(post.id), account, first_at, post.created_at).replies
        left -= _spoken(timeline, audience, str(post.id), due, left, post, account)
    return AT_ONCE - left


def _spoken(timeline: Timeline, audience: Audience, about: str, due: int, most: int, post: Post | None, account: str) -> int:
    said = audience.said(about)
    until = min(due, said + most)
    for n in range(said, until):
        voice = call_to(account, n) if post is None else answer_to(about, n)
        _say(timeline, voice, f"{about} {n}", account, post)
    if until > said:
        audience.note(about, until)
    return max(0, until - said)


def _say(timeline: Timeline, voice: Voice, key: str, account: str, post: Post | None) -> None:
    extra: dict[str, Any] = {BY_ITSELF: "hostile" if voice.hostile else "friendly"}

    def act() -> dict[str, Any]:
        made = timeline.post(voice.author, f"@{account} {voice.text}", None if post is None else post.id, extra)
        return {"id": str(made.id)}

    # The same stranger said the same within a day, or the post is gone: the platform refuses, and it stays unsaid.
    with contextlib.suppress(PlatformRefused):
        timeline.once(voice.author, f"audience {key}", "audience", {}, act)


def numbers_of(timeline: Timeline, audience: Audience, post: Post) -> Numbers:
    """What people who are not of this fleet did with a post, answers apart: those stand in the timeline."""
    if BY_ITSELF in post.extra:
        return Numbers()
    first_at = timeline.first_at(post.account)
    film_s = FILM_S if any(map(is_film, post.extra.get("assets", ()))) else 0.0
    return audience.numbers(str(post.id), post.account, first_at or post.created_at, post.created_at, film_s)


def public_metrics(timeline: Timeline, audience: Audience, post: Post) -> dict[str, int]:
    """A post's numbers by X's names: who of this fleet liked and answered, and the audience."""
    did, ours = numbers_of(timeline, audience, post), timeline.metrics(post.id)
    return {
        "like_count": ours["like_count"] + did.likes,
        "reply_count": ours["reply_count"],
        "retweet_count": did.reposts,
        "quote_count": did.quotes,
        "bookmark_count": did.saves,
        "impression_count": did.views,
    }
