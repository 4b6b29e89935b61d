"""Asking a running command service: HTTP over the Unix socket of its home, or over TCP with a token.

The rule not to break: a verb is sent at most twice, and the second time with the same id, so that it cannot count twice. Nothing
heavy is imported here: a command line that finds a service must not pay for the fold.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import orjson

from chimera.commands.decision import Refused
from chimera.commands.verbs import Reply, Verb
from chimera.errors import ChimeraError

SOCKET = Path("run") / "command.sock"
"""Where a home's command service listens, below the home."""
VERBS_PATH = "/v1/verbs"
HEALTH_PATH = "/healthz"
TIMEOUT_S = 90.0
"""Longer than an append may take (`Appender`), so that the service's own answer is what one gets."""
_BROKEN = (ConnectionError, http.client.BadStatusLine, http.client.IncompleteRead)


class NoService(ChimeraError):
    """No command service answers where one was looked for."""


class CommandFailed(ChimeraError):
    """What the command service said when it could not answer."""


class NobodyCalledThat(CommandFailed):
    """No agent has that name, or several have; the message names others, of whatever tenants."""


class Client:
    """One connection to a command service, kept open between verbs; for one thread.

    `address` is the path of its socket, or `http://host:port` with `token`. Raises `NoService` when nobody answers there.
    """

    def __init__(self, address: Path | str, *, token: str | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self._address = address
        self._token = token
        self._timeout_s = timeout_s
        self._connection = self._connect()

    def ask(self, verb: Verb) -> Reply:
        """The verb's reply. Raises `Refused`, `CommandFailed`, and `NoService` where the service went away for good.

        After `NoService` the verb may have counted all the same; handing it in elsewhere with the same id is safe.
        """
        status, body = self._request("POST", VERBS_PATH, verb.model_dump_json().encode())
        try:
            reply = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise CommandFailed(f"the command service at {self._address} answered {status} without JSON: is it one?") from error
        if status == 200:
            return reply  # type: ignore[no-any-return]
        message = str(reply.get("error", f"status {status}"))
        if reply.get("kind") == "refused":
            raise Refused(message)
        if reply.get("kind") == "unknown":
            raise NobodyCalledThat(message)
        raise CommandFailed(message)

    def health(self) -> Reply:
        """What the service says of itself."""
        _, body = self._request("GET", HEALTH_PATH, None)
        return orjson.loads(body)  # type: ignore[no-any-return]

    def close(self) -> None:
        """Let the connection go."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _request(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._token}"} if self._token else {})
        for last in (False, True):
            try:
                self._connection.request(method, path, body, headers)
                response = self._connection.getresponse()
                return response.status, response.read()
            except TimeoutError:
                self._connection.close()
                raise CommandFailed(
                    f"the command service at {self._address} gave no answer within {self._timeout_s:g} s: the command may count "
                    "all the same; look, and give it again, which is harmless"
                ) from None
            except _BROKEN as error:
                self._connection.close()
                if last:
                    raise NoService(f"the command service at {self._address} broke off twice ({error!r})") from error
                self._connection = self._connect()
        raise AssertionError("unreachable")

    def _connect(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection
        if isinstance(self._address, Path):
            connection = _UnixConnection(self._address, self._timeout_s)
        else:
            parts = urlsplit(self._address)
            made = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
            connection = made(parts.hostname or "127.0.0.1", parts.port, timeout=self._timeout_s)
        try:
            connection.connect()
        except OSError as error:
            raise NoService(f"no command service answers at {self._address} ({error.strerror or error})") from error
        return connection


def find(home: Path) -> Client | None:
    """A client of the command service that runs in this home; None when none does."""
    try:
        return Client(home / SOCKET)
    except NoService:
        return None


def answers(home: Path) -> bool:
    """Does a command service in this home answer now?"""
    try:
        with Client(home / SOCKET, timeout_s=1.0) as client:
            return bool(client.health().get("ok"))
    except ChimeraError:
        return False


@contextlib.contextmanager
def reachable(path: Path) -> Iterator[str]:
    """A socket's address that is short enough for the kernel (108 bytes), however deep its home lies."""
    if len(os.fsencode(path)) < 100:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.settimeout(self.timeout)
        try:
            with reachable(self._path) as address:
                made.connect(address)
        except OSError:
            made.close()
            raise
        self.sock = made
