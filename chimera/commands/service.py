"""The command service: follows the log, folds, lets a pure decision decide, signs, appends, and answers from its own fold.

It needs Kafka only. The rule not to break: the answer to a command is the law's ruling of its own records, read back from
the log; what was decided and even what was appended is not an answer.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import NamedTuple, Self

from chimera import failpoints
from chimera.commands.decision import NO_CHANGE, Answer, Decision, Order, Refused, TenantDecision
from chimera.commands.following import Following, Observer, Progress, takes_number
from chimera.commands.keys import LOG, SIGNING_ROLES, KeyFile, Keys, RoleKeys, load_keys, log_topics
from chimera.commands.tickets import LARGEST_BATCH, Ticket, next_batch
from chimera.errors import ChimeraError
from chimera.eventlog.append import Appender
from chimera.eventlog.bulk import Entry
from chimera.eventlog.store import RecordStore
from chimera.events.envelope import NewRecord, Record, decode, encode, record_id
from chimera.events.records import Data
from chimera.events.state import Agent, Law, Ref, Ruling
from chimera.events.tenant import Tenant
from chimera.observe import trace
from chimera.settings import Settings
from chimera.snapshots.state import SnapshotStore

log = logging.getLogger(__name__)

TRIES = 5
"""How often a command is decided again after somebody else took its number."""
NOT_AFTER_MS = 60_000
_LOST_RACE = frozenset(("conflict", "duplicate", "too_late"))
"""Reasons of a void record after which the same wish is decided again on the state as it is now."""


class _Sent(NamedTuple):
    order: Order
    entries: list[Entry]


class CommandService:
    """A command service. Thread-safe: commands that arrive while others are under way are decided and appended together.

    `partitions` None follows the whole log; naming some is enough for commands to agents that live there. `observe` is
    called with every record and its ruling while folding. With `snapshots` the fold starts from those, and `observe` misses what
    they hold. Raises `KeyTrouble` without an installation, and what reading raises.
    """

    def __init__(
        self,
        bootstrap: str,
        settings: Settings,
        *,
        partitions: Iterable[int] | None = None,
        observe: Observer | None = None,
        snapshots: SnapshotStore | None = None,
        topic: str = LOG,
        timeout_s: float = 30.0,
        keys: Keys | None = None,
    ) -> None:
        self.keys = keys or load_keys(settings.home)
        self._signer = self.keys.command
        self._key_file = None if keys is not None else KeyFile(settings.home)
        self.role_keys = RoleKeys(settings.home, SIGNING_ROLES)
        """What this home holds of the keys of other roles; the courier, which lives here, signs with its own."""
        self.topic = topic
        self.bootstrap = bootstrap
        self._log = Following(
            bootstrap,
            topic,
            self.keys.installation.root_public,
            partitions,
            observe=observe,
            snapshots=snapshots,
            timeout_s=timeout_s,
        )
        self._appender: Appender | None = None
        self._store: RecordStore | None = None
        self._opening = threading.Lock()
        self._tickets: deque[Ticket] = deque()
        self._caught_up = False
        self._traces = trace.from_environment("command")

    # --- reading ---------------------------------------------------------------------------------------------------

    @property
    def agents(self) -> dict[str, Agent]:
        """Every agent folded so far, by stream key. The states are live: read them, never change them."""
        return {key: agent for fold in self._log.folds.values() for key, agent in fold.agents.items()}

    def agent(self, key: str) -> Agent | None:
        """The agent of this stream as folded so far."""
        return self._log.fold_of(key).agents.get(key)

    def tenant(self, key: str) -> Tenant | None:
        """The tenant of this stream as folded so far."""
        return self._log.fold_of(key).tenants.get(key)

    @property
    def tenants(self) -> dict[str, Tenant]:
        """Every tenant folded so far, by stream key. Live, like `agents`."""
        return {key: tenant for fold in self._log.folds.values() for key, tenant in fold.tenants.items()}

    @property
    def laws(self) -> dict[int, Law]:
        """The law in force per followed partition."""
        return {partition: fold.law for partition, fold in self._log.folds.items()}

    def law_of(self, key: str) -> Law:
        """The law in force over a stream."""
        return self._log.fold_of(key).law

    @property
    def offsets(self) -> dict[int, int]:
        """Per followed partition the offset of the next record to fold."""
        return self._log.offsets

    @property
    def last_append_ts(self) -> int:
        """Append time (ms) of the newest record that is in the fold; 0 when there is none."""
        return self._log.last_append_ts

    @property
    def whole(self) -> bool:
        """Was all folded from offset 0, so that `observe` has seen everything? False where the fold began at snapshots."""
        return self._log.whole

    @contextmanager
    def still(self) -> Iterator[None]:
        """Nothing is folded meanwhile: for reading states that belong together. Keep it short, and ask no server in it."""
        with self._log.folding:
            yield

    def catch_up(self, progress: Progress | None = None) -> int:
        """Fold everything up to the log's end as it is now; returns how many records that was. Raises `Behind`."""
        with self._log.lock:
            count = self._log.catch_up(progress)
        self._caught_up = True
        return count

    def reach(self, ends: Mapping[int, int]) -> int:
        """Fold until each partition of `ends` has come to that offset; returns how many records that was. Raises `Behind`."""
        with self._log.lock:
            return self._log.reach(ends)

    def drain(self) -> None:
        """Fold what has arrived, without waiting for more; nothing to do where somebody else is at it."""
        if self._log.lock.acquire(blocking=False):
            try:
                self._log.drain()
            finally:
                self._log.lock.release()

    def answered(self, key: str, id_: str) -> Answer | None:
        """The answer to the command of that id where its record is folded already (also by another service), else None."""
        with self._log.folding:
            return self._log.answered(key, id_)

    def follow(self, timeout_s: float) -> int:
        """Fold what comes within `timeout_s`, for live views; returns how many records came first."""
        with self._log.lock:
            return self._log.take(timeout_s)

    def read_at(self, ref: Ref) -> Record:
        """The record that the state refers to, its signature checked by keys known now. Raises `RecordMissing`, `ReadFailed`."""
        with self._opening:
            if self._store is None:
                self._store = RecordStore(self.bootstrap, client_id="chimera-command-store")
        raw = self._store.read_at(self.topic, ref.partition, ref.offset)
        fold = self._log.folds.get(ref.partition)
        return fold.read(raw) if fold is not None else decode(raw)

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
        self._log.close()
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
        """Take the command key from its file where that has changed; True when another key signs from now on.

        The keys of other roles that lie in this home are looked at as well.
        """
        self.role_keys.refresh()
        if self._key_file is None:
            return False
        with self._log.folding:
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
        ticket = Ticket(orders)
        self._tickets.append(ticket)
        with self._log.lock:
            while not ticket.done:
                batch = next_batch(self._tickets)
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

    def _work(self, orders: Sequence[Order]) -> dict[str, tuple[Answer, Exception | None]]:
        done: dict[str, tuple[Answer, Exception | None]] = {}
        fresh = not self._caught_up
        if fresh:
            self.catch_up()
        else:
            self._log.drain()
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
        state = self._log.fold_of(order.key).state(order.key)
        version = 0 if state is None else state.version
        # Also how a record that was cut off from its delivery report is found again.
        before = self._log.answered(order.key, order.id)
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
            number += takes_number(data)
            # The last record carries the command's id, which the fold remembers: once that one counts, all before it were
            # ruled. The others derive theirs, anew for each try, since some of an earlier try may have counted.
            last = index == len(wanted) - 1
            id_ = order.id if last else record_id(order.id, f"{data.TYPE}/{attempt}", index)
            entries.append(self._entry(order, self._numbered(data, number), id_))
        return _Sent(order, entries)

    def _numbered(self, data: Data, number: int) -> Data:
        update: dict[str, int] = {}
        if takes_number(data):
            update["command_no"] = number
        if "not_after" in type(data).model_fields:
            update["not_after"] = self._log.now_ms() + NOT_AFTER_MS
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
        failpoints.here("command.decided")
        positions = self._appender.append_many([entry for each in sent for entry in each.entries])
        places = [(position.partition, position.offset) for position in positions]
        failpoints.here("command.appended")
        rulings = self._log.rulings(places)
        answers, at = [], 0
        for each in sent:
            mine = places[at : at + len(each.entries)]
            at += len(each.entries)
            answers.append(self._answer(each.order, mine, [rulings.get(place) for place in mine]))
        failpoints.here("command.ruled")
        return answers

    def _answer(self, order: Order, places: Sequence[tuple[int, int]], rulings: Sequence[Ruling | None]) -> Answer:
        state = self._log.fold_of(order.key).state(order.key)
        changes = tuple(change for ruling in rulings if ruling is not None for change in ruling.changes)
        outcome, reason = "applied", ""
        for ruling in rulings:
            if ruling is None:
                outcome, reason = "appended", "the log is not folded up to the command yet"
                break
            if ruling.outcome != "applied":
                outcome, reason = ruling.outcome, ruling.reason
                break
        version = rulings[-1].version if rulings[-1] is not None else (0 if state is None else state.version)
        return Answer(order.key, order.id, outcome, reason, version, places[-1], len(places), changes)
