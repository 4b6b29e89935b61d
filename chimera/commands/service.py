"""The command service: follows the log, folds, lets a pure decision decide, signs, appends, and answers from its own fold.

It needs Kafka only. The rule not to break: the answer to a command is the law's ruling of its own records, read back from
the log; what was decided and even what was appended is not an answer.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import NamedTuple, Self

from chimera.commands.decision import NO_CHANGE, Answer, Decision, Order, Refused, TenantDecision
from chimera.commands.keys import LOG, PARTITIONS, KeyFile, Keys, load_keys, log_topics
from chimera.errors import ChimeraError
from chimera.eventlog.append import Appender
from chimera.eventlog.bulk import Entry
from chimera.eventlog.partitioner import partition_for, place
from chimera.eventlog.read import Reader, end_offsets
from chimera.eventlog.store import RecordStore
from chimera.events.envelope import NewRecord, Record, decode, encode, record_id
from chimera.events.partition import PartitionFold
from chimera.events.records import Command, Data, EffectEnded
from chimera.events.state import Agent, Law, Ref, Ruling
from chimera.events.tenant import Tenant
from chimera.observe import trace
from chimera.settings import Settings

log = logging.getLogger(__name__)

TRIES = 5
"""How often a command is decided again after somebody else took its number."""
NOT_AFTER_MS = 60_000
_LOST_RACE = frozenset(("conflict", "duplicate", "too_late"))
"""Reasons of a void record after which the same wish is decided again on the state as it is now."""

REMEMBERED = 20_000
"""Rulings of the latest command records that are kept by id, so that a command sent again is answered as it was the first time."""
LARGEST_BATCH = 500
"""Orders that are decided, appended and followed together."""

Observer = Callable[[Record, Ruling], None]


class Behind(ChimeraError):
    """The log did not come up to its own end in time."""


class _Sent(NamedTuple):
    order: Order
    entries: list[Entry]


class _Remembered(NamedTuple):
    key: str
    ruling: Ruling
    place: tuple[int, int]


class _Ticket:
    """Orders that wait to be worked on, by whichever thread holds the lock next."""

    def __init__(self, orders: Sequence[Order]) -> None:
        self.orders = list(orders)
        self.keys = {order.key for order in orders}
        self.answers: list[tuple[Answer, Exception | None]] = []
        self.error: Exception | None = None
        self.done = False


class CommandService:
    """A command service. Thread-safe: commands that arrive while others are under way are decided and appended together.

    `partitions` None follows the whole log; naming some is enough for commands to agents that live there. `observe` is
    called with every record and its ruling while folding. Raises `KeyTrouble` without an installation, and what reading raises.
    """

    def __init__(
        self,
        bootstrap: str,
        settings: Settings,
        *,
        partitions: Iterable[int] | None = None,
        observe: Observer | None = None,
        topic: str = LOG,
        timeout_s: float = 30.0,
        keys: Keys | None = None,
    ) -> None:
        self.keys = keys or load_keys(settings.home)
        self._signer = self.keys.command
        self._key_file = None if keys is not None else KeyFile(settings.home)
        self.topic = topic
        self.bootstrap = bootstrap
        self._timeout_s = timeout_s
        self._observe = observe
        root = self.keys.installation.root_public
        wanted = sorted(set(range(PARTITIONS) if partitions is None else partitions))
        self._folds = {p: PartitionFold(p, PARTITIONS, root, place) for p in wanted}
        self._reader = Reader(bootstrap, topic, dict.fromkeys(wanted, 0), client_id="chimera-command")
        self._appender: Appender | None = None
        self._store: RecordStore | None = None
        self._lock = threading.RLock()
        """Held by whoever reads the log, decides and appends; round trips to Kafka lie in it."""
        self._folding = threading.RLock()
        """Held while states change, for microseconds; taken after `_lock`, never before it."""
        self._opening = threading.Lock()
        self._tickets: deque[_Ticket] = deque()
        self._remembered: OrderedDict[str, _Remembered] = OrderedDict()
        self._ruled: dict[tuple[int, int], Ruling] = {}
        self._wanted: set[tuple[int, int]] = set()
        self._clock_ahead_ms: float | None = None
        self._caught_up = False
        self._traces = trace.from_environment("command")

    # --- reading ---------------------------------------------------------------------------------------------------

    @property
    def agents(self) -> dict[str, Agent]:
        """Every agent folded so far, by stream key. The states are live: read them, never change them."""
        return {key: agent for fold in self._folds.values() for key, agent in fold.agents.items()}

    def agent(self, key: str) -> Agent | None:
        """The agent of this stream as folded so far."""
        return self._fold_of(key).agents.get(key)

    def tenant(self, key: str) -> Tenant | None:
        """The tenant of this stream as folded so far."""
        return self._fold_of(key).tenants.get(key)

    @property
    def tenants(self) -> dict[str, Tenant]:
        """Every tenant folded so far, by stream key. Live, like `agents`."""
        return {key: tenant for fold in self._folds.values() for key, tenant in fold.tenants.items()}

    @property
    def laws(self) -> dict[int, Law]:
        """The law in force per followed partition."""
        return {partition: fold.law for partition, fold in self._folds.items()}

    @property
    def offsets(self) -> dict[int, int]:
        """Per followed partition the offset of the next record to fold."""
        return {partition: fold.next_offset for partition, fold in self._folds.items()}

    @contextmanager
    def still(self) -> Iterator[None]:
        """Nothing is folded meanwhile: for reading states that belong together. Keep it short, and ask no server in it."""
        with self._folding:
            yield

    def catch_up(self) -> int:
        """Fold everything up to the log's end as it is now; returns how many records that was. Raises `Behind`."""
        count = self.reach(end_offsets(self.bootstrap, self.topic, list(self._folds)))
        self._caught_up = True
        return count

    def reach(self, ends: Mapping[int, int]) -> int:
        """Fold until each partition of `ends` has come to that offset; returns how many records that was. Raises `Behind`."""
        with self._lock:
            return self._follow(ends)

    def drain(self) -> None:
        """Fold what has arrived, without waiting for more; nothing to do where somebody else is at it."""
        if self._lock.acquire(blocking=False):
            try:
                self._drain()
            finally:
                self._lock.release()

    def answered(self, key: str, id_: str) -> Answer | None:
        """The answer to the command of that id where its record is folded already (also by another service), else None."""
        with self._folding:
            return self._answered(key, id_)

    def follow(self, timeout_s: float) -> int:
        """Fold what comes within `timeout_s`, for live views; returns how many records came first."""
        with self._lock:
            return self._take(timeout_s)

    def read_at(self, ref: Ref) -> Record:
        """The record that the state refers to. Raises `RecordMissing`, `ReadFailed`."""
        with self._opening:
            if self._store is None:
                self._store = RecordStore(self.bootstrap, client_id="chimera-command-store")
        return decode(self._store.read_at(self.topic, ref.partition, ref.offset))

    def read_data(self, ref: Ref) -> Data:
        """The content at `ref`. Raises `ChimeraError` where it cannot be read."""
        record = self.read_at(ref)
        if record.data is None:
            raise ChimeraError(f"the record at {self.topic}[{ref.partition}]@{ref.offset} cannot be read: {record.defect}")
        return record.data

    # --- commanding ------------------------------------------------------------------------------------------------

    def submit(
        self,
        decide: Decision | TenantDecision,
        *,
        key: str,
        tenant: str,
        actor: str,
        command_id: str | None = None,
        causation: str = "",
        correlation: str = "",
    ) -> Answer:
        """Decide on the state at the log's end, append, and answer with the law's ruling.

        Raises `Refused` where the decision does, `AppendFailed` when Kafka does not take the records (repeat with the
        same `command_id` then: it cannot count twice).
        """
        order = Order(key, tenant, actor, decide, command_id or str(uuid.uuid4()), causation, correlation)
        answer, error = self._submit([order])[0]
        if error is not None:
            raise error
        return answer

    def submit_many(self, orders: Sequence[Order], progress: Callable[[int], None] | None = None) -> list[Answer]:
        """`submit` for many streams: decided and appended in bulk, then followed once. Answers in the orders' sequence.

        At most one order per stream. A refusal is an answer here (`refused`). `progress` is told how many orders are done.
        """
        if len({order.key for order in orders}) != len(orders):
            raise ValueError("submit_many takes at most one order per stream")
        answers: list[Answer] = []
        for start in range(0, len(orders), LARGEST_BATCH):
            for answer, error in self._submit(orders[start : start + LARGEST_BATCH]):
                if error is not None and not isinstance(error, Refused):
                    raise error
                answers.append(answer)
            if progress is not None:
                progress(len(answers))
        return answers

    def close(self) -> None:
        """Let all connections go, after what is in flight."""
        self._reader.close()
        if self._store is not None:
            self._store.close()
        if self._appender is not None:
            self._appender.close()
        if self._traces is not None:
            self._traces.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- the loop --------------------------------------------------------------------------------------------------

    def refresh_key(self) -> bool:
        """Take the command key from its file where that has changed; True when another key signs from now on."""
        if self._key_file is None:
            return False
        with self._folding:
            found = self._key_file.changed()
            if found is None or found.id == self.keys.command.id:
                return False
            log.info("command key %s is replaced by %s", self.keys.command.id, found.id)
            self.keys = self.keys._replace(command=found)
            return True

    def _submit(self, orders: Sequence[Order]) -> list[tuple[Answer, Exception | None]]:
        """Hand the orders in and see them answered. Whoever holds the lock works for all who wait, so that many commands
        cost one append and one look at the log, not one each.
        """
        ticket = _Ticket(orders)
        self._tickets.append(ticket)
        with self._lock:
            while not ticket.done:
                batch = self._next_batch()
                try:
                    answers = self._work([order for each in batch for order in each.orders])
                except Exception as error:  # noqa: BLE001  # not ours to judge: each waiting caller raises it
                    for each in batch:
                        each.error, each.done = error, True
                else:
                    for each in batch:
                        each.answers = [answers[order.key] for order in each.orders]
                        each.done = True
        if ticket.error is not None:
            raise ticket.error
        return ticket.answers

    def _next_batch(self) -> list[_Ticket]:
        """The tickets at the head of the queue that may be worked on together: no two for one stream."""
        batch, keys = [self._tickets.popleft()], set[str]()
        keys |= batch[0].keys
        while self._tickets and not keys & self._tickets[0].keys and len(keys) + len(self._tickets[0].keys) <= LARGEST_BATCH:
            batch.append(self._tickets.popleft())
            keys |= batch[-1].keys
        return batch

    def _work(self, orders: Sequence[Order]) -> dict[str, tuple[Answer, Exception | None]]:
        done: dict[str, tuple[Answer, Exception | None]] = {}
        fresh = not self._caught_up
        if fresh:
            self.catch_up()
        else:
            self._drain()
        open_orders = list(orders)
        for attempt in range(1, TRIES + 1):
            self.refresh_key()
            self._signer = self.keys.command
            sent: list[_Sent] = []
            for order in open_orders:
                decided = self._decide(order, attempt)
                if not isinstance(decided, _Sent) and not fresh:
                    # Records that are appended are arbitrated by their numbers, so a state that is milliseconds old
                    # does for them. "Nothing to do" and "refused" are final answers: those take the log's very end.
                    self.catch_up()
                    fresh = True
                    decided = self._decide(order, attempt)
                if isinstance(decided, _Sent):
                    sent.append(decided)
                else:
                    done[order.key] = decided
            open_orders = []
            for answer, order in zip(self._append(sent), [s.order for s in sent], strict=True):
                if answer.outcome == "void" and attempt < TRIES and self._lost_race(answer.reason):
                    open_orders.append(order)
                done[order.key] = (answer, None)
            if not open_orders:
                break
        return done

    def _lost_race(self, reason: str) -> bool:
        """Is a record void for what happened between deciding and appending? A key that was dropped meanwhile counts too."""
        return reason in _LOST_RACE or (reason == "forged" and self._signs_again())

    def _signs_again(self) -> bool:
        """Does another key sign by now than the one that this try was signed with?"""
        self.refresh_key()
        return self.keys.command.id != self._signer.id

    def _decide(self, order: Order, attempt: int) -> _Sent | tuple[Answer, Exception | None]:
        state = self._fold_of(order.key).state(order.key)
        version = 0 if state is None else state.version
        # Also how a record that was cut off from its delivery report is found again.
        before = self._answered(order.key, order.id)
        if before is not None:
            return before, None
        try:
            wanted = order.decide(state)
        except Refused as refusal:
            return Answer(order.key, order.id, "refused", str(refusal), version), refusal
        except Exception as error:  # noqa: BLE001  # raised where the order came from; others in the batch go on
            return Answer(order.key, order.id, "failed", str(error), version), error
        if not wanted:
            return Answer(order.key, order.id, "applied", NO_CHANGE, version), None
        number = 0 if state is None else state.command_no
        entries: list[Entry] = []
        for index, data in enumerate(wanted):
            number += _takes_number(data)
            # The last record carries the command's id, which the fold remembers: once that one counts, all before it were
            # ruled. The others derive theirs, anew for each try, since some of an earlier try may have counted.
            last = index == len(wanted) - 1
            id_ = order.id if last else record_id(order.id, f"{data.TYPE}/{attempt}", index)
            entries.append(self._entry(order, self._numbered(data, number), id_))
        return _Sent(order, entries)

    def _numbered(self, data: Data, number: int) -> Data:
        update: dict[str, int] = {}
        if _takes_number(data):
            update["command_no"] = number
        if "not_after" in type(data).model_fields:
            update["not_after"] = self._now_ms() + NOT_AFTER_MS
        return data.model_copy(update=update)

    def _entry(self, order: Order, data: Data, id_: str) -> Entry:
        new = NewRecord(
            key=order.key,
            data=data,
            tenant=order.tenant,
            actor=order.actor,
            time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            id=id_,
            causation=order.causation,
            # The swarm's records carry the campaign's id: what begins a campaign joins its story.
            correlation=order.correlation or getattr(data, "campaign_id", "") or order.id,
        )
        if self._traces is not None:
            new = new._replace(traceparent=self._traces.parent(new.key, new.correlation, new.id))
            self._traces.said(new, None, 0.0)
        wire = encode(new, self._signer)
        return Entry(self.topic, wire.key, wire.value, wire.headers)

    def _append(self, sent: Sequence[_Sent]) -> list[Answer]:
        if not sent:
            return []
        if self._appender is None:
            self._appender = Appender(self.bootstrap, log_topics(self.topic), "chimera-command")
        positions = self._appender.append_many([entry for each in sent for entry in each.entries])
        places = [(position.partition, position.offset) for position in positions]
        self._wanted.update(places)
        ends: dict[int, int] = {}
        for partition, offset in places:
            ends[partition] = max(ends.get(partition, 0), offset + 1)
        try:
            self._follow(ends)
        except Behind:
            pass_on = "the log is not folded up to the command yet"
        else:
            pass_on = ""
        answers, at = [], 0
        for each in sent:
            mine = places[at : at + len(each.entries)]
            at += len(each.entries)
            answers.append(self._answer(each.order, mine, pass_on))
        self._wanted.clear()
        self._ruled.clear()
        return answers

    def _answer(self, order: Order, places: Sequence[tuple[int, int]], unruled: str) -> Answer:
        state = self._fold_of(order.key).state(order.key)
        rulings = [self._ruled.get(place) for place in places]
        changes = tuple(change for ruling in rulings if ruling is not None for change in ruling.changes)
        outcome, reason = "applied", ""
        for ruling in rulings:
            if ruling is None:
                outcome, reason = "appended", unruled
                break
            if ruling.outcome != "applied":
                outcome, reason = ruling.outcome, ruling.reason
                break
        version = rulings[-1].version if rulings[-1] is not None else (0 if state is None else state.version)
        return Answer(order.key, order.id, outcome, reason, version, places[-1], len(places), changes)

    def _answered(self, key: str, id_: str) -> Answer | None:
        known = self._remembered.get(id_)
        if known is not None and known.key == key:
            reason = known.ruling.reason or "applied before"
            return Answer(key, id_, known.ruling.outcome, reason, known.ruling.version, known.place)
        state = self._fold_of(key).state(key)
        if state is not None and id_ in state.recent:
            return Answer(key, id_, "applied", "applied before", state.version)
        return None

    # --- following -------------------------------------------------------------------------------------------------

    def _follow(self, ends: Mapping[int, int]) -> int:
        deadline, count = time.monotonic() + self._timeout_s, 0
        while any(self._folds[p].next_offset < end for p, end in ends.items()):
            came = self._take(0.2)
            count += came
            if came:
                deadline = time.monotonic() + self._timeout_s
            elif time.monotonic() > deadline:
                behind = {p: (self._folds[p].next_offset, end) for p, end in ends.items() if self._folds[p].next_offset < end}
                raise Behind(f"no record of {self.topic} for {self._timeout_s} s with (position, end) {behind}: is Kafka up?")
        return count

    def _drain(self) -> None:
        """Fold what has arrived, without waiting for more."""
        came = self._take(0)
        while came:
            came = self._take(0)

    def _take(self, timeout_s: float) -> int:
        batch = self._reader.read(5000, timeout_s)
        with self._folding:
            for raw in batch:
                record, ruling = self._folds[raw.partition].apply(raw)
                place = (raw.partition, raw.offset)
                if place in self._wanted:
                    self._ruled[place] = ruling
                if ruling.outcome != "void" and _is_command(record.data):
                    self._remembered[record.id] = _Remembered(record.key, ruling, place)
                    if len(self._remembered) > REMEMBERED:
                        self._remembered.popitem(last=False)
                if self._observe is not None:
                    self._observe(record, ruling)
        if batch:
            ahead = max(raw.append_ts for raw in batch) - time.monotonic() * 1000
            self._clock_ahead_ms = ahead if self._clock_ahead_ms is None else max(self._clock_ahead_ms, ahead)
        return len(batch)

    def _now_ms(self) -> int:
        """Broker time now, for `not_after`: the folded lower bound, or this machine's clock where that is later.

        The bound alone would lie in the past when all that was folded is old.
        """
        bound = 0.0 if self._clock_ahead_ms is None else self._clock_ahead_ms + time.monotonic() * 1000
        return int(max(bound, time.time() * 1000))

    def _fold_of(self, key: str) -> PartitionFold:
        partition = partition_for(key, PARTITIONS)
        fold = self._folds.get(partition)
        if fold is None:
            raise ValueError(f"this command service does not follow partition {partition}, where {key} lives")
        return fold


def _takes_number(data: Data) -> bool:
    """Records of the command service that are neither vote nor copy are numbered (law, rule 1)."""
    return isinstance(data, Command) or (isinstance(data, EffectEnded) and data.proof is not None)


def _is_command(data: Data | None) -> bool:
    return data is not None and (data.ROLE == "command" or _takes_number(data))
