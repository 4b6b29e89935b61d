"""Carries copies between streams, in the command service, which folds them all: what is due is appended, in batches.

The rule not to break: it keeps nothing that a restart needs. A debt whose copy was void is held with doubling delay, so that
nothing spins; everything else is asked of the folded states again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import NamedTuple

from chimera import failpoints
from chimera.commands.keys import log_topics, tenant_key
from chimera.commands.service import CommandService
from chimera.errors import ChimeraError
from chimera.eventlog.append import Appender
from chimera.eventlog.bulk import Entry
from chimera.events import records as rec
from chimera.events.envelope import NewRecord, Record, SigningKey, encode, record_id
from chimera.events.state import Agent, Owed, Ruling
from chimera.events.tenant import Tenant, Told
from chimera.processors.courier import ask, day_due, due, name_of, tell

log = logging.getLogger(__name__)

NAME = "courier"
BATCH = 500
"""Records appended together; the others have their turn after them."""
FIRST_HOLD_S, LONGEST_HOLD_S = 0.2, 30.0
IDLE_S = 1.0
"""How often it looks without having been told of anything: for days that begin and holds that end."""
TURN_S = 0.02
"""While something is under way it looks so often whether that is folded."""


class Debt(NamedTuple):
    """One record that a stream is owed."""

    key: str
    """The stream that it goes to."""
    what: str
    """copy | delivered | day"""
    about: str
    """The stream at the other end; "" for a day."""
    number: int


class Figures(NamedTuple):
    """How carrying goes, as last looked at."""

    owed: int = 0
    """Copies that streams owe each other."""
    held: int = 0
    """Debts that are held because their record did not count, or could not be made."""
    oldest_s: float = 0.0
    """How long the copy has waited that waits longest of those whose turn it is."""


class _Hold(NamedTuple):
    until: float
    delay_s: float


class Courier:
    """The courier of one command service. `note` is its ear (any thread); `step` works (one thread)."""

    def __init__(self) -> None:
        self._heard: set[str] = set()
        self._ear = threading.Lock()
        self._wake = threading.Event()
        self._known: set[str] = set()
        """Tenants whose agents were looked at once: a tenant may begin after its agents owe it something."""
        self._pairs: set[tuple[str, str]] = set()
        """(source, target) between which something may be due."""
        self._under: dict[Debt, tuple[int, int]] = {}
        """Appended and not folded yet: partition, offset."""
        self._holds: dict[Debt, _Hold] = {}
        self._appender: Appender | None = None
        self._since: dict[Debt, float] = {}
        """When a copy that is due was first seen to be."""
        self.carried = 0
        """Records appended so far."""
        self.figures = Figures()

    def note(self, record: Record, ruling: Ruling) -> None:
        """A record was folded: its stream, and the one that it is a copy of, may owe or be owed something else now."""
        copied = getattr(record.data, "copied", None)
        with self._ear:
            self._heard.add(record.key)
            if copied is not None:
                self._heard.add(copied.source)
        self._wake.set()

    def run(self, service: CommandService, stop: threading.Event) -> None:
        """Carry until `stop`. What Kafka refuses is tried again; anything else ends it, and is the caller's to see."""
        try:
            while not stop.is_set():
                try:
                    self.step(service)
                except ChimeraError as error:
                    log.warning("copies wait: %s", error)
                    stop.wait(FIRST_HOLD_S)
                self._wake.wait(TURN_S if self._under else IDLE_S)
                self._wake.clear()
        finally:
            self.close()

    def wake(self) -> None:
        """Have it look now."""
        self._wake.set()

    def close(self) -> None:
        """Let the connection go, after what is in flight."""
        if self._appender is not None:
            self._appender.close()
            self._appender = None

    def step(self, service: CommandService) -> int:
        """Append what is due now, at most `BATCH` records; how many. Raises `AppendFailed`."""
        service.drain()
        with service.still():
            owed = self._owed(service)
            self._settle(service, owed)
            now = time.monotonic()
            self._since = {debt: self._since.get(debt, now) for debt in owed if debt.what == "copy"}
            waited = now - min(self._since.values(), default=now)
            self.figures = Figures(self._copies(service), len(self._holds), waited)
        free = [debt for debt in owed if debt not in self._under and (debt not in self._holds or self._holds[debt].until <= now)]
        made = [(debt, new) for debt in free[:BATCH] if (new := self._made(service, debt, owed[debt])) is not None]
        if not made:
            return 0
        if self._appender is None:
            self._appender = Appender(service.bootstrap, log_topics(service.topic), "chimera-courier")
        service.signing.refresh()
        wires = [encode(new, self._signer(service, new.key)) for _, new in made]
        failpoints.here("courier.made")
        positions = self._appender.append_many([Entry(service.topic, *wire) for wire in wires])
        failpoints.here("courier.appended")
        for (debt, _), position in zip(made, positions, strict=True):
            self._under[debt] = (position.partition, position.offset)
        self.carried += len(made)
        return len(made)

    def _signer(self, service: CommandService, key: str) -> SigningKey:
        """The courier's own key where the law over this stream lists one, else the command service's."""
        own = service.signing.role_keys.held.get("courier")
        listed = service.law_of(key).keys.get("courier", frozenset())
        return own if own is not None and own.id in listed else service.keys.command

    # --- what is due -------------------------------------------------------------------------------------------------

    def _owed(self, service: CommandService) -> dict[Debt, Owed | Told | None]:
        """Every debt between the streams that may owe each other something, with the copy that it asks for."""
        with self._ear:
            heard, self._heard = self._heard, set()
        tenants = service.tenants
        new = {tenant.tenant for key, tenant in tenants.items() if key not in self._known}
        if new:
            self._known |= tenants.keys()
            heard |= {key for key, agent in service.agents.items() if agent.tenant in new} | tenants.keys()
        installation = service.keys.installation.installation
        for key in heard:
            if (tenant := tenants.get(key)) is not None:
                self._pairs |= {(key, agent) for agent in tenant.owed}
            elif key.startswith("agent/") and (agent := service.agent(key)) is not None:
                own = tenant_key(installation, agent.tenant)
                self._pairs |= {(key, own), (own, key)}
        owed: dict[Debt, Owed | Told | None] = {}
        for pair in list(self._pairs):
            source, target = (_state(service, key) for key in pair)
            found = due(source, target) if source is not None and target is not None else None
            if found is None or (found.copy is None and found.delivered is None):
                self._pairs.discard(pair)  # until one of the two is heard of again
                continue
            if found.copy is not None:
                owed[Debt(pair[1], "copy", pair[0], found.copy.number)] = found.copy
            if found.delivered is not None:
                owed[Debt(pair[0], "delivered", pair[1], found.delivered)] = None
        for key, tenant in tenants.items():
            # The broker's clock decides; asked too early by this machine's, the record is void and held.
            if (day := day_due(tenant, int(time.time() * 1000))) is not None:
                owed[Debt(key, "day", "", day)] = None
        return owed

    def _copies(self, service: CommandService) -> int:
        """Every copy owed between streams, also those whose turn has not come."""
        pairs = [(_state(service, source), _state(service, target)) for source, target in self._pairs]
        return sum(
            len(source.owed.get(name_of(target), ())) for source, target in pairs if source is not None and target is not None
        )

    def _settle(self, service: CommandService, owed: dict[Debt, Owed | Told | None]) -> None:
        """What was appended is folded by now or not; if it is and the debt still stands, it was void: hold it."""
        offsets = service.offsets
        for debt, (partition, offset) in list(self._under.items()):
            if offsets[partition] > offset:
                del self._under[debt]
                if debt in owed:
                    self._hold(debt, f"its record at {partition}@{offset} did not count")
        for debt in [debt for debt in self._holds if debt not in owed]:
            del self._holds[debt]

    def _hold(self, debt: Debt, why: str) -> None:
        before = self._holds.get(debt)
        delay_s = FIRST_HOLD_S if before is None else min(2 * before.delay_s, LONGEST_HOLD_S)
        self._holds[debt] = _Hold(time.monotonic() + delay_s, delay_s)
        log.log(logging.WARNING if delay_s >= 1 else logging.DEBUG, "%s is held for %.1f s: %s", debt, delay_s, why)

    # --- what it says ------------------------------------------------------------------------------------------------

    def _made(self, service: CommandService, debt: Debt, copy: Owed | Told | None) -> NewRecord | None:
        """The record that pays the debt; None where it cannot be made now, and then it is held."""
        known = _state(service, debt.key)
        assert known is not None, "only streams that are there are owed something"
        actor, causation, correlation = NAME, "", ""
        data: rec.Data
        if debt.what == "day":
            data = rec.DayOpened(day=debt.number)
        elif debt.what == "delivered":
            other = _state(service, debt.about)
            assert other is not None
            data = rec.CopiesDelivered(target=name_of(other), upto=debt.number)
        elif isinstance(copy, Owed):
            data, correlation = ask(debt.about, copy), copy.campaign_id
        else:
            assert isinstance(copy, Told)
            try:
                told = service.read_at(copy.ref) if copy.what != "FundsAnswered" else None
                data = tell(f"tenant/{known.tenant}", copy, told)
            except (ChimeraError, ValueError) as error:
                self._hold(debt, str(error))
                return None
            if told is not None:  # whoever asked for a campaign here asked for it there, and may not approve its effects
                actor, causation, correlation = told.actor, told.id, told.correlation
        return NewRecord(
            key=debt.key,
            data=data,
            tenant=known.tenant,
            actor=actor,
            time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            id=record_id(f"{debt.about}>{debt.key}", data.TYPE, debt.number),
            causation=causation,
            correlation=correlation,
        )


def _state(service: CommandService, key: str) -> Agent | Tenant | None:
    return service.tenant(key) if key.startswith("tenant/") else service.agent(key)


@contextmanager
def carrying(courier: Courier, service: CommandService) -> Iterator[Callable[[], None]]:
    """The courier at work in a thread of its own. Gives a check that raises what ended it, if something did."""
    stop, ended = threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            courier.run(service, stop)
        except BaseException as error:  # noqa: BLE001  # told by the check
            ended.append(error)

    def check() -> None:
        if ended:
            raise ChimeraError(f"the courier ended: {ended[0]!r}") from ended[0]

    thread = threading.Thread(target=run, name="courier")
    thread.start()
    try:
        yield check
    finally:
        stop.set()
        courier.wake()
        thread.join(30)
