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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path

import faust

from chimera.commands.keys import LOG, MEDIA_KEY, RoleKeys, load_installation
from chimera.commands.subjects import KEYS, SubjectKeyFiles
from chimera.errors import ChimeraError
from chimera.eventlog.append import Appender, AppendFailed
from chimera.eventlog.bulk import Entry
from chimera.eventlog.cluster import require_topics
from chimera.eventlog.ends import Ends
from chimera.eventlog.partitioner import place
from chimera.eventlog.topics import load_topics
from chimera.events.envelope import Wire
from chimera.events.metrics import TOPIC as OBSERVED
from chimera.events.metrics import EngagementObserved
from chimera.events.metrics import encode as encode_observation
from chimera.events.partition import PartitionFold
from chimera.events.raw import Position
from chimera.events.records import EffectProposal
from chimera.events.state import Ref
from chimera.mcp.gate import Gate
from chimera.mcp.opens import gate_effects, refuse_foreign
from chimera.mcp.profiles import PROFILES_DIR, load_profiles
from chimera.mcp.records import Outcome
from chimera.media import credentials
from chimera.memory.contract import Memory
from chimera.memory.episodes.contract import Threads
from chimera.observe import logs, trace
from chimera.observe.watch import Watch
from chimera.processors import clock, judge, observing, planner, threads
from chimera.processors.calllog import OUTAGE_S, CallLog
from chimera.processors.executor import Executor
from chimera.processors.faust_app import build_app
from chimera.processors.gatekeeping import Gatekeeping
from chimera.processors.holding import Holding
from chimera.processors.imaging import Media
from chimera.processors.jobs import Role
from chimera.processors.membership import WRITES_SNAPSHOTS, Seat, roles_of
from chimera.processors.noting import Noter, Scribe
from chimera.processors.observing import Observer
from chimera.processors.outside import AnySource
from chimera.processors.reading import Reading
from chimera.processors.recalling import Recalling
from chimera.processors.reporting import Reporting
from chimera.processors.swarm import Swarm
from chimera.processors.tools import JobTools
from chimera.processors.watchdog import Stuck, Watchdog
from chimera.processors.worker import Worker
from chimera.settings import Settings
from chimera.snapshots.keeper import Keeper
from chimera.snapshots.state import SnapshotStore
from chimera.stack import addresses as stack_addresses

log = logging.getLogger(__name__)

LINGER_MS = 2.0
"""Records of jobs side by side share a request to the broker: one each would cost it more than all the rest of them."""
GATHER_S = 0.04
"""While jobs say much, what they say in so many seconds goes to the broker together: a request carries one partition's records, and
a second one for the same partition costs it as much as the first."""
GC_THRESHOLD = (100_000, 20, 20)
"""Records and models are made by the thousand and die without the collector: it looks for cycles seldom."""
PINGS = "chimera.pings"
STOP_S = 10.0
"""What calls that were sent have to end when the process is told to stop; the supervisor kills after 15 s."""
TELL_S = 2.0
"""What records of calls, and then of observations, have to come into the log after that."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a process is given beside its role set and settings."""

    group: str | None = None
    """The consumer group that it joins; None: that of its role set."""
    instance: str | None = None
    """A seat in the consumer group that outlives the process."""
    gate: str | None = None
    """Which of several gates it is."""
    snapshots: SnapshotStore | None = None
    """None: it folds from offset 0."""
    owed: observing.Owed | None = None
    """Tells which posts are to be looked at again; None: this process looks at none."""
    memory: Memory | None = None
    """What agents recall from."""
    episodes: Threads | None = None
    """What knows the threads that they answer in."""


class Process:
    """One process of a role set: its parts, in the order in which they need each other, and the Faust app that feeds them."""

    def __init__(self, role_set: str, settings: Settings, given: Given = Given()) -> None:
        self.role_set, self.settings = role_set, settings
        self.effects = gate_effects(settings.gates, given.gate) if role_set == "gate" else None
        installation = load_installation(settings.home)
        self._root = installation.root_public
        self.seat = None if given.instance is None else Seat(settings.home, installation.installation, role_set, given.instance)
        self.bootstrap = stack_addresses.load_kafka(settings)
        topics = load_topics()
        require_topics(self.bootstrap, topics, settings.home)
        self.partitions = next(spec.partitions for spec in topics.topics if spec.name == LOG)
        self.name = f"{role_set}-{socket.gethostname()}-{os.getpid()}"
        self.appender = Appender(self.bootstrap, topics, self.name, linger_ms=LINGER_MS, gather_s=GATHER_S)
        self.telling = Appender(self.bootstrap, topics, f"{self.name}-told", linger_ms=LINGER_MS, delivery_timeout_s=OUTAGE_S)
        self.calls = CallLog(self.telling.append_many)
        self.seen = CallLog(self.telling.append_many)
        self.keys = RoleKeys(settings.home, roles_of(role_set))
        self.watch = Watch(role_set, settings.home, self._ends())

        self.swarm = Swarm(self._append, self._new_fold, name=self.name, signers=self.keys.held)
        self.swarm.traces = trace.from_environment(role_set)
        self.reading = Reading(self.bootstrap, f"{self.name}-store", self.swarm)

        profiles = load_profiles(settings.profiles or PROFILES_DIR, providers=settings.providers)
        refuse_foreign(os.environ, (each.spec for each in profiles.by_name.values()), self.effects)
        self.gatekeeping = Gatekeeping(
            self.swarm, self.bootstrap, self.partitions, lambda: self.gate.profiles, self.calls, self.watch.metrics
        )
        self.gate = Gate(
            profiles,
            stack_addresses.mcp_urls(settings),
            on_call=self.gatekeeping.called,
            home=settings.home,
            allow_local=False,
            allowlisted_sources=AnySource(),
            switch=self.gatekeeping.stops,
            credential=self.gatekeeping.credential,
            effects=self.effects,
            media=settings.media,
            media_url=settings.media_url,
        )
        recalling, asking = Recalling(given.memory), threads.Asking(given.episodes)
        self.tools = JobTools(
            self.swarm,
            self.reading,
            self.gate,
            self.gatekeeping.switches,
            recalling,
            asking,
            call_timeout_s=settings.call_timeout_s,
        )
        subjects = SubjectKeyFiles(settings.home / KEYS)
        media = Media(self.gate.files.store, settings.media_url, credentials.at(settings.home / "keys" / MEDIA_KEY))
        self.worker = Worker(profiles, subjects, media=media)
        self.observer = None if given.owed is None else Observer(profiles, given.owed, self._look_at, self._observed)

        remembers = "worker" in roles_of(role_set)
        scribe = Scribe(self.reading.read_held, subjects)
        self.noter = Noter(scribe, self.appender.append_many, self.reading.holds) if remembers else None
        settled, heed = (None, None) if self.noter is None else (self.noter.settled, self.noter.heed)
        writes = role_set == WRITES_SNAPSHOTS
        self.keeper = None if given.snapshots is None else Keeper(given.snapshots, self.swarm.live, writes=writes, settled=settled)
        self.holding = Holding(
            self.swarm,
            self.reading,
            self.bootstrap,
            self._new_fold,
            self._ping,
            self._begins_to_serve,
            name=self.name,
            keeper=self.keeper,
        )
        self.swarm.employ(self._roles(), self.tools, before=self.holding.before, heed=heed)

        self._background: list[asyncio.Task[None]] = []
        self.reporting = Reporting(self.swarm, self.keeper, self.watch, self.keys, settings.home, recalling, asking, self._fatal)
        self.watchdog = Watchdog(self.name, self.reporting.progress, self._ends(), self._give_up)
        self.app: faust.App = build_app(
            group=given.group or (f"chimera-{role_set}" if given.gate is None else f"chimera-{role_set}-{given.gate}"),
            bootstrap=self.bootstrap,
            topic=LOG,
            datadir=_faust_directory(settings.home, role_set),
            instance=None if self.seat is None else self.seat.member,
            take_over=self.take_over,
            revoked=self.holding.revoked,
            folded=self.holding.folded,
            begin=self._begin,
        )

    def _roles(self) -> list[Role]:
        lease_s, call_timeout_s = self.settings.claim_lease_s, self.settings.call_timeout_s
        every: dict[str, Callable[[], Role]] = {
            "planner": planner.role,
            "worker": self.worker.role,
            "judge": partial(judge.role, self._price, self._moves),
            "executor": Executor(self.tools, lease_s=lease_s, call_timeout_s=call_timeout_s, effects=self.effects).role,
        }
        return [every[name]() for name in roles_of(self.role_set)]

    def _price(self, effect: EffectProposal) -> Decimal | None:
        return self.gate.profiles.price(effect.profile, effect.capability, effect.mode, effect.arguments)

    def _moves(self, effect: EffectProposal) -> str | None:
        return self.gate.profiles.moves(effect.profile, effect.capability, effect.mode, effect.arguments)

    def _new_fold(self, partition: int) -> PartitionFold:
        return PartitionFold(partition, self.partitions, self._root, place)

    def _ends(self) -> Callable[[], Mapping[int, int]]:
        """Asks where the log ends now; for one thread."""
        return Ends(self.bootstrap, LOG, range(self.partitions)).now

    async def _append(self, wire: Wire) -> Position:
        began = time.monotonic()
        try:
            position = await self.appender.append(LOG, wire.key, wire.value, wire.headers)
        except AppendFailed:
            self.watch.metrics.append_failed()
            raise
        self.watch.metrics.appended(time.monotonic() - began)
        return position

    async def _ping(self) -> int:
        """The broker's time (ms), by the acknowledgement of a record that says nothing."""
        return (await self.appender.append(PINGS, self.name, b"", [])).append_ts

    # --- the life of the process -------------------------------------------------------------------------------------

    async def take_over(self, partitions: set[int]) -> Mapping[int, int]:
        """The new assignment: caught up, served and told. See `Holding.take_over`."""
        offsets = await self.holding.take_over(partitions)
        if not self.swarm.dark:
            self.reporting.write()
        return offsets

    def _begins_to_serve(self) -> None:
        self.worker.here_since = self.swarm.clock.now()

    async def _begin(self) -> None:
        self.watch.start()
        loop = asyncio.get_running_loop()
        self._loop = loop
        keeping = clock.keep(self.swarm.clock, self.swarm.waits, self._ping)
        self._background = [loop.create_task(each) for each in (self.swarm.tick(), self.reporting.run(), keeping)]
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

    def _give_up(self, stuck: Stuck) -> None:
        self._loop.call_soon_threadsafe(lambda: self._loop.create_task(self.app.crash(stuck)))

    def _fatal(self) -> str | None:
        """Why one of the producers can append no more."""
        return self.appender.fatal or self.telling.fatal

    async def close(self) -> None:
        """Let sent calls end, then let everything go."""
        self.watchdog.stop()
        await self.swarm.stop(STOP_S)
        for task in self._background:
            task.cancel()
        # One that ended by itself is why the process ends: `_ended` has said so, and everything else is let go all the same.
        await asyncio.gather(*self._background, return_exceptions=True)
        await self.gate.close()
        await self.calls.close(TELL_S)
        await self.seen.close(TELL_S)
        await asyncio.get_running_loop().run_in_executor(None, self.gatekeeping.switches.close)
        try:
            self.telling.close(1.0)
        except ChimeraError as error:  # a broker that is away keeps nothing else from being let go
            log.error("records of calls or observations are lost: %s", error)
        self.appender.close(10.0)
        self.reading.close()
        if self.keeper is not None:
            self.keeper.close(1.0)
        self.watch.close()
        if self.swarm.traces is not None:
            await asyncio.get_running_loop().run_in_executor(None, self.swarm.traces.close)
        if self.seat is not None:
            self.seat.leave()
        self.watchdog.closed()

    # --- what platforms say of posts ---------------------------------------------------------------------------------

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


def _faust_directory(home: Path, role_set: str) -> Path:
    """Faust wants a directory, though nothing of ours lies in it."""
    directory = home / "faust" / role_set
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def run(role_set: str, settings: Settings, given: Given = Given()) -> None:
    """Run a role set until SIGTERM or Ctrl-C. Exits non-zero on a hole in the log, an unknown law, topic drift, or when stuck."""
    roles_of(role_set)
    gc.set_threshold(*GC_THRESHOLD)
    logs.set_up(role_set, settings)
    process = Process(role_set, settings, given)

    class FaustWorker(faust.Worker):
        async def on_stop(self) -> None:
            await process.close()
            await super().on_stop()

    worker = FaustWorker(process.app, daemon=True, workdir=Path.cwd(), override_logging=False, quiet=True)
    worker.spinner = None  # it writes cursor controls even where there is no terminal
    worker.execute_from_commandline()
