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
from typing import NamedTuple

import pytest

from chimera.memory.weaviate import Place
from chimera.stack.supervisor import Supervisor
from chimera.stack.weaviate import KEY, prepare_weaviate


class Server(NamedTuple):
    """A running Weaviate that its supervisor starts again when it dies."""

    place: Place
    supervisor: Supervisor

    def kill(self) -> None:
        """kill -9."""
        [state] = self.supervisor.states()
        assert state.pid is not None
        os.kill(state.pid, 9)


@contextmanager
def weaviate_server() -> Iterator[Server]:
    """Skips the test where no server was built."""
    binary = os.environ.get("CHIMERA_TEST_WEAVIATE")
    if not binary or not Path(binary).exists():
        pytest.skip("CHIMERA_TEST_WEAVIATE names no built Weaviate (`chimera stack add weaviate` builds one)")
    home = Path(tempfile.mkdtemp(prefix="chimera-test-weaviate-"))
    supervisor = Supervisor(home / "logs")
    try:
        server = prepare_weaviate(home, Path(binary))
        supervisor.start()
        supervisor.add([server.child])
        yield Server(Place(server.http, server.grpc, home / KEY), supervisor)
    finally:
        supervisor.stop()
        shutil.rmtree(home, ignore_errors=True)
