"""What stands between a wish and a call: schema, egress and switches before anything of it leaves; breaker, rate limit and budget
before it is sent.

The one rule: a guard that cannot be asked says no, and a no is given before the tool's own server hears of the call.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from chimera.mcp.egress import EgressDenied, Resolve, check_arguments
from chimera.mcp.ingest import Files
from chimera.mcp.limits import Breakers, RateLimits
from chimera.mcp.profiles import Profile, Rendered, misstated, stood_in
from chimera.mcp.spec import CapabilitySpec, RateLimit
from chimera.mcp.targets import filled

log = logging.getLogger(__name__)


class CallPlace(NamedTuple):
    """What a kill switch may cover: whose call it is, and of what."""

    agent: str
    tenant: str
    platform: str | None
    account: str | None
    tool: str
    """`profile.tool`"""


Switch = Callable[[CallPlace], Awaitable[str | None]]
"""None when the call is allowed now, else why it is not, as a code (`switch:fleet`). If it raises, the call is not sent."""
Budget = Callable[[str, Rendered], Awaitable[str | None]]
"""(agent, call) -> None when there is money for it, else why not. Asking reserves nothing. If it raises: not sent."""


async def open_switch(place: CallPlace) -> str | None:
    """No switch stops any call."""
    return None


async def no_budget(agent: str, call: Rendered) -> str | None:
    """No budget limits any call."""
    return None


@dataclass(frozen=True)
class Caller:
    """For whom a call is made; `key` is an effect's idempotency key, None for what only reads."""

    agent: str
    tenant: str
    account: str | None
    key: str | None
    correlation: str | None


@dataclass(frozen=True)
class Refusal:
    """Why a call stops before it is sent. `final` = trying again cannot help."""

    reason: str
    detail: str = ""
    final: bool = False


_BREAKER_OPEN = Refusal("breaker", "the last calls went wrong: waiting before the next try")


def _too_fast(limit: RateLimit, wait_s: float) -> Refusal:
    return Refusal("rate_limit", f"{limit.calls} per {limit.per_s:g} s are used up: the next is free in {wait_s:.0f} s")


@dataclass
class Guards:
    """The guards of one gate. `rates` and `breakers` are kept for as long as it lives."""

    files: Files
    switch: Switch
    budget: Budget
    allow_local: bool
    resolve: Resolve
    home: Path
    rates: RateLimits
    breakers: Breakers
    _roots: dict[str, Path] = field(default_factory=dict, init=False)

    async def unfit(
        self, profile: Profile, spec: CapabilitySpec, rendered: Rendered, caller: Caller, fresh: bool
    ) -> Refusal | None:
        """What is wrong with the call itself, or forbids it: looked at before anything of it leaves."""
        if profile.tools[rendered.tool].sha256 != rendered.tool_schema_sha256:
            # Not to be healed by waiting: it was judged for a schema that is pinned no more. The task is rendered and judged anew.
            return Refusal("pinned_anew", "rendered for another pinned schema: it is rendered and judged again", final=True)
        if wrong := "" if fresh else misstated(spec, rendered):
            return Refusal("misstated", wrong, final=True)
        problems = [] if fresh else profile.problems(rendered.tool, stood_in(spec, rendered.arguments))
        if problems:
            return Refusal("bad_arguments", "; ".join(problems), final=True)
        try:
            await check_arguments(
                rendered.arguments,
                content=(*spec.egress.content, *spec.egress.media),
                locations=spec.egress.locations,
                allow_hosts=spec.egress.allow_hosts,
                roots=[self._root(root) for root in spec.egress.roots],
                allow_local=self.allow_local,
                resolve=self.resolve,
            )
        except EgressDenied as error:
            return Refusal("egress", str(error), final=True)
        strange = await self.files.not_ours(spec, rendered)
        if strange is not None:
            return Refusal("egress", strange, final=True)
        closed = await self.closed(profile, rendered, caller)
        if closed is not None:
            return Refusal(closed, "a kill switch stops this call: see `chimera switch list`")
        return None

    async def no_room(self, profile: Profile, spec: CapabilitySpec, rendered: Rendered, caller: Caller) -> Refusal | None:
        """What makes a call wait: breaker, rate limit, budget; what there is room for is taken."""
        breaker = self.breakers.of(profile.name, caller.account)
        if not breaker.allows():
            return _BREAKER_OPEN
        limit = profile.spec.rates[spec.rate] if spec.rate is not None else None
        window = (profile.name, spec.rate, caller.account)
        if limit is not None and (wait_s := self.rates.wait_s(window, limit.calls, limit.per_s)) > 0:
            return _too_fast(limit, wait_s)
        try:
            short = await self.budget(caller.agent, rendered)
        except Exception:
            log.exception("the budget cannot be asked")
            short = "the budget cannot be asked"
        if short is not None:
            return Refusal("budget", short)
        # Asked again and taken in one go: others may have come while the budget was asked.
        if limit is not None and (wait_s := self.rates.take(window, limit.calls, limit.per_s)) > 0:
            return _too_fast(limit, wait_s)
        return None if breaker.begin() else _BREAKER_OPEN

    async def closed(self, profile: Profile, rendered: Rendered, caller: Caller) -> str | None:
        """Why a switch stops this call now, or None."""
        tool = f"{rendered.profile}.{rendered.tool}"
        try:
            return await self.switch(CallPlace(caller.agent, caller.tenant, profile.spec.platform, caller.account, tool))
        except Exception:
            log.exception("the switches cannot be read")
            return "switch_unreadable"

    def _root(self, root: str) -> Path:
        known = self._roots.get(root)
        if known is None:
            known = self._roots[root] = Path(filled(root, home=str(self.home), cwd=str(Path.cwd())))
        return known
