"""Observing: what platforms say of the posts that agents published, as EngagementObserved on `chimera.metrics`.

Which posts are due is asked of whoever knows all posts (passed in at wiring); how they are read stands in the profiles
(`numbers`). The rule not to break: never oftener than half of a platform's rate limit bears, since the same limit carries what
agents listen to; a platform that does not answer is left alone for twice as long each time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, NamedTuple

from chimera.events.metrics import BadObservation, EngagementObserved, observed
from chimera.mcp.profiles import BadArguments, Profiles
from chimera.mcp.records import Outcome
from chimera.mcp.results import at

log = logging.getLogger(__name__)

METRICS = "social.metrics"
EVERY_S = 15.0
"""How often the posts that are due are asked for."""
MOST = 200
"""Posts of one round."""
AT_ONCE = 8
"""Accounts that are asked side by side."""
LONGEST_PAUSE_S = 900.0
FAILED_S = 3_600.0
"""A post whose numbers could not be had is asked for again so much later."""
GONE_S = 86_400.0
"""A post that the platform does not know, or that has no numbers, is asked for again so much later."""


class Post(NamedTuple):
    """A post as the platform knows it, and whose it is."""

    agent: str
    tenant: str
    platform: str
    account: str
    platform_id: str
    mode: str
    made: tuple[int, int] | None = None
    """Partition and offset of the record that holds its words, where that is known."""


Owed = Callable[[Collection[int], Collection[str], int], Sequence[tuple[Any, ...]]]
"""(partitions, platforms, most) -> posts whose numbers are due, as the fields of `Post`. Blocks; raises `OSError`."""
Ask = Callable[[Post], Awaitable[Outcome]]
Tell = Callable[[EngagementObserved, Post], Awaitable[None]]


class Observer:
    """The looks at posts of one process. What it remembers only keeps it from asking too often.

    Args:
        profiles: how each platform's numbers are read.
        owed: which posts are due.
        ask: calls the platform's tool through the gate.
        tell: puts an observation on its way to the log.
        clock: monotonic seconds; `now`: seconds since 1970, which is when the platform said so.
    """

    def __init__(
        self,
        profiles: Profiles,
        owed: Owed,
        ask: Ask,
        tell: Tell,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        self._profiles, self._owed, self._ask, self._tell = profiles, owed, ask, tell
        self._clock, self._now, self._sleep = clock, now, sleep
        self._numbers: dict[str, dict[str, str]] = {}
        for platform in {profile.spec.platform for profile in profiles.by_name.values()}:
            if platform is None:
                continue
            try:
                numbers = profiles.capability(METRICS, platform).numbers
            except BadArguments:  # a platform that tells no numbers
                continue
            if numbers:
                self._numbers[platform] = numbers
        self._not_before: dict[Post, float] = {}
        self._free_at: dict[tuple[str, str], float] = {}
        """When an account may be asked again."""
        self._failures: dict[tuple[str, str], int] = {}

    @property
    def platforms(self) -> frozenset[str]:
        """Those that tell numbers of a post."""
        return frozenset(self._numbers)

    async def run(self, partitions: Callable[[], Collection[int]]) -> None:
        """Look at what is due, for the life of the process. `partitions`: those that this process serves now."""
        while True:
            serving = frozenset(partitions())
            if serving and self._numbers:
                await self.round(serving)
            await self._sleep(EVERY_S)

    async def round(self, partitions: Collection[int]) -> int:
        """One look at every post that is due and may be asked for now; how many told their numbers."""
        begun = self._clock()
        self._not_before = {post: until for post, until in self._not_before.items() if until > begun}
        try:
            found = await asyncio.to_thread(self._owed, partitions, self.platforms, MOST + len(self._not_before))
        except OSError as error:
            log.warning("which posts are to be observed cannot be asked for now: %s", error)
            return 0
        accounts: dict[tuple[str, str], list[Post]] = defaultdict(list)
        for each in found:
            post = Post(*each)
            if post not in self._not_before:
                accounts[post.platform, post.account].append(post)
        room = asyncio.Semaphore(AT_ONCE)
        return sum(await asyncio.gather(*(self._look(key, posts, begun + EVERY_S, room) for key, posts in accounts.items())))

    async def _look(self, key: tuple[str, str], posts: Sequence[Post], until: float, room: asyncio.Semaphore) -> int:
        """The posts of one account, one after the other, until the round is over; the rest is still due in the next one."""
        told = 0
        for post in posts:
            wait = self._free_at.get(key, 0.0) - self._clock()
            if self._clock() + max(wait, 0.0) >= until:
                break
            if wait > 0:
                await self._sleep(wait)
            async with room:
                outcome = await self._ask(post)
            self._free_at[key] = self._clock() + 2 * self._profiles.quota_ms(METRICS, post.platform) / 1000
            if outcome.result == "ok":
                self._failures.pop(key, None)
                told += await self._heard(post, outcome.data)
            elif outcome.reason == "not_found":
                self._not_before[post] = self._clock() + GONE_S
            else:
                failures = self._failures[key] = self._failures.get(key, 0) + 1
                pause = min(LONGEST_PAUSE_S, EVERY_S * 2 ** min(failures, 10))
                self._free_at[key] = self._clock() + pause
                self._not_before[post] = self._clock() + FAILED_S  # it may be this post's fault: others have their turn before it
                log.warning("%s tells nothing of %s: %s; asked again in %.0f s", key[0], key[1], outcome.reason, pause)
                break
        return told

    async def _heard(self, post: Post, data: Any) -> bool:
        """Put what was told on its way. A number that is none is left out; none at all is no observation."""
        found = {name: at(data, path) for name, path in self._numbers[post.platform].items()}
        values = {name: value for name, value in found.items() if isinstance(value, int | float) and not isinstance(value, bool)}
        said = {
            "platform": post.platform,
            "platform_id": post.platform_id,
            "observed_at": int(self._now() * 1000),
            "values": values,
            "source": f"{post.platform}/{METRICS}",
        }
        try:
            seen = observed(post.agent, said)
        except BadObservation as error:
            log.warning("%s says no number of %s: %s", post.platform, post.platform_id, error)
            self._not_before[post] = self._clock() + GONE_S
            return False
        # Until it is a row it is still due.
        self._not_before[post] = self._clock() + 4 * EVERY_S
        await self._tell(seen, post)
        return True
