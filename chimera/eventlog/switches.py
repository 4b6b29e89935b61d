"""Kill switches: the record, the board that they fold to, and the follower that knows whether the board is fresh.

`chimera.switches` has one partition, so its order is the order of all switches; the last record of a scope that counts wins.
The rule not to break: what was not seen up to the topic's end within the last second permits nothing. Kafka down, a topic that
cannot be read, keys not known yet: all of these stop calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar, NamedTuple, Self

from pydantic import ValidationError

from chimera.elapsed import elapsed
from chimera.errors import ChimeraError
from chimera.eventlog.offsets import ReadFailed
from chimera.eventlog.read import Reader, begin_offsets, end_offsets, read_until
from chimera.events.envelope import LAW_KEY_PREFIX, decode, verify
from chimera.events.headers import signature
from chimera.events.partition import PartitionFold
from chimera.events.raw import RawRecord
from chimera.events.records import Data, Number
from chimera.events.state import Law

log = logging.getLogger(__name__)

TOPIC = "chimera.switches"
FRESH_S = 1.0
"""The board permits calls for so long after the end of the topic was asked for (design, the tenant's stream)."""
LOOK_S = 0.2
"""How often the follower looks by itself; whoever finds the board too old makes it look at once."""
PATIENCE_S = 1.5
"""How long a call waits for a fresh board before it is stopped."""
RETRY_S = 1.0
NOT_FRESH = "switch_not_fresh"
CLOSED = "switch:"
"""What begins the reason of a call that a closed switch stopped; the scope follows."""

_SCOPE = {
    "fleet": re.compile(r"^$"),
    "tenant": re.compile(r"^[^\s/:]{1,100}$"),
    "platform": re.compile(r"^[^\s/:]{1,100}$"),
    "account": re.compile(r"^[^\s/:]{1,100}/@?[^\s/]{1,100}$"),
    "agent": re.compile(r"^agent/[0-9a-f-]{36}$"),
    "tool": re.compile(r"^[^\s.:/]{1,100}\.[^\s:]{1,200}$"),
}
SCOPES = "fleet | tenant:TENANT | platform:PLATFORM | account:PLATFORM/HANDLE | agent:AGENT | tool:PROFILE.TOOL"


class BadScope(ChimeraError):
    """What was given names nothing that a switch could close."""


class SwitchSet(Data):
    """A person closes or opens a switch. `number` is above the last one of the scope: a copy of an old record counts no more."""

    TYPE: ClassVar[str] = "SwitchSet"
    ROLE: ClassVar[str] = "command"

    scope: str
    closed: bool
    reason: str
    number: Number


class Switch(NamedTuple):
    """What the last record that counts says of a scope. `at` is its append time (ms), `by` its actor."""

    scope: str
    closed: bool
    reason: str
    number: int
    by: str
    at: int
    key: str
    offset: int


class SwitchKeys(NamedTuple):
    """Who may set switches: the command keys in force, and the public part of every key that ever was one."""

    edition: int
    current: frozenset[str]
    public: Mapping[str, str]


def keys_of(law: Law) -> SwitchKeys | None:
    """The keys of a law, None while it names no command key. Keys of other roles, root's too, set no switch."""
    current = law.keys.get("command", frozenset())
    once = current | law.ever.get("command", frozenset())
    return SwitchKeys(law.edition, current, {id_: law.public[id_] for id_ in once if id_ in law.public}) if current else None


def parse_scope(text: str) -> str:
    """The scope as records carry it: platforms and handles in small letters, handles without @. Raises `BadScope`."""
    kind, _, name = text.strip().partition(":")
    pattern = _SCOPE.get(kind)
    if pattern is None or (":" in text) != (kind != "fleet") or not pattern.match(name):
        raise BadScope(f"'{text}' is no scope of a switch: write {SCOPES}")
    if kind == "fleet":
        return "fleet"
    return f"{kind}:{name.lower().replace('/@', '/')}" if kind in ("platform", "account") else f"{kind}:{name}"


def scopes_of(*, agent: str, tenant: str, platform: str | None, account: str | None, tool: str) -> tuple[str, ...]:
    """Every scope that covers a call, the widest first. `tool` is `profile.tool`."""
    scopes = ["fleet", f"tenant:{tenant}"]
    if platform:
        scopes.append(f"platform:{platform.lower()}")
        if account:
            scopes.append(f"account:{platform.lower()}/{account.lower().removeprefix('@')}")
    return (*scopes, f"tool:{tool}", f"agent:{agent}")


class Board:
    """The switches as folded. What does not count is ignored and counted by reason."""

    def __init__(self, keys: SwitchKeys) -> None:
        self.keys = keys
        self.switches: dict[str, Switch] = {}
        self.ignored: Counter[str] = Counter()

    def apply(self, raw: RawRecord) -> str:
        """Fold one record; "" when it counts, else why it does not: unreadable, unsigned, forged, duplicate, retired_key.

        A command key that the law listed once and lists no more still speaks (what it closed must not open by a rotation), but it
        cannot open what a key in force has closed.
        """
        reason = self._apply(raw)
        if reason:
            self.ignored[reason] += 1
        return reason

    def _apply(self, raw: RawRecord) -> str:
        record = decode(raw)
        if record.defect is not None or record.type != SwitchSet.TYPE or record.version != SwitchSet.VERSION:
            return "unreadable"
        try:
            said = SwitchSet.model_validate_json(record.value)
            proper = parse_scope(said.scope) == said.scope == record.key
        except (ValidationError, BadScope):
            return "unreadable"
        claimed = signature(raw)
        if not proper or claimed is None:
            return "unsigned" if claimed is None else "unreadable"
        public = self.keys.public.get(claimed[0])
        if public is None or not verify(record, raw, public):
            return "forged"
        last = self.switches.get(said.scope)
        if last is not None and said.number <= last.number:
            return "duplicate"
        if claimed[0] not in self.keys.current and last is not None and last.closed and last.key in self.keys.current:
            return "retired_key"
        self.switches[said.scope] = Switch(
            said.scope, said.closed, said.reason, said.number, record.actor, raw.append_ts, claimed[0], raw.offset
        )
        return ""

    def closed_by(self, scopes: Iterable[str]) -> str | None:
        """The first of these scopes that is closed, or None."""
        return next((scope for scope in scopes if (found := self.switches.get(scope)) is not None and found.closed), None)


def read_board(bootstrap: str, keys: SwitchKeys, topic: str = TOPIC) -> Board:
    """The switches up to the topic's end as it is now. Raises what reading raises."""
    board = Board(keys)
    for batch in read_until(bootstrap, topic, [0]):
        for raw in batch:
            board.apply(raw)
    return board


def read_keys(bootstrap: str, root_public: str, log_topic: str = "chimera.log") -> SwitchKeys | None:
    """The keys of the law in force, read from the shortest partition: each of them holds every edition.

    None where no law was adopted.
    """
    ends, begins = end_offsets(bootstrap, log_topic), begin_offsets(bootstrap, log_topic)
    shortest = min(ends, key=lambda p: (ends[p] - begins[p], p))
    fold = PartitionFold(shortest, len(ends), root_public)
    for batch in read_until(bootstrap, log_topic, [shortest], end={shortest: ends[shortest]}):
        for raw in batch:
            if raw.key is not None and raw.key.startswith(LAW_KEY_PREFIX.encode()):
                fold.apply(raw)
    return keys_of(fold.law)


class SwitchFollower:
    """The one follower of a process: a thread that reads the topic to its end again and again; fresh or not, and what is closed.

    `keys` is asked at every look: None (no law known yet) keeps everything shut, other keys make it read from the start again.
    """

    def __init__(
        self,
        bootstrap: str,
        keys: Callable[[], SwitchKeys | None],
        *,
        topic: str = TOPIC,
        clock: Callable[[], float] = elapsed,
        look_s: float = LOOK_S,
    ) -> None:
        self._bootstrap, self._keys, self._topic, self._clock, self._look_s = bootstrap, keys, topic, clock, look_s
        self._board: Board | None = None
        self._seen_at: float | None = None
        self._reader: Reader | None = None
        self._wake, self._stop = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._troubled = False
        self._thread = threading.Thread(target=self._run, name="switches", daemon=True)

    def start(self) -> Self:
        """Begin to follow."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop following; nothing is permitted from here on."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(15.0)
        self._seen_at = None

    @property
    def fresh(self) -> bool:
        """Was the topic seen up to its end within the last second?"""
        seen_at = self._seen_at
        return seen_at is not None and self._clock() - seen_at <= FRESH_S

    @property
    def age_s(self) -> float | None:
        """Seconds since the end was asked for that the board has reached; None before the first time."""
        return None if self._seen_at is None else self._clock() - self._seen_at

    @property
    def ignored(self) -> dict[str, int]:
        """Records that do not count, by reason."""
        return dict(self._board.ignored) if self._board is not None else {}

    def holds(self, reason: str) -> bool:
        """Does the reason for which a call was stopped (`switch:<scope>`, `switch_not_fresh`) still stand? Never waits."""
        if not reason.startswith("switch"):
            return False
        if not self.fresh or self._board is None:
            self._wake.set()
            return True
        return self._board.closed_by([reason.removeprefix(CLOSED)]) is not None

    async def stops(self, scopes: Iterable[str]) -> str | None:
        """Why a call under these scopes is stopped now (`switch:<scope>` or `switch_not_fresh`), or None."""
        if not self.fresh:
            await self._look_now()
        board = self._board
        if not self.fresh or board is None:
            return NOT_FRESH
        closed = board.closed_by(scopes)
        return None if closed is None else f"{CLOSED}{closed}"

    async def _look_now(self) -> None:
        loop = asyncio.get_running_loop()
        looked: asyncio.Future[None] = loop.create_future()
        with self._lock:
            self._waiting.append((loop, looked))
        self._wake.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(looked, PATIENCE_S)

    # --- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            pause = self._look_s
            try:
                if self._look():
                    self._tell()
            except ChimeraError as error:
                pause = RETRY_S
                if not self._troubled:
                    log.warning("the switches cannot be read, so nothing may be called: %s", error)
                self._troubled = True
                self._let_go()
            self._wake.wait(pause)
            self._wake.clear()
        self._let_go()

    def _look(self) -> bool:
        """Read up to the end as it is now; False while there are no keys to judge by."""
        keys = self._keys()
        if keys is None:
            return False
        board, reader = self._board, self._reader
        if board is None or keys != board.keys or reader is None:
            self._let_go()
            reader, board = Reader(self._bootstrap, self._topic, {0: 0}, client_id="chimera-switches"), Board(keys)
            self._reader = reader
        asked = self._clock()
        end = reader.end(0, timeout_s=FRESH_S)
        if reader.positions[0] > end:
            raise ReadFailed(f"{self._topic} ends at {end}, before what was read of it: it was cut or made anew")
        deadline = asked + 10.0
        while reader.positions[0] < end and not self._stop.is_set():
            for raw in reader.read(500, 0.2):
                board.apply(raw)
            if self._clock() > deadline:
                raise ReadFailed(f"{self._topic} could not be read up to {end} within 10 s")
        self._board, self._seen_at = board, asked
        if self._troubled:
            log.info("the switches can be read again")
        self._troubled = False
        return True

    def _tell(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for loop, looked in waiting:
            with contextlib.suppress(RuntimeError):  # its loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_done, looked)

    def _let_go(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()


def _done(looked: asyncio.Future[None]) -> None:
    if not looked.done():
        looked.set_result(None)
