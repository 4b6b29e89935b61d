"""What the gate asks of the log, and tells it: which switches are closed, where an account's own credential lies, and every call.

The rule not to break: a call is not sent where the switches were not seen up to their end, and what may have changed the world
is in the log before its outcome counts.
"""

from __future__ import annotations

from collections.abc import Callable

import orjson

from chimera.eventlog.bulk import Entry
from chimera.eventlog.partitioner import partition_for
from chimera.eventlog.switches import SwitchFollower, SwitchKeys, keys_of, scopes_of
from chimera.mcp.guards import CallPlace
from chimera.mcp.profiles import Profiles
from chimera.mcp.records import ToolCallRecord
from chimera.observe.metrics import Metrics
from chimera.processors.calllog import CallLog
from chimera.processors.swarm import Swarm

CALLS = "chimera.calls"


class Gatekeeping:
    """The answers of one process to its gate. `partitions`: how many the log has."""

    def __init__(
        self, swarm: Swarm, bootstrap: str, partitions: int, profiles: Callable[[], Profiles], calls: CallLog, metrics: Metrics
    ) -> None:
        self._swarm, self._count, self._profiles, self._calls, self._metrics = swarm, partitions, profiles, calls, metrics
        self.switches = SwitchFollower(bootstrap, self._switch_keys).start()

    async def stops(self, call: CallPlace) -> str | None:
        """Which kill switch stops this call, or that the switches were not seen up to their end within the last second."""
        scopes = scopes_of(agent=call.agent, tenant=call.tenant, platform=call.platform, account=call.account, tool=call.tool)
        return await self.switches.stops(scopes)

    def credential(self, agent: str, platform: str | None) -> str | None:
        """Where the agent's own credential for a platform lies, as its tenant told it."""
        fold = self._swarm.partitions.get(partition_for(agent, self._count))
        known = fold.agents.get(agent) if fold is not None else None
        return known.credentials.get(platform or "") if known is not None else None

    def _switch_keys(self) -> SwitchKeys | None:
        """Command keys by the newest law among the partitions held here; None while none is folded."""
        laws = [fold.law for fold in list(self._swarm.partitions.values())]
        return keys_of(max(laws, key=lambda law: law.edition)) if laws else None

    async def called(self, call: ToolCallRecord) -> None:
        """Every call leaves a record. A call log that cannot be written is an error of the process, not of the call."""
        self._metrics.called(call.profile, call.tool, call.result_class, call.latency_ms / 1000)
        if self._swarm.traces is not None:
            told = {"chimera.result": call.result_class, "chimera.reason": call.reason, "chimera.capability": call.capability}
            name = f"{call.profile}.{call.tool}"
            self._swarm.traces.called(call.agent, call.correlation or "", name, call.latency_ms / 1000, told)
        entry = Entry(CALLS, call.agent, orjson.dumps(call.to_json()), [("ce_type", b"ToolCalled")])
        # What may have changed the world is in the log before its outcome counts; a look at it is told a moment later.
        await self._calls.put(entry, wait=self._acts(call))

    def _acts(self, call: ToolCallRecord) -> bool:
        """May this call have changed the world? One that no profile knows any more may."""
        profile = self._profiles().by_name.get(call.profile)
        spec = None if profile is None else profile.spec.capabilities.get(call.capability)
        return spec is None or spec.effect_class != "none"
