"""What agents have published, and what of it was taken down, as a fold from offset 0 tells it.

The rule not to break: a post is known by what the platform calls it; words stay where they are on the log and are fetched when
somebody looks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from chimera.events.envelope import Record
from chimera.events.records import ArtifactProduced, EffectEnded, HumanEdited
from chimera.events.state import Ref, Ruling

MESSAGE = "social.dm"
"""What one person alone was told is no post: nobody lists it as one, and no platform takes it down."""
_OVER = frozenset({"closed", "dropped"})


@dataclass
class Post:
    """One post of one agent. Times are broker time in ms; `taken_down_ts` is 0 while it stands."""

    agent: str
    campaign: int
    platform: str
    account: str
    platform_id: str
    url: str | None
    ref: Ref
    """The record that holds its words."""
    published_ts: int
    taken_down_ts: int = 0
    taken_down_because: str = ""


@dataclass(frozen=True)
class _Proposed:
    platform: str
    account: str
    ref: Ref
    takedown: tuple[str, str] | None
    """What is to be taken down, and why."""


class Posts:
    """Observer of the fold: executed effects that say something, oldest first, and executed takedowns of them."""

    def __init__(self) -> None:
        self._posts: dict[tuple[str, str, str], Post] = {}
        self._proposed: dict[tuple[str, int, int], _Proposed] = {}

    def __call__(self, record: Record, ruling: Ruling) -> None:
        """Take in one ruled record."""
        if ruling.outcome == "void":
            return
        data = record.data
        if (
            ruling.outcome == "applied"
            and isinstance(data, ArtifactProduced | HumanEdited)
            and data.effect is not None
            and data.effect.effect_class == "publish"
            and data.effect.capability != MESSAGE
        ):
            gone = (str(data.content["takedown"]), str(data.content.get("reason", ""))) if "takedown" in data.content else None
            at = Ref(record.partition, record.offset)
            self._proposed[record.key, data.campaign, data.ordinal] = _Proposed(data.effect.platform, data.effect.account, at, gone)
        for change in ruling.changes:
            place = (record.key, change.campaign, change.ordinal)
            if change.what == "effect" and change.status == "executed" and isinstance(data, EffectEnded):
                self._executed(record, data, self._proposed.pop(place, None))
            elif change.what == "task" and change.status in _OVER:
                self._proposed.pop(place, None)

    def of(self, agent: str | None = None) -> Iterator[Post]:
        """Posts of one agent (by stream key) or of all, newest first."""
        return (post for post in reversed(self._posts.values()) if agent is None or post.agent == agent)

    def _executed(self, record: Record, data: EffectEnded, proposed: _Proposed | None) -> None:
        if proposed is None:
            return
        if proposed.takedown is not None:
            what, why = proposed.takedown
            post = self._posts.get((record.key, proposed.platform, what))
            if post is not None:
                post.taken_down_ts, post.taken_down_because = record.append_ts, why
        elif data.platform_id is not None:
            self._posts[record.key, proposed.platform, data.platform_id] = Post(
                agent=record.key,
                campaign=data.campaign,
                platform=proposed.platform,
                account=proposed.account,
                platform_id=data.platform_id,
                url=data.url,
                ref=proposed.ref,
                published_ts=record.append_ts,
            )


def platform_ids(said: str) -> tuple[str, ...]:
    """What a person may have meant by an id or an address: the words as they are, and the last step of an address's path."""
    last = urlsplit(said).path.rstrip("/").rpartition("/")[2] if "://" in said else ""
    return (said, last) if last else (said,)


def takedown_name(platform: str, platform_id: str) -> str:
    """The name of the campaign that takes a post down: one post, one campaign, so asking twice asks for one thing."""
    return f"takedown {platform} {platform_id}"


def boost_name(platform: str, platform_id: str, tier: str, days: int) -> str:
    """The name of the campaign that boosts a post: while it is open, asking for the same again asks for one thing."""
    return f"boost {platform} {platform_id} {tier} {days}d"


def text_of(data: Any) -> str:
    """The words of a published artifact; empty where it has none."""
    return str(data.content.get("text", "")) if isinstance(data, ArtifactProduced | HumanEdited) else ""
