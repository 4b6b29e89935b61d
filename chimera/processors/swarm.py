"""The swarm's core, without Faust: partitions folded in memory, debts asked for (`Debts`), jobs run in slots, records awaited.

The rule not to break: a job stays in flight until its record is folded, and no job of a partition starts before that partition
has been caught up. Everything runs on one event loop; only catching up reads and folds in a thread, while its partition is dark.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable
from datetime import UTC, datetime

from chimera import failpoints
from chimera.eventlog.append import AppendFailed
from chimera.events.envelope import NewRecord, Record, SigningKey, Wire, encode
from chimera.events.partition import PartitionFold
from chimera.events.raw import Position, RawRecord
from chimera.events.state import Agent, Ruling
from chimera.observe.trace import Traces
from chimera.processors.awaited import Awaited, loop_here, past
from chimera.processors.clock import BrokerClock
from chimera.processors.counters import Counters
from chimera.processors.debts import Debts
from chimera.processors.jobs import Answer, Job, JobKey, NotNow, Role

log = logging.getLogger(__name__)

RULING_TIMEOUT_S = 45.0
JOB_DEADLINE_S = 600.0
"""A job that has not ended by then is given up and owed again: what hangs may not keep its slot. A call that was sent is exempt."""
IN_FLIGHT = 4
"""Jobs in flight per slot at most. Three quarters of a job's time is the broker's and the fold's, when nothing is worked on; the
more records are on their way together, the fewer requests each of them costs."""
APPEND_AGAIN_S = (0.5, 1.0, 2.0, 4.0)
"""How long an append that failed waits before each further try; then the job has failed."""


Heed = Callable[[Record, Agent | None], Callable[[Ruling], None] | None]
"""(record, its agent before it) -> whoever wants to hear the ruling, or None."""


class HoleInLog(Exception):
    """A record arrived that does not follow the last one: the reader must stop."""


class Swarm:
    """Roles over the partitions of one process.

    Args:
        append: puts a record on `chimera.log`; raises when that fails.
        new_fold: makes the empty fold of a partition.
        signers: keys of roles that sign (hardened installs).
        slots: jobs worked on at once in the process. A job whose record is on its way, its answer or one before it, has given its
            slot back, though it stays in flight until the record is folded: at most `IN_FLIGHT` times `slots` are.
        per_agent: jobs in flight of one agent.
    """

    def __init__(
        self,
        append: Callable[[Wire], Awaitable[Position]],
        new_fold: Callable[[int], PartitionFold],
        *,
        name: str,
        signers: dict[str, SigningKey] | None = None,
        slots: int = 64,
        per_agent: int = 8,
    ) -> None:
        self.roles: dict[str, Role] = {}
        self.clock = BrokerClock()
        self.counters = Counters()
        self.partitions: dict[int, PartitionFold] = {}
        self.live: set[int] = set()
        self.dark = True
        """A rebalance goes on: who holds what is not known, or not yet caught up."""
        self._append = append
        self._new_fold = new_fold
        self._name = name
        self._signers = {} if signers is None else signers  # live: keys come and go
        self._slots, self._per_agent = slots, per_agent
        self._before: Callable[[Record, RawRecord], None] | None = None
        self._heed: Heed | None = None
        self._tools: object = None
        self._home: dict[str, int] = {}
        self._debts = Debts()
        self._running: dict[JobKey, asyncio.Task[bool]] = {}
        self._busy: dict[str, int] = {}
        self._saying: set[JobKey] = set()
        """Jobs in flight whose record is on its way: they hold no slot."""
        self._shielded: set[JobKey] = set()
        self._deadlines: dict[JobKey, float] = {}
        """When (steady clock) jobs in flight are given up, the oldest first."""
        self._late: set[JobKey] = set()
        self._awaited = Awaited(RULING_TIMEOUT_S)
        self.traces: Traces | None = None
        """Set at wiring where traces are wanted."""

    def employ(
        self,
        roles: Iterable[Role],
        tools: object,
        *,
        before: Callable[[Record, RawRecord], None] | None = None,
        heed: Heed | None = None,
    ) -> None:
        """Who works here and with what: once, before the first record.

        Args:
            roles: what this process answers for; of an agent's debts those of the first are paid first.
            tools: what `do` gets (`chimera.processors.jobs.Tools`).
            before: told each record, and the bytes it was read from, just before it is folded (snapshots, and what jobs read next).
            heed: looks at each record and its agent just before that and may want to hear the ruling (what is to be remembered).
                Both are told also what is caught up.
        """
        self.roles = {role.name: role for role in roles}
        self._tools, self._before, self._heed = tools, before, heed

    # --- folding -----------------------------------------------------------------------------------------------------

    def fold_for(self, partition: int) -> PartitionFold:
        """The partition's fold; a new one starts at offset 0."""
        if partition not in self.partitions:
            self.partitions[partition] = self._new_fold(partition)
        return self.partitions[partition]

    def fold_batch(self, raws: Iterable[RawRecord], again: Collection[int] = ()) -> Collection[str]:
        """Fold records of partitions, in order, skipping what was folded before. Returns the stream keys touched, in that order.

        `again`: partitions of which only a lost state is made anew; their rulings were counted when they were made.

        Raises:
            HoleInLog: a record does not follow the last one of its partition.
        """
        touched: dict[str, None] = {}
        here = loop_here()
        for raw in raws:
            fold = self.fold_for(raw.partition)
            if raw.offset < fold.next_offset:
                continue
            if raw.offset > fold.next_offset:
                raise HoleInLog(f"chimera.log[{raw.partition}]: expected offset {fold.next_offset}, got {raw.offset}")
            record = fold.read(raw)
            if self._before is not None:
                self._before(record, raw)
            hear = None if self._heed is None else self._heed(record, fold.agents.get(record.key))
            record, ruling = fold.rule(record)
            if hear is not None:
                hear(ruling)
            self.clock.saw(raw.append_ts)
            self.counters.count(record, ruling, again=raw.partition in again)
            self._home[record.key] = raw.partition
            touched[record.key] = None
            self._awaited.ruled(record.id, ruling, here)
        return touched

    # --- partitions come and go --------------------------------------------------------------------------------------

    def darken(self) -> None:
        """A rebalance begins: nothing new starts until the new assignment is known; what runs goes on."""
        self.dark = True
        self.live.clear()

    def keep_only(self, partitions: set[int]) -> None:
        """The new assignment is known: jobs of lost partitions are cancelled, except calls already sent."""
        for partition in [p for p in self.partitions if p not in partitions]:
            del self.partitions[partition]
            gone = {key for key, home in self._home.items() if home == partition}
            for key in gone:
                del self._home[key]
                self._debts.drop(key)
            for job_key, task in list(self._running.items()):
                if job_key[2] in gone and job_key not in self._shielded:
                    task.cancel()

    def light(self, partitions: Iterable[int]) -> None:
        """These partitions are caught up: their agents may be served."""
        self.dark = False
        for partition in partitions:
            self.live.add(partition)
            self._home.update(dict.fromkeys(self.fold_for(partition).agents, partition))
            self.ask_all(self.fold_for(partition).agents)

    def shield(self, job: Job) -> None:
        """A call is about to be sent: it ends and its record is appended whoever owns the partition then."""
        self._shielded.add(job.key)
        self._deadlines.pop(job.key, None)

    # --- debts -------------------------------------------------------------------------------------------------------

    def ask(self, key: str) -> None:
        """Ask every role what it owes this agent now, and start what fits."""
        self.ask_all((key,))

    def ask_all(self, keys: Iterable[str]) -> None:
        """Ask for several agents before anything starts: the first of them may not take all slots."""
        for key in keys:
            self._owes(key)
        self._dispatch()

    def _owes(self, key: str) -> None:
        partition = self._home.get(key)
        if partition is None or partition not in self.live:
            return
        agent = self.partitions[partition].agents.get(key)
        if agent is None:
            return
        self._debts.ask(agent, partition, self.roles.values(), self.clock.now())

    def _dispatch(self) -> None:
        """Give free slots to agents in turn (`Rota`), one job each, bounded per agent."""
        while self._debts.in_turn and self._has_slot():
            key = self._debts.next_agent()
            job = self._next_of(key)
            if job is not None:
                self._start(job)
                # Without a job it comes again when one of its jobs is over or a record touches it.
                self._debts.take_turn(key, self._home[key])

    def _has_slot(self) -> bool:
        """May another job begin?"""
        in_flight = len(self._running)
        return in_flight - len(self._saying) < self._slots and in_flight < IN_FLIGHT * self._slots

    def _next_of(self, key: str) -> Job | None:
        """The agent's next debt that may be worked on now."""
        if self._home.get(key) not in self.live or self._busy.get(key, 0) >= self._per_agent:
            return None
        return self._debts.first_of(key, self._running)

    def _start(self, job: Job) -> None:
        self.counters.jobs += 1
        self._busy[job.agent] = self._busy.get(job.agent, 0) + 1
        task = asyncio.get_running_loop().create_task(self._run(job), name=f"{job.role}.{job.what}")
        self._running[job.key] = task
        self._deadlines[job.key] = time.monotonic() + JOB_DEADLINE_S
        task.add_done_callback(lambda done: self._over(job, done))

    async def _run(self, job: Job) -> bool:
        """Whether a record was the end of it; then what the agent owes was asked when that record was folded."""
        await failpoints.at("job.started")
        answer = await self.roles[job.role].do(job, self._tools)
        if answer is None:
            return False
        await failpoints.at("job.answered")
        await self.say(job, answer)
        return True

    def _over(self, job: Job, task: asyncio.Task[bool]) -> None:
        self._running.pop(job.key, None)
        self._deadlines.pop(job.key, None)
        late = job.key in self._late
        self._late.discard(job.key)
        self._saying.discard(job.key)
        self._shielded.discard(job.key)
        left = self._busy.get(job.agent, 1) - 1
        if left:
            self._busy[job.agent] = left
        else:
            self._busy.pop(job.agent, None)
        error = task.exception() if not task.cancelled() else TimeoutError("its time is over") if late else None
        if isinstance(error, NotNow):
            self._debts.hold(job)
            log.info("%s %s of %s waits: %s", job.role, job.what, job.agent, error)
        elif error is not None:
            self.counters.job_errors += 1
            self._debts.hold(job)
            log.error("%s %s of %s failed, tried again later: %s", job.role, job.what, job.agent, error, exc_info=error)
        if task.cancelled() or error is not None or not task.result() or self._debts.holds(job):
            self.ask(job.agent)
            return
        if (partition := self._home.get(job.agent)) is not None:  # else it is served elsewhere
            self._debts.take_turn(job.agent, partition)
        self._dispatch()

    # --- records -----------------------------------------------------------------------------------------------------

    async def say(self, job: Job, answer: Answer) -> Ruling:
        """Append one record of the agent's stream and wait until it is folded here.

        Raises:
            AppendFailed: the broker did not take it, tried so often.
            TimeoutError: it was appended but not folded in time (the partition moved away, or this reader is stuck).
        """
        new = NewRecord(
            key=job.agent,
            data=answer.data,
            tenant=job.tenant,
            actor=f"{job.role}@{self._name}",
            time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            id=str(uuid.uuid4()),
            causation=answer.causation,
            correlation=job.correlation,
        )
        if self.traces is not None:
            new = new._replace(traceparent=self.traces.parent(new.key, new.correlation, new.id))
        began = time.monotonic()
        waiter = self._awaited.expect(new.id)
        self._saying.add(job.key)
        self._dispatch()
        try:
            wire = encode(new, self._signers.get(answer.data.ROLE))
            await failpoints.at("record.encoded")
            position = await self._appended(wire)
            await failpoints.at("record.appended")
            self.clock.acknowledged(position.append_ts)
            self._awaited.appended(new.id, time.monotonic())
            ruling = await waiter
            await failpoints.at("record.ruled")
        finally:
            self._awaited.forget(new.id)
            self._saying.discard(job.key)
        if self.traces is not None:
            self.traces.said(new, ruling, time.monotonic() - began)
        if ruling.outcome == "void":
            log.info("%s of %s is void: %s", answer.data.TYPE, job.agent, ruling.reason)
            self._debts.hold(job)
        else:
            self._debts.release(job)
        return ruling

    async def _appended(self, wire: Wire) -> Position:
        """The same record again where it failed: if the first one is in the log after all, the second is void."""
        for delay_s in APPEND_AGAIN_S:
            try:
                return await self._append(wire)
            except AppendFailed as failure:
                log.warning("appended again in %.1f s: %s", delay_s, failure)
                await asyncio.sleep(delay_s)
        return await self._append(wire)

    # --- time --------------------------------------------------------------------------------------------------------

    def give_up(self) -> None:
        """End what has had its time: jobs that hang, and the wait for records that are not folded here."""
        mono = time.monotonic()
        for key in past(self._deadlines, mono):
            self._late.add(key)
            self._running[key].cancel()
        self._awaited.give_up(mono)

    async def tick(self) -> None:
        """Ask again where a time has come, and give up what is late. Runs for the life of the process."""
        while True:
            self.give_up()
            now = self.clock.now()
            for key in self._debts.woken(now):
                self.ask(key)
            wake = self._debts.next_wake
            ahead = 1000 if wake is None else wake - now
            await asyncio.sleep(min(max(ahead, 5), 250) / 1000)

    def idle(self) -> bool:
        """Nothing runs and nothing is owed now."""
        return not self._running and not self._debts.outstanding

    def running(self) -> int:
        """Jobs in flight."""
        return len(self._running)

    def running_by_role(self) -> dict[str, int]:
        """Jobs in flight of each role."""
        count = Counter(key[0] for key in self._running)
        return {name: count[name] for name in self.roles}

    def waits(self) -> bool:
        """Is there a timer?"""
        return self._debts.next_wake is not None

    def next_wake_ms(self) -> int | None:
        """Milliseconds of broker time until the next timer, or None."""
        wake = self._debts.next_wake
        return None if wake is None else max(0, wake - self.clock.now())

    async def stop(self, deadline_s: float) -> None:
        """Let sent calls end, cancel the rest."""
        self.live.clear()
        for key, task in list(self._running.items()):
            if key not in self._shielded:
                task.cancel()
        pending = list(self._running.values())
        if pending:
            await asyncio.wait(pending, timeout=deadline_s)
