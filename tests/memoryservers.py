"""Servers of memory for the tests: a real Weaviate where one was built.

The rule not to break: what is started here is ended here, and `kill` is a kill -9 of the real process.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chimera.memory.weaviate import Place
from chimera.stack.supervisor import Supervisor
from chimera.stack.weaviate import KEY, prepare_weaviate


class Server:
    """A running Weaviate."""

    def __init__(self, home: Path, binary: Path) -> None:
        self._home, self._binary = home, binary
        self.begin()

    def begin(self) -> None:
        """Start it on what it keeps, and wait until it answers."""
        server = prepare_weaviate(self._home, self._binary)
        self.place = Place(server.http, server.grpc, self._home / KEY)
        self._supervisor = Supervisor(self._home / "logs")
        self._supervisor.start()
        self._supervisor.add([server.child])

    def kill(self) -> None:
        """kill -9, and nobody starts it again."""
        [state] = self._supervisor.states()
        assert state.pid is not None
        os.kill(state.pid, 9)
        self.stop()

    def stop(self) -> None:
        """End it."""
        self._supervisor.stop()


@contextmanager
def weaviate_server() -> Iterator[Server]:
    """Skips the test where no server was built."""
    binary = os.environ.get("CHIMERA_TEST_WEAVIATE")
    if not binary or not Path(binary).exists():
        pytest.skip("CHIMERA_TEST_WEAVIATE names no built Weaviate (`chimera stack add weaviate` builds one)")
    home = Path(tempfile.mkdtemp(prefix="chimera-test-weaviate-"))
    try:
        server = Server(home, Path(binary))
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(home, ignore_errors=True)
