"""The way from the desk to the command service: its verbs, asked from worker threads over a few kept connections."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chimera.commands import verbs
from chimera.commands.client import SOCKET, Client, NobodyCalledThat
from chimera.commands.decision import Refused
from chimera.commands.verbs import Reply
from chimera.errors import ChimeraError

ANSWER_S = 20.0


class Asking:
    """Hands verbs in. A connection serves one verb at a time; as many are kept as were ever needed at once."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._kept: queue.SimpleQueue[Client] = queue.SimpleQueue()

    async def ask(self, verb: verbs.Verb) -> Reply:
        """The verb's reply. Raises `Refused`, `NoService` and what else a client raises.

        Raises `LookupError` where nobody is called so: the service would name others, and knows no tenants of who looks here.
        """
        return await asyncio.to_thread(self._ask, verb)

    def close(self) -> None:
        """Let all connections go."""
        while True:
            try:
                self._kept.get_nowait().close()
            except queue.Empty:
                return

    def _ask(self, verb: verbs.Verb) -> Reply:
        with self._client() as client:
            try:
                return client.ask(verb)
            except NobodyCalledThat:
                raise LookupError("there is nothing like that here") from None

    @contextmanager
    def _client(self) -> Iterator[Client]:
        try:
            client = self._kept.get_nowait()
        except queue.Empty:
            client = Client(self._home / SOCKET, timeout_s=ANSWER_S)
        try:
            yield client
        except (Refused, LookupError):
            self._kept.put(client)  # an answer like any other
            raise
        except ChimeraError:
            client.close()
            raise
        self._kept.put(client)
