"""The command service as a process: one fold that follows the whole log, and a door to its desk for whoever may come in.

Locally that is a Unix socket in the home, open to its owner alone (mode 0600; the peer's uid is logged with every command). Over
TCP, where the settings ask for it, only who shows a token comes in, and speaks for the name that the token is filed under.

The rule not to break: it needs Kafka and nothing else, so that an agent can be paused while the database is down.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from chimera.commands.client import SOCKET
from chimera.commands.courier import Courier, carrying
from chimera.commands.desk import Desk
from chimera.commands.door import application
from chimera.commands.keys import LOG
from chimera.commands.listening import Web, doors
from chimera.commands.room import Seen
from chimera.commands.security import Sender, figures
from chimera.commands.tokens import Tokens
from chimera.commands.wiring import open_history, open_service
from chimera.errors import ChimeraError
from chimera.eventlog.ends import Ends
from chimera.events.envelope import Record
from chimera.events.security import TOPIC
from chimera.events.state import Ruling
from chimera.observe import logs
from chimera.observe.look import Look
from chimera.observe.watch import Watch
from chimera.settings import Settings
from chimera.stack.addresses import load_kafka

log = logging.getLogger(__name__)

FOLLOW_S = 0.05
"""How often what has arrived is folded while nobody asks."""
TELL_S = 0.5


class AlreadyServed(ChimeraError):
    """Another process serves this home's commands."""


def run(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C. Raises `ChimeraError` where serving would be wrong."""
    logs.set_up("command", settings)
    # Folded agents live as long as the process, so looking at all of them for garbage only makes commands wait; and a thread that
    # has an answer to hand on must not wait 5 ms (the default) for its turn.
    gc.set_threshold(100_000, 20, 50)
    sys.setswitchinterval(0.0005)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    # A hang-up asks servers to read their files again. The key's is looked at all the time, so all it must not do is end us.
    signal.signal(signal.SIGHUP, lambda *_: None)
    serve(settings, stop)


def serve(settings: Settings, stop: threading.Event, *, ready: threading.Event | None = None) -> None:
    """Fold the log, open the doors, follow until `stop`. `ready` is set when the doors are open.

    Raises `AlreadyServed`, `KeyTrouble`, `StackDown`, `TopicDrift`, what reading raises, and `ChimeraError` for an address
    that cannot be listened on.
    """
    tokens = Tokens(settings.home) if settings.command_listen is not None else None
    seen = Seen()
    courier = Courier()

    def observe(record: Record, ruling: Ruling) -> None:
        seen(record, ruling)
        courier.note(record, ruling)

    with (
        _only_one(settings.home),
        open_service(settings, observe=observe, from_snapshots=True) as service,
        open_history(settings) as history,
        carrying(courier, service) as check_courier,
        Sender(settings.home, lambda: load_kafka(settings), topic=service.topic.removesuffix(LOG) + TOPIC),
    ):
        desk = Desk(service, seen, settings.home, history)
        with doors(settings) as opened:
            web = Web(application(desk, tokens, settings.home), opened)
            web.start()
            log.info("serving %s with key %s", settings.home / SOCKET, service.keys.command.id)
            if ready is not None:
                ready.set()
            watch = Watch("command", settings.home, Ends(load_kafka(settings), service.topic, service.offsets).now)
            watch.start()
            told_at = 0.0
            try:
                while not stop.wait(FOLLOW_S):
                    service.drain()
                    if time.monotonic() - told_at >= TELL_S:
                        told_at, look = time.monotonic(), Look(positions=service.offsets, counts=_counts(courier, settings.home))
                        watch.write_status(watch.tell(look) | {"offsets": {str(p): at for p, at in look.positions.items()}})
                    service.signing.refresh()
                    web.check()
                    check_courier()
            finally:
                web.close()
                watch.close()


def _counts(courier: Courier, home: Path) -> dict[str, int]:
    """The courier's figures and those of security events that wait, for metrics and the status file."""
    copies, events = courier.figures, figures(home)
    told = {"copies_owed": copies.owed, "copies_held": copies.held, "copies_oldest_seconds": int(copies.oldest_s)}
    return told | {"security_waiting_bytes": events.waiting_bytes, "security_lost": events.lost}


@contextlib.contextmanager
def _only_one(home: Path) -> Iterator[None]:
    """One command service per home; the kernel's lock, so a killed one is no obstacle."""
    (home / SOCKET.parent).mkdir(parents=True, exist_ok=True, mode=0o700)
    fd = os.open(home / SOCKET.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
            raise AlreadyServed(f"a command service already runs in {home.resolve()} (pid {pid}): one is enough") from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(fd)
