"""From orders to answers: decided on the folded state, numbered, signed, appended, and answered by the law's rulings.

The rule not to break: a command's id is that of its last record, so that whatever was appended before is found again by it; and
what is not ruled yet is called appended, never applied.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from chimera import failpoints
from chimera.commands.decision import NO_CHANGE, Answer, Order, Refused
from chimera.commands.following import Following, takes_number
from chimera.commands.keys import log_topics
from chimera.commands.signing import Signing
from chimera.eventlog.append import Appender
from chimera.eventlog.bulk import Entry
from chimera.events.envelope import NewRecord, encode, record_id
from chimera.events.records import Data
from chimera.events.state import Ruling
from chimera.observe.trace import Traces

TRIES = 5
"""How often a command is decided again after somebody else took its number."""
NOT_AFTER_MS = 60_000
_LOST_RACE = frozenset(("conflict", "duplicate", "too_late"))
"""Reasons of a void record after which the same wish is decided again on the state as it is now."""


class _Sent(NamedTuple):
    order: Order
    entries: list[Entry]


class Rounds:
    """The rounds of one command service, over the log that it follows. The caller holds `log.lock`."""

    def __init__(self, log: Following, signing: Signing, traces: Traces | None) -> None:
        self._log, self._signing, self._traces = log, signing, traces
        self._signer = signing.keys.command
        self._appender: Appender | None = None

    def close(self) -> None:
        """Let the connection go, after what is in flight."""
        if self._appender is not None:
            self._appender.close()

    def work(self, orders: Sequence[Order]) -> dict[str, tuple[Answer, Exception | None]]:
        """What became of each order, by stream; with the error that its caller is to see. At most one order per stream.

        Raises `AppendFailed`, `Behind`, and what reading raises: then nothing is known of any of them.
        """
        done: dict[str, tuple[Answer, Exception | None]] = {}
        fresh = not self._log.caught_up
        if fresh:
            self._log.catch_up()
        else:
            self._log.drain()
        open_orders = list(orders)
        for attempt in range(1, TRIES + 1):
            self._signing.refresh()
            self._signer = self._signing.keys.command
            sent: list[_Sent] = []
            for order in open_orders:
                decided = self._decide(order, attempt)
                if not isinstance(decided, _Sent) and not fresh:
                    # Records that are appended are arbitrated by their numbers, so a state that is milliseconds old
                    # does for them. "Nothing to do" and "refused" are final answers: those take the log's very end.
                    self._log.catch_up()
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
        self._signing.refresh()
        return self._signing.keys.command.id != self._signer.id

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
        return Entry(self._log.topic, wire.key, wire.value, wire.headers)

    def _append(self, sent: Sequence[_Sent]) -> list[Answer]:
        if not sent:
            return []
        if self._appender is None:
            self._appender = Appender(self._log.bootstrap, log_topics(self._log.topic), "chimera-command")
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
