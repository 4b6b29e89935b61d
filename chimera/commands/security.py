"""Noting security events: into a file of the home at once, and from there to `chimera.security` by whichever process runs.

The rule not to break: what is guarded never waits for the note and never fails by it, and nothing is lost silently. The file is
the queue: it outlives processes that are killed and brokers that are away, and it is bounded.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

from chimera.errors import ChimeraError
from chimera.eventlog.append import Appender
from chimera.eventlog.bulk import Entry
from chimera.eventlog.read import end_offsets, read_until
from chimera.eventlog.topics import load_topics
from chimera.events.security import TOPIC, Noted, SecurityNoted, gathered, noted, read_line, security_of
from chimera.settings import Settings
from chimera.stack.addresses import load_kafka

log = logging.getLogger(__name__)

FOLDER = "security"
MOST_BYTES = 32 * 1024 * 1024
"""So much may wait, about 100,000 events; what comes then is told in the process's log, and counted."""
SEND_EVERY_S = 1.0
SHELL_S = 3.0
"""How long a command line waits for a broker to take its event; then the event stays in the file."""
_CHUNK = 1_000


class Figures(NamedTuple):
    """How many bytes wait in the home, and how many events this process could not keep."""

    waiting_bytes: int
    lost: int


_lost = 0
_counting = threading.Lock()


def note(home: Path, event: Noted) -> bool:
    """Keep a security event (`noted(...)`) until a process of this home has sent it; False where it could not be kept.

    For every thread, every process and every event loop: it writes one line to a local file and asks no server, so it may be called
    where nothing may wait. It never raises. Whoever runs long holds a `Sender` besides; a command line calls `note_now`.

        note(home, noted("login_refused", door="mission_control", outcome="refused", origin=ip, reason="wrong_password"))

    What cannot be kept (no room, a file that may not be written) is an error line of the process's log with all that it says, a
    number in `figures`, and an event `events_lost` as soon as there is room again.
    """
    global _lost
    try:
        with _counting:
            owed = _lost
        lines = event.line() + (noted("events_lost", door=event.said.door, outcome="failed", count=owed).line() if owed else b"")
        _keep(home, lines)
    except (OSError, _Full) as error:
        with _counting:
            _lost += 1
        log.error("a security event could not be kept (%s): %s", error, event.line().decode(errors="replace").strip())
        return False
    if owed:
        with _counting:
            _lost -= owed
    return True


def note_now(settings: Settings, event: Noted) -> None:
    """`note` for a command line, which ends soon: where no process of this home sends what waits, it is sent here.

    A broker that is away costs three seconds at most, and the event is sent by whoever runs next.
    """
    if note(settings.home, event):
        send_from_shell(settings)


def send_from_shell(settings: Settings) -> None:
    """`send`, for a command line: without raising, and with little patience."""
    try:
        send(settings.home, load_kafka(settings), timeout_s=SHELL_S)
    except (ChimeraError, OSError) as error:
        log.info("a security event waits in %s: %s", settings.home / FOLDER, error)


def figures(home: Path) -> Figures:
    """For metrics."""
    waiting = 0
    for name in ("waiting.jsonl", "sending.jsonl"):
        try:
            waiting += (home / FOLDER / name).stat().st_size
        except OSError:
            continue
    return Figures(waiting, _lost)


class _Full(Exception):
    pass


def _keep(home: Path, lines: bytes) -> None:
    with _locked(home, "lock"):
        fd = os.open(home / FOLDER / "waiting.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(fd).st_size
            if size + len(lines) > MOST_BYTES:
                raise _Full(f"{size} bytes of them wait in {home / FOLDER} already: is Kafka up?")
            try:
                written = os.write(fd, lines)
                if written != len(lines):
                    raise OSError(f"{written} of {len(lines)} bytes were written")
            except OSError:
                os.ftruncate(fd, size)  # half a line would spoil the next one
                raise
        finally:
            os.close(fd)


@contextmanager
def _locked(home: Path, name: str, flags: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Raises `BlockingIOError` where the flags say not to wait."""
    (home / FOLDER).mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(home / FOLDER / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, flags)
        yield
    finally:
        os.close(fd)


def send(home: Path, bootstrap: str, *, topic: str = TOPIC, timeout_s: float = 30.0) -> int:
    """Send all that waits, unless another process is at it; how many events.

    Cut off, it is sent again with the same ids, by which readers know it. Raises `AppendFailed`, `KafkaUnavailable`.
    """
    try:
        with _locked(home, "sender", fcntl.LOCK_EX | fcntl.LOCK_NB):
            if not _waits(home):
                return 0
            with _appender(bootstrap, topic, timeout_s) as appender:
                return send_by(home, appender.append_many, topic)
    except BlockingIOError:
        return 0


def _appender(bootstrap: str, topic: str, timeout_s: float) -> Appender:
    topics = load_topics().only(TOPIC).with_prefix(topic.removesuffix(TOPIC))
    return Appender(bootstrap, topics, "chimera-security", delivery_timeout_s=timeout_s)


def _waits(home: Path) -> bool:
    return figures(home).waiting_bytes > 0


def send_by(home: Path, append_many: Callable[[Sequence[Entry]], object], topic: str = TOPIC) -> int:
    """Send what waits, for the only sender of the home; how many. What was taken before and not sent goes first.

    Raises what `append_many` raises; then all of it is still there.
    """
    waiting, sending, sent = home / FOLDER / "waiting.jsonl", home / FOLDER / "sending.jsonl", 0
    for _ in range(2):
        if not sending.exists():
            with _locked(home, "lock"):
                if not waiting.exists():
                    break
                waiting.replace(sending)
        lines = sending.read_bytes().splitlines()
        found = [(line, read_line(line)) for line in lines if line.strip()]
        for line, event in found:
            if event is None:
                log.error("a line of %s is no security event and is left out: %r", sending, line[:300])
        events = gathered(event for _, event in found if event is not None)
        for start in range(0, len(events), _CHUNK):
            wires = [event.wire() for event in events[start : start + _CHUNK]]
            append_many([Entry(topic, wire.key, wire.value, wire.headers, None) for wire in wires])
        sending.unlink()
        sent += len(events)
    return sent


class Told(NamedTuple):
    """A security event as the topic holds it. `appended`: the broker's clock, ms since 1970."""

    offset: int
    appended: int
    id: str
    tenant: str
    said: SecurityNoted


def newest(bootstrap: str, most: int, *, topic: str = TOPIC) -> list[Told]:
    """The events among the newest `most` records, oldest first, each once. Needs Kafka alone. Raises what reading raises."""
    (end,) = end_offsets(bootstrap, topic, [0]).values()
    found: dict[str, Told] = {}
    for batch in read_until(bootstrap, topic, [0], {0: max(0, end - most)}, {0: end}):
        for raw in batch:
            said, headers = security_of(raw), dict(raw.headers)
            if said is not None:
                id_ = headers.get("ce_id", b"").decode(errors="replace")
                told = Told(raw.offset, raw.append_ts, id_, (raw.key or b"").decode(errors="replace"), said)
                found.setdefault(id_, told)  # sent twice where a sender was cut off
    return list(found.values())


class Sender:
    """Sends what any process of this home has noted, from a thread of its own, until closed. A broker that is away is asked again.

    Of several in one home one sends; the others stand by.
    """

    def __init__(self, home: Path, bootstrap: Callable[[], str], *, topic: str = TOPIC, every_s: float = SEND_EVERY_S) -> None:
        self._home, self._bootstrap, self._topic, self._every_s = home, bootstrap, topic, every_s
        self._stop = threading.Event()
        self._appender: Appender | None = None
        self._troubled = False
        self._thread = threading.Thread(target=self._run, name="security", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        self._thread.join(10.0)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with _locked(self._home, "sender", fcntl.LOCK_EX | fcntl.LOCK_NB):
                    self._serve()
            except (BlockingIOError, OSError) as error:
                log.debug("%s: %s", self._home / FOLDER, error)  # another sends, or the directory cannot be had: ask again
                self._stop.wait(self._every_s)

    def _serve(self) -> None:
        """Send, until closed; once more at the end."""
        last = False
        try:
            while not last:
                last = self._stop.wait(self._every_s)
                self._round()
        finally:
            self._let_go()

    def _round(self) -> None:
        if not _waits(self._home):
            return
        try:
            if self._appender is None:
                self._appender = _appender(self._bootstrap(), self._topic, 5.0)
            send_by(self._home, self._appender.append_many, self._topic)
            self._troubled = False
        except ChimeraError as error:
            if not self._troubled:
                log.warning("security events wait in %s: %s", self._home / FOLDER, error)
            self._troubled = True
            self._let_go()  # a dead producer never appends again

    def _let_go(self) -> None:
        appender, self._appender = self._appender, None
        if appender is not None:
            try:
                appender.close(1.0)
            except ChimeraError as error:
                log.debug("%s", error)
