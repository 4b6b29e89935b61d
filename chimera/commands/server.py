"""The long-running command service: one fold that follows the whole log, and a door to its desk for whoever may come in.

Locally that is a Unix socket in the home, open to its owner alone (mode 0600; the peer's uid is logged with every command). Over
TCP, where the settings ask for it, only who shows a token comes in, and speaks for the name that the token is filed under.

The rule not to break: it needs Kafka and nothing else, so that an agent can be paused while the database is down.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import hashlib
import hmac
import ipaddress
import logging
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from chimera.commands import verbs
from chimera.commands.client import HEALTH_PATH, SOCKET, VERBS_PATH, reachable
from chimera.commands.courier import Courier, carrying
from chimera.commands.decision import NotEntitled, Refused
from chimera.commands.desk import Desk
from chimera.commands.keys import LOG, KeyTrouble
from chimera.commands.room import Seen
from chimera.commands.security import Sender, figures, note
from chimera.commands.wiring import open_history, open_service
from chimera.errors import ChimeraError
from chimera.eventlog.ends import Ends
from chimera.events.envelope import Record
from chimera.events.security import TOPIC, Noted, noted
from chimera.events.state import Ruling
from chimera.observe import logs
from chimera.observe.look import Look
from chimera.observe.watch import Watch
from chimera.settings import Settings
from chimera.stack.addresses import load_kafka

log = logging.getLogger(__name__)

LARGEST_BODY = 32 * 1024 * 1024
AT_ONCE = 64
"""Verbs under way at the same time; more wait their turn."""
FOLLOW_S = 0.05
"""How often what has arrived is folded while nobody asks."""
TELL_S = 0.5
TOKENS = Path("keys") / "tokens"
SHORTEST_TOKEN = 32


class AlreadyServed(ChimeraError):
    """Another process serves this home's commands."""


class Tokens:
    """`home/keys/tokens` (mode 0600): one `name token` per line. Read again when it changes, so a line taken out ends its use."""

    def __init__(self, home: Path) -> None:
        self._path = home / TOKENS
        self._stamp: tuple[int, int, int] | None = None
        self._digests: list[tuple[str, bytes]] = []
        self.load()

    def load(self) -> None:
        """Read the file where it changed. Raises `KeyTrouble` for a file that is missing, open to others, or not in this form."""
        try:
            found = self._path.stat()
            stamp = (found.st_mtime_ns, found.st_ino, found.st_mode)
            if stamp == self._stamp:
                return
            if found.st_mode & 0o077:
                raise KeyTrouble(f"{self._path} may be read by others: run `chmod 600 {self._path}`")
            lines = self._path.read_text().splitlines()
        except OSError as error:
            raise KeyTrouble(
                f"{self._path} cannot be read ({error.strerror}): write `name token` lines, mode 0600, or unset command_listen"
            ) from error
        digests = []
        for number, line in enumerate(lines, start=1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            name, _, token = line.strip().partition(" ")
            if len(token.strip()) < SHORTEST_TOKEN:
                raise KeyTrouble(f"{self._path}, line {number}: not `name token` with at least {SHORTEST_TOKEN} signs of token")
            digests.append((name, hashlib.sha256(token.strip().encode()).digest()))
        self._stamp, self._digests = stamp, digests

    def name_of(self, token: str) -> str | None:
        """Whose token that is. Takes as long for a wrong one as for a right one."""
        self.load()
        shown, found = hashlib.sha256(token.encode()).digest(), None
        for name, known in self._digests:
            if hmac.compare_digest(shown, known):
                found = name
        return found


class _PeerProtocol(H11Protocol):
    """HTTP that remembers who is at the other end of a Unix socket."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "peer_uid": _peer_uid(transport.get_extra_info("socket"))}


def _peer_uid(connection: Any) -> int | None:
    """The uid of the process that connected; None for TCP."""
    if connection is None or connection.family != socket.AF_UNIX:
        return None
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


# --- the door --------------------------------------------------------------------------------------------------------


def application(desk: Desk, tokens: Tokens | None, home: Path) -> Starlette:
    """The web application: one address for verbs, one for health. Who is turned away is noted in `home`."""
    room = asyncio.Semaphore(AT_ONCE)
    started = time.time()

    async def verbs_(request: Request) -> Response:
        who = _who(request, tokens)
        if who is None:
            note(home, _turned_away(request))
            return _json(401, {"kind": "unauthorized", "error": "unauthorized"})
        body = await _body(request)
        if body is None:
            return _json(413, {"kind": "failed", "error": f"a verb holds at most {LARGEST_BODY} bytes: send it in parts"})
        async with room:
            return await asyncio.to_thread(_perform, desk, body, who, home)

    async def health(request: Request) -> Response:
        if _who(request, tokens) is None:
            note(home, _turned_away(request))
            return _json(401, {"kind": "unauthorized", "error": "unauthorized"})
        offsets = desk.service.offsets
        body = {
            "ok": True,
            "pid": os.getpid(),
            "topic": desk.service.topic,
            "started": started,
            "folded": sum(offsets.values()),
            "offsets": offsets,
            "from_snapshots": not desk.service.whole,
            "signing": desk.service.keys.command.id,
        }
        return _json(200, body)

    routes = [Route(VERBS_PATH, verbs_, methods=["POST"]), Route(HEALTH_PATH, health, methods=["GET"])]
    return Starlette(routes=routes)


class _Who:
    """Who is at the door: `name` where a token says so (then the only actor), and a word for the log."""

    def __init__(self, name: str | None, word: str) -> None:
        self.name = name
        self.word = word


def _who(request: Request, tokens: Tokens | None) -> _Who | None:
    uid = request.scope.get("state", {}).get("peer_uid")
    if uid is not None:
        return _Who(None, f"uid {uid}")
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    try:
        name = tokens.name_of(token.strip()) if tokens is not None and scheme.lower() == "bearer" else None
    except KeyTrouble as error:
        log.error("%s; nobody comes in over TCP until then", error)
        return None
    return None if name is None else _Who(name, f"token of {name}")


def _turned_away(request: Request) -> Noted:
    origin, shown = request.client.host if request.client else "", "authorization" in request.headers
    reason = "no_such_token" if shown else "no_token"
    return noted("token_refused", door="command_service", outcome="refused", origin=origin, reason=reason)


async def _body(request: Request) -> bytes | None:
    """The request's body; None where it is larger than any verb."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > LARGEST_BODY:
            return None
        parts.append(part)
    return b"".join(parts)


def _perform(desk: Desk, body: bytes, who: _Who, home: Path) -> Response:
    began = time.monotonic()
    name = "?"
    try:
        verb = verbs.read_verb(body)
        name = verb.verb
        if isinstance(verb, verbs.Wish):
            if who.name is not None and verb.actor != who.name:
                note(home, _not_as(who.name, verb))
                raise NotEntitled(f"the token of '{who.name}' gives commands as '{who.name}' only, not as '{verb.actor}'")
            log.info("%s %s as %s by %s", name, verb.id, verb.actor, who.word)
        reply = desk.perform(verb)
    except verbs.BadVerb as error:
        return _json(400, {"kind": "failed", "error": str(error)})
    except Refused as refusal:
        return _json(409, {"kind": "refused", "error": str(refusal)})
    except ChimeraError as error:
        log.warning("%s failed after %.1f s: %s", name, time.monotonic() - began, error)
        return _json(503, {"kind": "failed", "error": str(error)})
    except Exception:
        log.exception("%s failed", name)
        return _json(500, {"kind": "failed", "error": f"the command service failed at {name}: its log says why"})
    return _json(200, reply)


def _not_as(name: str, verb: verbs.Verb) -> Noted:
    """Somebody with a token speaks for somebody else."""
    return noted("command_refused", door="command_service", who=name, outcome="refused", action=verb.verb, reason="not_their_name")


def _json(status: int, body: Mapping[str, Any]) -> Response:
    content = orjson.dumps(body, default=str, option=orjson.OPT_NON_STR_KEYS)
    return Response(content, status_code=status, media_type="application/json", headers={"Cache-Control": "no-store"})


# --- the process -----------------------------------------------------------------------------------------------------


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
        with _doors(settings) as doors:
            web = _Web(application(desk, tokens, settings.home), doors)
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
                    service.refresh_key()
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


class _Web:
    """uvicorn in a thread of its own, since signals and the fold belong to the process's main thread."""

    def __init__(self, app: Starlette, doors: Sequence[socket.socket]) -> None:
        config = uvicorn.Config(
            app,
            http=_PeerProtocol,
            ws="none",
            lifespan="off",
            log_level="warning",
            access_log=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=10,
            backlog=512,
            server_header=False,
        )
        self._server = uvicorn.Server(config)
        self._doors = list(doors)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="command-web")

    def start(self) -> None:
        """Return when it accepts connections."""
        self._thread.start()
        while not self._server.started:
            self.check()
            time.sleep(0.005)

    def check(self) -> None:
        """Raise what ended it, if it ended by itself."""
        if not self._thread.is_alive():
            raise ChimeraError(f"the command service's web server ended: {self._error!r}") from self._error

    def close(self) -> None:
        """Answer what is under way, then end."""
        self._server.should_exit = True
        self._thread.join(30)

    def _run(self) -> None:
        try:
            asyncio.run(self._server.serve(sockets=self._doors))
        except BaseException as error:  # noqa: BLE001  # told by check()
            self._error = error


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


@contextlib.contextmanager
def _doors(settings: Settings) -> Iterator[list[socket.socket]]:
    path = settings.home / SOCKET
    with contextlib.ExitStack() as stack:
        doors = [stack.enter_context(_unix_door(path))]
        if settings.command_listen is not None:
            doors.append(stack.enter_context(contextlib.closing(_tcp_door(settings.command_listen))))
        yield doors


@contextlib.contextmanager
def _unix_door(path: Path) -> Iterator[socket.socket]:
    """A listening Unix socket that nobody but its owner can open, from its first instant on."""
    path.unlink(missing_ok=True)  # whose lock we hold: it was left by one that was killed
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # fchmod before bind decides the mode that the file gets: no moment in which others could open it, and no umask changed.
        os.fchmod(door.fileno(), 0o600)
        with reachable(path) as address:
            door.bind(address)
        path.chmod(0o600)
        door.listen(512)
        yield door
    finally:
        door.close()
        path.unlink(missing_ok=True)


def _tcp_door(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal():
        raise ChimeraError(f"command_listen '{address}' is no address: write host:port, e.g. 127.0.0.1:7433")
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    except ValueError:
        family = socket.AF_INET
    # The protocol is named because asyncio sets TCP_NODELAY only then.
    door = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        door.bind((host, int(port)))
        door.listen(512)
    except OSError as error:
        door.close()
        raise ChimeraError(f"the command service cannot listen on {address} ({error.strerror}): choose another address") from None
    return door
