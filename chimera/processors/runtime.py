"""A role set as a process: settings in, a running swarm out. The one place where its parts are wired together.

The rule not to break: publishing credentials and the effect path exist only in the `gate` role set; `brain` gets reading tools.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import faust
import orjson

from chimera import failpoints
from chimera.commands.keys import MEDIA_KEY, RoleKeys, key_path, load_installation
from chimera.commands.subjects import KEYS, SubjectKeyFiles
from chimera.errors import ChimeraError
from chimera.eventlog.append import Appender, AppendFailed
from chimera.eventlog.bulk import Entry
from chimera.eventlog.cluster import require_topics
from chimera.eventlog.ends import Ends
from chimera.eventlog.partitioner import partition_for, place
from chimera.eventlog.store import RecordStore
from chimera.eventlog.switches import SwitchFollower, SwitchKeys, keys_of, scopes_of
from chimera.eventlog.topics import load_topics
from chimera.events.envelope import Record, Wire, holds_nul
from chimera.events.fold import may_write
from chimera.events.metrics import TOPIC as OBSERVED
from chimera.events.metrics import EngagementObserved
from chimera.events.metrics import encode as encode_observation
from chimera.events.notes import Kind
from chimera.events.partition import PartitionFold
from chimera.events.raw import Position, RawRecord
from chimera.events.records import EffectProposal
from chimera.events.state import Ref, Ruling
from chimera.mcp.gate import CallPlace, Gate
from chimera.mcp.opens import gate_effects, refuse_foreign
from chimera.mcp.profiles import PROFILES_DIR, Rendered, load_profiles
from chimera.mcp.records import Outcome, ToolCallRecord
from chimera.mcp.spec import CapabilitySpec
from chimera.media import credentials
from chimera.media.facts import Facts
from chimera.media.store import Asset
from chimera.memory.contract import Memory, MemoryAway, Query, Remembered
from chimera.memory.episodes.contract import Threads, Told
from chimera.observe import logs, trace
from chimera.observe.watch import Watch
from chimera.processors import clock, judge, observing, planner, threads
from chimera.processors.calllog import CallLog
from chimera.processors.catchup import catch_up
from chimera.processors.executor import Executor, call_of, read_before_calls
from chimera.processors.faust_app import build_app
from chimera.processors.imaging import Media
from chimera.processors.jobs import Answer, Job, NotNow, Role
from chimera.processors.membership import WRITES_SNAPSHOTS, Seat, roles_of
from chimera.processors.noting import Noter, Scribe
from chimera.processors.observing import Observer
from chimera.processors.readings import Readings
from chimera.processors.swarm import Swarm
from chimera.processors.told import Teller
from chimera.processors.watchdog import Progress, Stuck, Watchdog
from chimera.processors.worker import Worker
from chimera.settings import Settings
from chimera.snapshots.keeper import Keeper
from chimera.snapshots.state import SnapshotStore
from chimera.stack import addresses as stack_addresses

log = logging.getLogger(__name__)

LOG = "chimera.log"
CALLS = "chimera.calls"
LINGER_MS = 2.0
"""Records of jobs side by side share a request to the broker: one each would cost it more than all the rest of them."""
GATHER_S = 0.04
"""While jobs say much, what they say in so many seconds goes to the broker together: a request carries one partition's records, and
a second one for the same partition costs it as much as the first."""
READ_BYTES = 32 * 1024 * 1024
RAW_BYTES = 16 * 1024 * 1024
"""What a process keeps of records at hand: decoded for jobs, and as Kafka sent them what its executor reads back before a call."""
GC_THRESHOLD = (100_000, 20, 20)
"""Records and models are made by the thousand and die without the collector: it looks for cycles seldom."""
PINGS = "chimera.pings"
RECALL_S = 5.0
"""How long a job waits for what its agent remembers."""
T = TypeVar("T")
STOP_S = 10.0
"""What calls that were sent have to end when the process is told to stop; the supervisor kills after 15 s."""


class Process:
    """One process of a role set: appender, store, gate, swarm and the Faust app that feeds it."""

    def __init__(
        self,
        role_set: str,
        settings: Settings,
        *,
        group: str | None = None,
        instance: str | None = None,
        snapshots: SnapshotStore | None = None,
        owed: observing.Owed | None = None,
        gate: str | None = None,
        memory: Memory | None = None,
        episodes: Threads | None = None,
    ) -> None:
        self.role_set, self.settings = role_set, settings
        self.memory = memory
        self.threads = threads.Asking(episodes)
        self.forgetful = ""
        """What keeps agents from recalling; "" while nothing does."""
        self.effects = gate_effects(settings.gates, gate) if role_set == "gate" else None
        installation = load_installation(settings.home)
        self.seat = None if instance is None else Seat(settings.home, installation.installation, role_set, instance)
        places = stack_addresses.load_kafka(settings)
        self.bootstrap = places
        topics = load_topics()
        require_topics(self.bootstrap, topics, settings.home)
        self.partitions = next(spec.partitions for spec in topics.topics if spec.name == LOG)
        self.name = f"{role_set}-{socket.gethostname()}-{os.getpid()}"
        self.appender = Appender(self.bootstrap, topics, self.name, linger_ms=LINGER_MS, gather_s=GATHER_S)
        self.calls = CallLog(self.appender.append_many)
        self.seen = CallLog(self.appender.append_many)
        self.store = RecordStore(self.bootstrap, client_id=f"{self.name}-store", cache_bytes=RAW_BYTES)
        self.readings = Readings(READ_BYTES)
        self.root = installation.root_public
        self.gate = Gate(
            load_profiles(settings.profiles or PROFILES_DIR, providers=settings.providers),
            stack_addresses.mcp_urls(settings),
            on_call=self._tool_called,
            home=settings.home,
            allow_local=False,
            allowlisted_sources=_AnySource(),
            switch=self._stops,
            credential=self._credential,
            effects=self.effects,
            media=settings.media,
            media_url=settings.media_url,
        )
        refuse_foreign(os.environ, (each.spec for each in self.gate.profiles.by_name.values()), self.effects)
        media = Media(self.gate.files.store, settings.media_url, credentials.at(settings.home / "keys" / MEDIA_KEY))
        subjects = SubjectKeyFiles(settings.home / KEYS)
        self.worker = Worker(self.gate.profiles, subjects, media=media)
        remembers = "worker" in roles_of(role_set)
        self.noter = Noter(Scribe(self._read_held, subjects), self.appender.append_many, self._serves) if remembers else None
        self.observer = None if owed is None else Observer(self.gate.profiles, owed, self._look_at, self._observed)
        self.keys = RoleKeys(settings.home, roles_of(role_set))
        self.swarm = Swarm(
            self._roles(),
            self._append,
            self._new_fold,
            name=self.name,
            before=self._before,
            signers=self.keys.held,
            heed=None if self.noter is None else self.noter.heed,
        )
        self.swarm.tools = self
        self.swarm.traces = trace.from_environment(role_set)
        settled = None if self.noter is None else self.noter.settled
        writes = role_set == WRITES_SNAPSHOTS
        self.keeper = None if snapshots is None else Keeper(snapshots, self.swarm.live, writes=writes, settled=settled)
        self.switches = SwitchFollower(self.bootstrap, self._switch_keys).start()
        self.watch = Watch(role_set, settings.home, Ends(self.bootstrap, LOG, range(self.partitions)).now)
        self.teller = Teller(self.swarm, self.keeper)
        self.beat = 0
        self._rebalances = 0
        self._catching_up: asyncio.Future[None] | None = None
        self.watchdog = Watchdog(self.name, self._progress, Ends(self.bootstrap, LOG, range(self.partitions)).now, self._give_up)
        self.app: faust.App = build_app(
            group=group or (f"chimera-{role_set}" if gate is None else f"chimera-{role_set}-{gate}"),
            bootstrap=self.bootstrap,
            topic=LOG,
            datadir=_faust_directory(settings.home, role_set),
            instance=None if self.seat is None else self.seat.member,
            take_over=self._take_over,
            revoked=self._revoked,
            folded=self._folded,
            begin=self._begin,
        )

    def _roles(self) -> list[Role]:
        lease_s, call_timeout_s = self.settings.claim_lease_s, self.settings.call_timeout_s
        every: dict[str, Callable[[], Role]] = {
            "planner": planner.role,
            "worker": self.worker.role,
            "judge": partial(judge.role, self._price, self._moves),
            "executor": Executor(self, lease_s=lease_s, call_timeout_s=call_timeout_s, effects=self.effects).role,
        }
        return [every[name]() for name in roles_of(self.role_set)]

    def _price(self, effect: EffectProposal) -> Decimal | None:
        return self.gate.profiles.price(effect.profile, effect.capability, effect.mode, effect.arguments)

    def _moves(self, effect: EffectProposal) -> str | None:
        return self.gate.profiles.moves(effect.profile, effect.capability, effect.mode, effect.arguments)

    def _new_fold(self, partition: int) -> PartitionFold:
        return PartitionFold(partition, self.partitions, self.root, place)

    # --- the log -----------------------------------------------------------------------------------------------------

    async def _append(self, wire: Wire) -> Position:
        began = time.monotonic()
        try:
            position = await self.appender.append(LOG, wire.key, wire.value, wire.headers)
        except AppendFailed:
            self.watch.metrics.append_failed()
            raise
        self.watch.metrics.appended(time.monotonic() - began)
        return position

    async def _take_over(self, partitions: set[int]) -> Mapping[int, int]:
        """The new assignment is known: drop what was lost, catch up what is held, then let its agents be served.

        A rebalance may begin before the last one was caught up: then the older assignment serves nothing and returns no offsets.
        Its thread is waited for all the same, since two must never fold one partition.
        """
        began, before = time.monotonic(), self.swarm.counters.folded
        self._revoked()
        mine = self._rebalances
        while self._catching_up is not None and not self._catching_up.done():
            await asyncio.wait([self._catching_up])
        if mine != self._rebalances:
            return {}
        self.swarm.keep_only(partitions)
        if self.keeper is not None:
            self.keeper.keep_only(partitions)
        self._catching_up = asyncio.get_running_loop().run_in_executor(
            None, catch_up, self.swarm, partitions, self.bootstrap, LOG, self._new_fold, self.keeper
        )
        await asyncio.shield(self._catching_up)
        await failpoints.at("catchup.folded")
        if mine == self._rebalances:
            await clock.ask(self.swarm.clock, self._ping)  # what was caught up is old: without it, timers are late by its age
        if mine != self._rebalances:
            return {}
        self.worker.here_since = self.swarm.clock.now()
        self.swarm.light(partitions)
        self._write_status()
        folded = self.swarm.counters.folded - before
        seconds = time.monotonic() - began
        log.info("%s serves %d partitions, caught up in %.2f s by %d records", self.name, len(partitions), seconds, folded)
        return {p: self.swarm.fold_for(p).next_offset for p in partitions}

    async def _ping(self) -> int:
        """The broker's time (ms), by the acknowledgement of a record that says nothing."""
        return (await self.appender.append(PINGS, self.name, b"", [])).append_ts

    def _revoked(self) -> None:
        """A rebalance begins: nothing new starts, and what is being cut for a snapshot is given up."""
        self._rebalances += 1
        self.swarm.darken()
        if self.keeper is not None:
            self.keeper.pause()

    def _before(self, record: Record, raw: RawRecord) -> None:
        """About to be folded: what its agent was goes into the snapshot, and the record is what jobs read next."""
        if self.keeper is not None:
            self.keeper.before(record.partition, record.key, record.append_ts)
        if not self.swarm.dark:  # catching up runs in a thread, and reads more than any job will ask for
            self.readings.put(record)
            if "executor" in self.swarm.roles and read_before_calls(record):
                self.store.cache.put(raw)

    def _serves(self, partition: int) -> bool:
        return partition in self.swarm.partitions

    async def _read_held(self, ref: Ref) -> Record:
        """A record of a partition that is held here. Raises LookupError where it moved away meanwhile."""
        record = self.readings.get(ref)
        if record is None:
            raw = await self.store.aread_at(LOG, ref.partition, ref.offset)
            record = self.swarm.partitions[ref.partition].read(raw)
        return record

    def _folded(self, raws: list[RawRecord]) -> None:
        touched = self.swarm.fold_batch(raws)
        failpoints.here("swarm.folded")
        self.swarm.ask_all(touched)

    async def _begin(self) -> None:
        self.watch.start()
        loop = asyncio.get_running_loop()
        self._loop = loop
        keeping = clock.keep(self.swarm.clock, self.swarm.waits, self._ping)
        self._background = [loop.create_task(each) for each in (self.swarm.tick(), self._report(), keeping)]
        if self.keeper is not None:
            self._background.append(loop.create_task(self.keeper.run()))
        if self.observer is not None:
            self._background.append(loop.create_task(self.observer.run(lambda: () if self.swarm.dark else self.swarm.live)))
        if self.noter is not None:
            self._background.append(loop.create_task(self.noter.run()))
        self.watchdog.start()
        for task in self._background:
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A clock that stopped, or a producer that can never append again, ends the process: its supervisor starts it anew."""
        if not task.cancelled() and (error := task.exception()) is not None:
            task.get_loop().create_task(self.app.crash(error))

    def _progress(self) -> Progress:
        """For the watchdog, which asks from its own thread."""
        positions = {p: fold.next_offset for p, fold in list(self.swarm.partitions.items())}
        return Progress(positions, frozenset(self.swarm.live), self.swarm.dark, self.beat)

    def _give_up(self, stuck: Stuck) -> None:
        self._loop.call_soon_threadsafe(lambda: self._loop.create_task(self.app.crash(stuck)))

    async def _report(self) -> None:
        """Tell how it goes, once a second, in a file: progress bars and quiescence read it."""
        while True:
            self.keys.refresh()
            self._write_status()
            self.beat += 1
            if self.appender.fatal is not None:
                raise ChimeraError(f"the producer can append no more: {self.appender.fatal}")
            await asyncio.sleep(0.5)

    def _write_status(self) -> None:
        c = self.swarm.counters
        fatal = self.appender.fatal
        troubles = (*self._unsigned(), *((fatal,) if fatal is not None else ()))
        status = self.watch.tell(self.teller.look(troubles)) | {
            "partitions": sorted(self.swarm.live),
            "signs": {role: key.id for role, key in self.keys.held.items()},
            "offsets": {str(p): fold.next_offset for p, fold in self.swarm.partitions.items()},
            "idle": self.swarm.idle(),
            "next_wake_ms": self.swarm.next_wake_ms(),
            "running": self.swarm.running(),
            "folded": c.folded,
            "applied": c.applied,
            "rejected": c.rejected,
            "void": c.void,
            "jobs": c.jobs,
            "job_errors": c.job_errors,
            "snapshots": None if self.keeper is None else self.keeper.status(),
            "memory": self.forgetful,
            "threads": self.threads.trouble,
        }
        self.watch.write_status(status)

    def _unsigned(self) -> list[str]:
        """The roles that work in vain here: the law asks for a signature that this home has no key for."""
        laws = [self.swarm.fold_for(p).law for p in self.swarm.live]
        roles = sorted({role for law in laws for role in self.keys.missing(law)})
        return [
            f"the law asks for the {role}'s signature, and {key_path(self.settings.home, role)} holds no key that it lists: "
            f"bring the key here, or run `chimera keys soften {role}`"
            for role in roles
        ]

    # --- tools of jobs -----------------------------------------------------------------------------------------------

    async def say(self, job: Job, answer: Answer) -> Ruling:
        return await self.swarm.say(job, answer)

    async def read(self, ref: Ref) -> Record:
        record = self.readings.get(ref)
        if record is None:
            record = await self.read_back(ref)
            self.readings.put(record)
        await failpoints.at("record.read")
        return record

    async def read_back(self, ref: Ref) -> Record:
        """The record made from the bytes that Kafka holds, decoded and verified anew."""
        raw = await self.store.aread_at(LOG, ref.partition, ref.offset)
        return self.swarm.fold_for(ref.partition).read(raw)

    async def remembered(self, job: Job) -> frozenset[Kind]:
        return await self._from_memory(lambda memory: memory.kinds(job.tenant, job.agent), frozenset())

    async def recall(self, job: Job, query: Query) -> list[Remembered]:
        return await self._from_memory(lambda memory: memory.recall(job.tenant, query), [])

    async def earlier(self, job: Job, thread: str) -> list[Told]:
        return await self.threads.earlier(job, thread)

    async def _from_memory(self, ask: Callable[[Memory], T], nothing: T) -> T:
        """What memory says; `nothing` where there is none or it is away: nobody waits long for it, and its absence is told."""
        if self.memory is None:
            return nothing
        try:
            async with asyncio.timeout(RECALL_S):
                found = await asyncio.to_thread(ask, self.memory)
        except (MemoryAway, TimeoutError) as away:
            said = str(away) or f"no answer in {RECALL_S:g} s"
            if said != self.forgetful:
                log.warning("agents recall nothing: %s", said)
            self.forgetful = said
            return nothing
        self.forgetful = ""
        return found

    def broker_now(self) -> int:
        return self.swarm.clock.now()

    async def tool(
        self, job: Job, capability: str, inputs: dict[str, Any], account: str | None = None, platform: str | None = None
    ) -> Outcome:
        outcome = await self.gate.call(
            capability,
            inputs,
            agent=job.agent,
            tenant=job.tenant,
            account=account,
            platform=platform,
            correlation=job.correlation or None,
        )
        if outcome.result == "not_sent" and outcome.reason.startswith("switch"):
            raise NotNow(f"{capability} is stopped ({outcome.reason})")
        return replace(outcome, data=_without_nul(outcome.data)) if _holds_nul(outcome.data) else outcome

    async def send(self, job: Job, call: Rendered, account: str, idempotency_key: str) -> Outcome:
        return await self.gate.send(
            call,
            agent=job.agent,
            tenant=job.tenant,
            account=account,
            idempotency_key=idempotency_key,
            correlation=job.correlation or None,
        )

    async def ask(self, job: Job, effect: EffectProposal, capability: str, inputs: dict[str, Any]) -> Outcome:
        profile = self.gate.profiles.by_name.get(effect.profile)  # asked where it was ordered, which may be a studio
        return await self.gate.call(
            capability,
            inputs,
            agent=job.agent,
            tenant=job.tenant,
            account=effect.account,
            platform=profile.spec.platform if profile is not None else effect.platform,
            mode=effect.mode,
            correlation=job.correlation or None,
        )

    def capability(self, effect: EffectProposal) -> CapabilitySpec | None:
        profile = self.gate.profiles.by_name.get(effect.profile)
        return None if profile is None else profile.spec.capabilities.get(effect.capability)

    def url_of(self, effect: EffectProposal, platform_id: str) -> str | None:
        return self.gate.url_of(call_of(effect, self.settings.call_timeout_s), effect.account, platform_id)

    async def receive(self, effect_hash: str, assets: Sequence[Asset]) -> list[Asset]:
        return await self.gate.files.store.receive(effect_hash, list(assets))

    async def facts(self, asset: Asset) -> Facts | None:
        return await self.gate.files.facts(asset)

    def switch_holds(self, reason: str) -> bool:
        return self.switches.holds(reason)

    async def _stops(self, call: CallPlace) -> str | None:
        """Which kill switch stops this call, or that the switches were not seen up to their end within the last second."""
        scopes = scopes_of(agent=call.agent, tenant=call.tenant, platform=call.platform, account=call.account, tool=call.tool)
        return await self.switches.stops(scopes)

    def _credential(self, agent: str, platform: str | None) -> str | None:
        """Where the agent's own credential for a platform lies, as its tenant told it."""
        fold = self.swarm.partitions.get(partition_for(agent, self.partitions))
        known = fold.agents.get(agent) if fold is not None else None
        return known.credentials.get(platform or "") if known is not None else None

    def _switch_keys(self) -> SwitchKeys | None:
        """Command keys by the newest law among the partitions held here; None while none is folded."""
        laws = [fold.law for fold in list(self.swarm.partitions.values())]
        return keys_of(max(laws, key=lambda law: law.edition)) if laws else None

    def shield(self, job: Job) -> None:
        self.swarm.shield(job)

    def signed_by_role(self, record: Record) -> bool:
        law = self.swarm.fold_for(record.partition).law
        return record.data is not None and may_write(law, record.data, record)

    async def _look_at(self, post: observing.Post) -> Outcome:
        """What the platform says of a post of ours."""
        return await self.gate.call(
            observing.METRICS,
            {"id": post.platform_id},
            agent=post.agent,
            tenant=post.tenant,
            account=post.account,
            platform=post.platform,
            mode=post.mode,
        )

    async def _observed(self, seen: EngagementObserved, post: observing.Post) -> None:
        """Not waited for: one that is lost is owed again."""
        await self.seen.put(Entry(OBSERVED, seen.agent, encode_observation(seen), []), wait=False)
        if self.noter is not None and post.made is not None and post.made[0] in self.swarm.partitions:
            agent = self.swarm.fold_for(post.made[0]).agents.get(post.agent)
            edition = 0 if agent is None or agent.policy is None else agent.policy.edition
            await self.noter.observed(
                post.tenant, post.agent, Ref(*post.made), post.platform_id, seen.values, seen.observed_at_ms, edition
            )

    async def _tool_called(self, call: ToolCallRecord) -> None:
        """Every call leaves a record. A call log that cannot be written is an error of the process, not of the call."""
        self.watch.metrics.called(call.profile, call.tool, call.result_class, call.latency_ms / 1000)
        if self.swarm.traces is not None:
            told = {"chimera.result": call.result_class, "chimera.reason": call.reason, "chimera.capability": call.capability}
            name = f"{call.profile}.{call.tool}"
            self.swarm.traces.called(call.agent, call.correlation or "", name, call.latency_ms / 1000, told)
        entry = Entry(CALLS, call.agent, orjson.dumps(call.to_json()), [("ce_type", b"ToolCalled")])
        # What may have changed the world is in the log before its outcome counts; a look at it is told a moment later.
        await self.calls.put(entry, wait=self._acts(call))

    def _acts(self, call: ToolCallRecord) -> bool:
        """May this call have changed the world? One that no profile knows any more may."""
        profile = self.gate.profiles.by_name.get(call.profile)
        spec = None if profile is None else profile.spec.capabilities.get(call.capability)
        return spec is None or spec.effect_class != "none"

    async def close(self) -> None:
        """Let sent calls end, then let everything go."""
        self.watchdog.stop()
        await self.swarm.stop(STOP_S)
        for task in getattr(self, "_background", []):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await self.gate.close()
        await self.calls.close()
        await self.seen.close()
        await asyncio.get_running_loop().run_in_executor(None, self.switches.close)
        self.appender.close(10.0)
        self.store.close()
        if self.keeper is not None:
            self.keeper.close(1.0)
        self.watch.close()
        if self.swarm.traces is not None:
            await asyncio.get_running_loop().run_in_executor(None, self.swarm.traces.close)
        if self.seat is not None:
            self.seat.leave()
        self.watchdog.closed()


class _AnySource(tuple[str, ...]):
    """Feeds are named by people in signed briefs: every source the worker may read at all is an allow-listed one."""

    __slots__ = ()

    def __contains__(self, item: object) -> bool:
        return True


def _holds_nul(value: Any) -> bool:
    """Does a JSON value hold U+0000? A text that spells the escape out is looked at more closely."""
    try:
        return b"\\u0000" in orjson.dumps(value) and holds_nul(value)
    except TypeError:  # a number that orjson does not write
        return holds_nul(value)


def _without_nul(value: Any) -> Any:
    """The value with U+0000 taken out of its texts: a record that holds one is unreadable."""
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(content) for key, content in value.items()}
    return [_without_nul(item) for item in value] if isinstance(value, list) else value


def _faust_directory(home: Path, role_set: str) -> Path:
    """Faust wants a directory, though nothing of ours lies in it."""
    directory = home / "faust" / role_set
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def run(
    role_set: str,
    settings: Settings,
    *,
    group: str | None = None,
    instance: str | None = None,
    snapshots: SnapshotStore | None = None,
    owed: observing.Owed | None = None,
    gate: str | None = None,
    memory: Memory | None = None,
    episodes: Threads | None = None,
) -> None:
    """Run a role set until SIGTERM or Ctrl-C. Exits non-zero on a hole in the log, an unknown law, topic drift, or when stuck.

    `instance` names a seat in the consumer group that outlives the process; `snapshots` None: it folds from offset 0; `gate`: which
    of several gates it is; `owed`: tells which posts are to be looked at again (None: this process looks at none); `memory`: what
    agents recall from; `episodes`: what knows the threads that they answer in.
    """
    roles_of(role_set)
    gc.set_threshold(*GC_THRESHOLD)
    logs.set_up(role_set, settings)
    process = Process(
        role_set,
        settings,
        group=group,
        instance=instance,
        snapshots=snapshots,
        owed=owed,
        gate=gate,
        memory=memory,
        episodes=episodes,
    )

    class FaustWorker(faust.Worker):
        async def on_stop(self) -> None:
            await process.close()
            await super().on_stop()

    worker = FaustWorker(process.app, daemon=True, workdir=Path.cwd(), override_logging=False, quiet=True)
    worker.spinner = None  # it writes cursor controls even where there is no terminal
    worker.execute_from_commandline()
