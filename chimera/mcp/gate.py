"""The gate: the only way from Chimera to an outside tool. Reads go by `call`, effects by `send`.

The one rule: an `Outcome` never claims more than is known. Only what was provably not handed over is `not_sent`; whatever
may have reached the server and has no answer that a rule recognises is `unknown`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

from chimera import failpoints
from chimera.mcp.connections import Answer, Connection
from chimera.mcp.egress import EgressDenied, Resolve, check_arguments, system_resolve
from chimera.mcp.ingest import Fetch, Files, cost_of, download
from chimera.mcp.limits import Breakers, RateLimits
from chimera.mcp.opens import opens
from chimera.mcp.profiles import BadArguments, Profile, Profiles, Rendered, files_in, stood_in
from chimera.mcp.records import Outcome, Result, ToolCallRecord, argument_shape
from chimera.mcp.results import read_result, receipt_of, taint_of
from chimera.mcp.spec import CapabilitySpec, Mode, RateLimit, ServerSpec
from chimera.mcp.targets import Address, filled, origin_of, post_url, target_of
from chimera.mcp.uploads import NotUp, Uploads


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

Credential = Callable[[str, str | None], str | None]
"""(agent, platform) -> where the account's own credential lies, as a secret reference; None: where the profile says."""

_PER_ACCOUNT_CONNECTIONS = 16
_TELL_S = 10.0

log = logging.getLogger(__name__)


async def _open_switch(place: CallPlace) -> str | None:
    return None


def _as_the_profile_says(agent: str, platform: str | None) -> str | None:
    return None


async def _no_budget(agent: str, call: Rendered) -> str | None:
    return None


@dataclass(frozen=True)
class _Caller:
    agent: str
    tenant: str
    account: str | None
    key: str | None
    correlation: str | None


@dataclass(frozen=True)
class _Refusal:
    """Why a call stops before it is sent. `final` = trying again cannot help."""

    reason: str
    detail: str = ""
    final: bool = False


_BREAKER_OPEN = _Refusal("breaker", "the last calls went wrong: waiting before the next try")


def _too_fast(limit: RateLimit, wait_s: float) -> _Refusal:
    return _Refusal("rate_limit", f"{limit.calls} per {limit.per_s:g} s are used up: the next is free in {wait_s:.0f} s")


@dataclass
class Gate:
    """Profiles, addresses and the guards between a wish and a call. Use as an async context manager, or `close()` it.

    `addresses` maps the setting names that profiles use (`x_url`) to server addresses (or, for tests and benchmarks,
    to servers in this process); a server without one is launched over stdio. `on_call` gets one record per call,
    whatever came of it. `clock` is monotonic seconds.
    """

    profiles: Profiles
    addresses: Mapping[str, Address]
    _: KW_ONLY
    on_call: Callable[[ToolCallRecord], Awaitable[None]]
    clock: Callable[[], float] = time.monotonic
    home: Path = Path(".chimera")
    switch: Switch = _open_switch
    budget: Budget = _no_budget
    credential: Credential = _as_the_profile_says
    effects: frozenset[str] | None = None
    """The classes of effects that are made here: only their profiles are opened, no other credential is looked for. None: all."""
    allow_local: bool = False
    allowlisted_sources: Collection[str] = ()
    resolve: Resolve = system_resolve
    fetch: Fetch = download
    media: str | None = None
    """Where the media store is, as `chimera.media.place` reads it; None: in the home."""
    media_url: str | None = None
    """Where platforms fetch files of the media store in live mode; None: nowhere."""
    _connections: OrderedDict[tuple[str, str, str | None, str | None], Connection] = field(default_factory=OrderedDict, init=False)

    def __post_init__(self) -> None:
        self._rates = RateLimits(self.clock)
        self._breakers = Breakers(self.clock)
        self._retired: list[Connection] = []
        self._roots: dict[str, Path] = {}
        self.files = Files(self.home, self.fetch, self.media_url, self.media)
        self._uploads = Uploads(lambda: self.files.store, self.clock)

    async def __aenter__(self) -> Gate:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection and end every child process."""
        await asyncio.gather(*(connection.close() for connection in (*self._connections.values(), *self._retired)))
        self._connections.clear()

    async def call(
        self,
        capability: str,
        inputs: Mapping[str, Any],
        *,
        agent: str,
        tenant: str,
        account: str | None = None,
        platform: str | None = None,
        mode: str = "sandbox",
        correlation: str | None = None,
    ) -> Outcome:
        """Read something. An effect never goes this way: it is refused."""
        try:
            rendered = self.profiles.render(capability, inputs, platform=platform, mode=mode)
        except BadArguments as error:
            return Outcome(result="refused", reason="bad_arguments", detail=str(error), tool=capability)
        if rendered.effect_class != "none":
            return Outcome.stopped(rendered, "refused", "effect_needs_send", "an effect goes through send, after its quorum")
        return await self._run(rendered, _Caller(agent, tenant, account, None, correlation), inputs, fresh=True)

    async def send(
        self,
        rendered: Rendered,
        *,
        agent: str,
        tenant: str,
        account: str | None,
        idempotency_key: str,
        correlation: str | None = None,
    ) -> Outcome:
        """Make one effect: exactly these arguments, once. Never retried here, whatever comes back."""
        return await self._run(rendered, _Caller(agent, tenant, account, idempotency_key, correlation), rendered.arguments)

    async def _run(self, rendered: Rendered, caller: _Caller, inputs: Mapping[str, Any], *, fresh: bool = False) -> Outcome:
        """`fresh`: rendered a moment ago, which checked the arguments against the pinned schema."""
        began = self.clock()
        try:
            outcome = await self._outcome(rendered, caller, inputs, fresh)
        except asyncio.CancelledError:
            cut = Outcome.stopped(rendered, "unknown", "cancelled")
            await self._tell(self._record(rendered, caller, replace(cut, latency_ms=self._since(began))))
            raise
        outcome = replace(outcome, latency_ms=self._since(began))
        await self._tell(self._record(rendered, caller, outcome))
        await failpoints.at("gate.told")
        return outcome

    async def _tell(self, record: ToolCallRecord) -> None:
        """Hand the record on; if that fails, the outcome still reaches the caller, for whom it matters more."""
        try:
            async with asyncio.timeout(_TELL_S):
                await self.on_call(record)
        except TimeoutError:  # whoever has the record goes on trying, and says what is lost
            log.warning("the record of a call of %s is not in the log within %g s: its outcome goes on", record.agent, _TELL_S)
        except Exception:
            log.exception("the record of a call was not kept: %s", record.to_json())

    async def _outcome(self, rendered: Rendered, caller: _Caller, inputs: Mapping[str, Any], fresh: bool) -> Outcome:
        profile = self.profiles.by_name.get(rendered.profile)
        spec = profile.spec.capabilities.get(rendered.capability) if profile else None
        if profile is None or spec is None or spec.tool != rendered.tool:
            return Outcome.stopped(rendered, "not_sent", "no_profile", f"no profile {rendered.profile!r} offers this tool")
        if not opens(profile.spec, self.effects):
            return Outcome.stopped(rendered, "not_sent", "not_this_gate", f"this gate does not open {profile.name}")
        if rendered.mode not in get_args(Mode):
            return Outcome.stopped(rendered, "refused", "bad_mode", f"mode {rendered.mode!r} is none of {get_args(Mode)}")
        server = profile.spec.servers.get("live" if rendered.mode == "live" else "sandbox")
        if server is None and rendered.mode != "dry_run":
            return Outcome.stopped(rendered, "not_sent", "no_server", f"{profile.name} has no server for {rendered.mode!r}")
        began = self.clock()
        stop = await self._unfit(profile, spec, rendered, caller, fresh)
        if stop is not None:
            return Outcome.stopped(rendered, "refused" if stop.final else "not_sent", stop.reason, stop.detail)
        if rendered.mode == "dry_run" or server is None:
            return replace(Outcome.stopped(rendered, "not_sent", "dry_run"), data={"would_send": rendered.to_json()})
        try:
            arguments = await self._uploaded(profile, spec, rendered, caller)
        except NotUp as error:
            return Outcome.stopped(rendered, "not_sent", "not_uploaded", str(error))
        stop = await self._no_room(profile, spec, rendered, caller)
        if stop is not None:
            return Outcome.stopped(rendered, "not_sent", stop.reason, stop.detail)
        breaker = self._breakers.of(profile.name, caller.account)
        meta = {"chimera/account": caller.account, "chimera/idempotency-key": caller.key}
        try:
            await failpoints.at("gate.guarded")
            answer = await self._connection(profile, server, rendered.mode, caller).call(
                rendered.tool,
                arguments,
                schema_sha256=rendered.tool_schema_sha256,
                meta={name: value for name, value in meta.items() if value is not None},
                timeout_s=rendered.timeout_s if spec.uploads is None else rendered.timeout_s - (self.clock() - began),
                # Asked again when nothing is left to do but to send: waiting for a place and connecting take their time.
                stops=partial(self._closed, profile, rendered, caller),
            )
            await failpoints.at("gate.answered")
        except BaseException:  # whatever it is, it says nothing of the server: the breaker's one try is given back
            breaker.forget()
            raise
        if answer.kind == "not_sent" and answer.reason.startswith("switch"):
            breaker.forget()
            return Outcome.stopped(rendered, "not_sent", answer.reason, answer.detail)
        try:
            outcome = self._judged(profile, spec, rendered, caller, answer, inputs)
        except Exception:
            log.exception("the result rules of %s.%s failed on an answer", rendered.profile, rendered.tool)
            outcome = Outcome.stopped(rendered, "unknown", "rules_failed")
        breaker.saw(trouble=outcome.result == "unknown" or outcome.reason in ("server_down", "server_slow"))
        if spec.result.media is not None and outcome.result == "ok":
            origin = origin_of(profile, rendered.mode, self.addresses) if rendered.mode == "sandbox" else None
            outcome = await self.files.collected(spec, outcome, origin)
            await failpoints.at("gate.collected")
        return outcome

    async def _uploaded(self, profile: Profile, spec: CapabilitySpec, rendered: Rendered, caller: _Caller) -> dict[str, Any]:
        """The arguments as the platform takes them: files went up, by calls of their own. Raises NotUp.

        All of it, and the call itself, has the call's time: whoever claimed the effect counted with no more.
        """
        base = self.files.base(rendered.mode)
        if spec.uploads is None or base is None or not files_in(spec.uploads, rendered.arguments):
            return rendered.arguments
        ask = partial(
            self.call, agent=caller.agent, tenant=caller.tenant, account=caller.account, platform=profile.spec.platform,
            mode=rendered.mode, correlation=caller.correlation,
        )  # fmt: skip
        whose = (profile.name, rendered.mode, caller.account or "")
        arguments = await self._uploads.in_place(spec.uploads, rendered.arguments, base, whose, ask, rendered.timeout_s / 2)
        problems = profile.problems(rendered.tool, arguments)
        if problems:
            raise NotUp("; ".join(problems))
        return arguments

    async def _unfit(
        self, profile: Profile, spec: CapabilitySpec, rendered: Rendered, caller: _Caller, fresh: bool
    ) -> _Refusal | None:
        """What is wrong with the call itself, or forbids it: looked at before anything of it leaves."""
        if profile.tools[rendered.tool].sha256 != rendered.tool_schema_sha256:
            # Not to be healed by waiting: it was judged for a schema that is pinned no more. The task is rendered and judged anew.
            return _Refusal("pinned_anew", "rendered for another pinned schema: it is rendered and judged again", final=True)
        problems = [] if fresh else profile.problems(rendered.tool, stood_in(spec, rendered.arguments))
        if problems:
            return _Refusal("bad_arguments", "; ".join(problems), final=True)
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
            return _Refusal("egress", str(error), final=True)
        strange = await self.files.not_ours(spec, rendered)
        if strange is not None:
            return _Refusal("egress", strange, final=True)
        closed = await self._closed(profile, rendered, caller)
        if closed is not None:
            return _Refusal(closed, "a kill switch stops this call: see `chimera switch list`")
        return None

    async def _no_room(self, profile: Profile, spec: CapabilitySpec, rendered: Rendered, caller: _Caller) -> _Refusal | None:
        """What makes a call wait: breaker, rate limit, budget; what there is room for is taken."""
        breaker = self._breakers.of(profile.name, caller.account)
        if not breaker.allows():
            return _BREAKER_OPEN
        limit = profile.spec.rates[spec.rate] if spec.rate is not None else None
        window = (profile.name, spec.rate, caller.account)
        if limit is not None and (wait_s := self._rates.wait_s(window, limit.calls, limit.per_s)) > 0:
            return _too_fast(limit, wait_s)
        try:
            short = await self.budget(caller.agent, rendered)
        except Exception:
            log.exception("the budget cannot be asked")
            short = "the budget cannot be asked"
        if short is not None:
            return _Refusal("budget", short)
        # Asked again and taken in one go: others may have come while the budget was asked.
        if limit is not None and (wait_s := self._rates.take(window, limit.calls, limit.per_s)) > 0:
            return _too_fast(limit, wait_s)
        return None if breaker.begin() else _BREAKER_OPEN

    async def _closed(self, profile: Profile, rendered: Rendered, caller: _Caller) -> str | None:
        """Why a switch stops this call now, or None."""
        tool = f"{rendered.profile}.{rendered.tool}"
        try:
            return await self.switch(CallPlace(caller.agent, caller.tenant, profile.spec.platform, caller.account, tool))
        except Exception:
            log.exception("the switches cannot be read")
            return "switch_unreadable"

    def _judged(
        self, profile: Profile, spec: CapabilitySpec, rendered: Rendered, caller: _Caller, answer: Answer, inputs: Mapping[str, Any]
    ) -> Outcome:
        if answer.kind != "answer" or answer.result is None:
            result: Result = "not_sent" if answer.kind == "not_sent" else "unknown"
            return Outcome.stopped(rendered, result, answer.reason, answer.detail)
        reading = read_result(spec.result, answer.result)
        url = None
        if reading.result == "ok" and reading.platform_id is not None:
            url = self._post_url(profile, spec, rendered.mode, caller.account, reading.platform_id)
        return Outcome(
            result=reading.result,
            reason=reading.reason,
            detail=reading.detail,
            data=reading.data,
            platform_id=reading.platform_id,
            handle=reading.handle,
            url=url,
            cost_usd=cost_of(spec, reading, rendered.cost_usd),
            taint=taint_of(spec.taint, inputs, self.allowlisted_sources),
            receipt=receipt_of(spec.result, reading.data),
            profile=rendered.profile,
            tool=rendered.tool,
            server_version=answer.server_version,
        )

    def url_of(self, rendered: Rendered, account: str | None, platform_id: str) -> str | None:
        """Where a post of this kind of call is to be seen, by the profile's template; None where there is none."""
        profile = self.profiles.by_name.get(rendered.profile)
        spec = profile.spec.capabilities.get(rendered.capability) if profile else None
        return None if profile is None or spec is None else self._post_url(profile, spec, rendered.mode, account, platform_id)

    def _post_url(self, profile: Profile, spec: CapabilitySpec, mode: str, account: str | None, platform_id: str) -> str | None:
        return post_url(spec, mode, account, platform_id, origin_of(profile, mode, self.addresses))

    def _connection(self, profile: Profile, server: ServerSpec, mode: str, caller: _Caller) -> Connection:
        """The connection for a call; those of single accounts are bounded, the least recently used one goes."""
        own = self.credential(caller.agent, profile.spec.platform) if server.per_account else None
        key = (profile.name, mode, caller.account if server.per_account else None, own)
        connection = self._connections.get(key)
        if connection is None:
            connection = self._connections[key] = Connection(
                partial(target_of, profile.name, server, caller.account, self.addresses, self.home, own)
            )
            single = [other for other in self._connections if other[:2] == key[:2] and other[2] is not None]
            if len(single) > _PER_ACCOUNT_CONNECTIONS:
                oldest = self._connections.pop(single[0])
                oldest.retire()
                self._retired = [one for one in (*self._retired, oldest) if not one.idle]
        self._connections.move_to_end(key)
        return connection

    def _root(self, root: str) -> Path:
        known = self._roots.get(root)
        if known is None:
            known = self._roots[root] = Path(filled(root, home=str(self.home), cwd=str(Path.cwd())))
        return known

    def _since(self, began: float) -> int:
        return max(0, round((self.clock() - began) * 1000))

    def _record(self, rendered: Rendered, caller: _Caller, outcome: Outcome) -> ToolCallRecord:
        profile = self.profiles.by_name.get(rendered.profile)
        pinned = profile.tools.get(rendered.tool) if profile else None
        return ToolCallRecord(
            agent=caller.agent,
            tenant=caller.tenant,
            profile=rendered.profile,
            mode=rendered.mode,
            tool=rendered.tool,
            capability=rendered.capability,
            account=caller.account,
            argument_shape=argument_shape(rendered.arguments, pinned.schema if pinned else {}),
            arguments_sha256=rendered.arguments_sha256,
            result_class=outcome.result,
            reason=outcome.reason,
            latency_ms=outcome.latency_ms,
            cost_usd=outcome.cost_usd,
            schema_sha256=rendered.tool_schema_sha256,
            correlation=caller.correlation,
        )
