"""The command service: what is folded, to read; and commands, taken from many threads and worked on together (`Rounds`).

It needs Kafka only. The rule not to break: the answer to a command is the law's ruling of its own records, read back from
the log; what was decided and even what was appended is not an answer.
"""

from __future__ import annotations

import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Self

from chimera.commands.decision import Answer, Decision, Order, Refused, TenantDecision
from chimera.commands.following import Following, Observer, Progress
from chimera.commands.keys import LOG, Keys
from chimera.commands.rounds import Rounds
from chimera.commands.signing import Signing
from chimera.commands.tickets import LARGEST_BATCH, Ticket, next_batch
from chimera.errors import ChimeraError
from chimera.eventlog.store import RecordStore
from chimera.events.envelope import Record, decode
from chimera.events.records import Data
from chimera.events.state import Agent, Law, Ref
from chimera.events.tenant import Tenant
from chimera.observe import trace
from chimera.settings import Settings
from chimera.snapshots.state import SnapshotStore


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
        self.signing = Signing(settings.home, keys)
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
        self._traces = trace.from_environment("command")
        self._rounds = Rounds(self._log, self.signing, self._traces)
        self._store: RecordStore | None = None
        self._opening = threading.Lock()
        self._tickets: deque[Ticket] = deque()

    @property
    def keys(self) -> Keys:
        """The installation and the command key that signs now."""
        return self.signing.keys

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
            return self._log.catch_up(progress)

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
        self._rounds.close()
        if self._traces is not None:
            self._traces.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- the loop --------------------------------------------------------------------------------------------------

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
                    answers = self._rounds.work([order for each in batch for order in each.orders])
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
