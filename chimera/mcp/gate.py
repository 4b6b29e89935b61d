"""The gate: the only way from Chimera to an outside tool. Reads go by `call`, effects by `send`.

The one rule: an `Outcome` never claims more than is known. Only what was provably not handed over is `not_sent`; whatever
may have reached the server and has no answer that a rule recognises is `unknown`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

from chimera import failpoints
from chimera.elapsed import elapsed
from chimera.mcp.connections import Answer, Connection
from chimera.mcp.egress import Resolve, system_resolve
from chimera.mcp.guards import Budget, Caller, Guards, Switch, no_budget, open_switch
from chimera.mcp.ingest import Fetch, Files, cost_of, download
from chimera.mcp.limits import Breakers, RateLimits
from chimera.mcp.opens import opens
from chimera.mcp.profiles import BadArguments, Profile, Profiles, Rendered, files_in
from chimera.mcp.records import Outcome, Result, ToolCallRecord, argument_shape
from chimera.mcp.results import read_result, receipt_of, taint_of
from chimera.mcp.spec import CapabilitySpec, Mode, ServerSpec
from chimera.mcp.targets import Address, origin_of, post_url, target_of
from chimera.mcp.uploads import NotUp, Uploads

Credential = Callable[[str, str | None], str | None]
"""(agent, platform) -> where the account's own credential lies, as a secret reference; None: where the profile says."""

PER_ACCOUNT_CONNECTIONS = 16
_TELL_S = 10.0

log = logging.getLogger(__name__)


def _as_the_profile_says(agent: str, platform: str | None) -> str | None:
    return None


@dataclass
class Gate:
    """Profiles, addresses and the guards between a wish and a call. Use as an async context manager, or `close()` it.

    `addresses` maps the setting names that profiles use (`x_url`) to server addresses (or, for tests and benchmarks,
    to servers in this process); a server without one is launched over stdio. `on_call` gets one record per call,
    whatever came of it. `clock` is seconds that never go back, sleep of the machine counted.
    """

    profiles: Profiles
    addresses: Mapping[str, Address]
    _: KW_ONLY
    on_call: Callable[[ToolCallRecord], Awaitable[None]]
    clock: Callable[[], float] = elapsed
    home: Path = Path(".chimera")
    switch: Switch = open_switch
    budget: Budget = no_budget
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
    connections: OrderedDict[tuple[str, str, str | None, str | None], Connection] = field(default_factory=OrderedDict, init=False)
    """By profile, mode, account where each has its own, and where its credential lies; the one used last stands last."""

    def __post_init__(self) -> None:
        self._retired: list[Connection] = []
        self.files = Files(self.home, self.fetch, self.media_url, self.media)
        rates, breakers = RateLimits(self.clock), Breakers(self.clock)
        self._guards = Guards(self.files, self.switch, self.budget, self.allow_local, self.resolve, self.home, rates, breakers)
        self._uploads = Uploads(lambda: self.files.store, self.clock)

    async def __aenter__(self) -> Gate:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection and end every child process."""
        await asyncio.gather(*(connection.close() for connection in (*self.connections.values(), *self._retired)))
        self.connections.clear()

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
        return await self._run(rendered, Caller(agent, tenant, account, None, correlation), inputs, fresh=True)

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
        return await self._run(rendered, Caller(agent, tenant, account, idempotency_key, correlation), rendered.arguments)

    async def _run(self, rendered: Rendered, caller: Caller, inputs: Mapping[str, Any], *, fresh: bool = False) -> Outcome:
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

    async def _outcome(self, rendered: Rendered, caller: Caller, inputs: Mapping[str, Any], fresh: bool) -> Outcome:
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
        stop = await self._guards.unfit(profile, spec, rendered, caller, fresh)
        if stop is not None:
            return Outcome.stopped(rendered, "refused" if stop.final else "not_sent", stop.reason, stop.detail)
        if rendered.mode == "dry_run" or server is None:
            return replace(Outcome.stopped(rendered, "not_sent", "dry_run"), data={"would_send": rendered.to_json()})
        try:
            arguments = await self._uploaded(profile, spec, rendered, caller)
        except NotUp as error:
            return Outcome.stopped(rendered, "not_sent", "not_uploaded", str(error))
        stop = await self._guards.no_room(profile, spec, rendered, caller)
        if stop is not None:
            return Outcome.stopped(rendered, "not_sent", stop.reason, stop.detail)
        breaker = self._guards.breakers.of(profile.name, caller.account)
        meta = {"chimera/account": caller.account, "chimera/idempotency-key": caller.key}
        try:
            await failpoints.at("gate.guarded")
            answer = await self._connection(profile, server, rendered.mode, caller).call(
                rendered.tool,
                arguments,
                schema_sha256=rendered.tool_schema_sha256,
                meta={name: value for name, value in meta.items() if value is not None},
                # What came before is part of it: uploads, waiting for the switches, a machine that slept meanwhile.
                timeout_s=rendered.timeout_s - (self.clock() - began),
                # Asked again when nothing is left to do but to send: waiting for a place and connecting take their time.
                stops=partial(self._guards.closed, profile, rendered, caller),
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

    async def _uploaded(self, profile: Profile, spec: CapabilitySpec, rendered: Rendered, caller: Caller) -> dict[str, Any]:
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

    def _judged(
        self, profile: Profile, spec: CapabilitySpec, rendered: Rendered, caller: Caller, answer: Answer, inputs: Mapping[str, Any]
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

    def _connection(self, profile: Profile, server: ServerSpec, mode: str, caller: Caller) -> Connection:
        """The connection for a call; those of single accounts are bounded, the least recently used one goes."""
        own = self.credential(caller.agent, profile.spec.platform) if server.per_account else None
        key = (profile.name, mode, caller.account if server.per_account else None, own)
        connection = self.connections.get(key)
        if connection is None:
            connection = self.connections[key] = Connection(
                partial(target_of, profile.name, server, caller.account, self.addresses, self.home, own)
            )
            single = [other for other in self.connections if other[:2] == key[:2] and other[2] is not None]
            if len(single) > PER_ACCOUNT_CONNECTIONS:
                oldest = self.connections.pop(single[0])
                oldest.retire()
                self._retired = [one for one in (*self._retired, oldest) if not one.idle]
        self.connections.move_to_end(key)
        return connection

    def _since(self, began: float) -> int:
        return max(0, round((self.clock() - began) * 1000))

    def _record(self, rendered: Rendered, caller: Caller, outcome: Outcome) -> ToolCallRecord:
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
