"""Episodes for tests: a real Valkey, and records as the read model of events has them.

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

import orjson
import psycopg
import pytest

from chimera.events.sealed import seal
from chimera.memory.episodes.valkey import Server
from chimera.stack import valkey
from chimera.stack.supervisor import Supervisor
from tests.memoryhouse import AVA, Keys

NOW_MS = 4_000_000_000_000
"""A time to come: the server's own clock lets nothing go meanwhile."""


class Running(NamedTuple):
    """A Valkey that its supervisor starts again when it dies."""

    server: Server
    supervisor: Supervisor

    def kill(self) -> None:
        """kill -9."""
        [state] = self.supervisor.states()
        assert state.pid is not None
        os.kill(state.pid, 9)


@contextmanager
def valkey_server() -> Iterator[Running]:
    """Skips the test where the extra `cache` is not installed."""
    binary = valkey.binary()
    if binary is None:
        pytest.skip("the extra 'cache' is not installed")
    home = Path(tempfile.mkdtemp(prefix="chimera-test-valkey-"))
    supervisor = Supervisor(home / "logs")
    try:
        child = valkey.prepare_valkey(home, binary)
        supervisor.start()
        supervisor.add([child])
        url = valkey.address_in(home)
        assert url is not None
        yield Running(Server(url, home / valkey.KEY), supervisor)
    finally:
        supervisor.stop()
        shutil.rmtree(home, ignore_errors=True)


class EventTable:
    """`core.events` and its checkpoints, written as a projector writes them."""

    def __init__(self, dsn: str, partitions: int) -> None:
        self._connection = psycopg.connect(dsn, autocommit=True)
        self._next = [0] * partitions

    def add(
        self,
        type_: str,
        data: dict[str, object],
        *,
        agent: str = AVA,
        tenant: str = "acme",
        outcome: str = "applied",
        reason: str = "",
        ts: int = NOW_MS,
        partition: int = 0,
        ordinal: int | None = None,
    ) -> tuple[int, int]:
        """One record with its ruling; its place. It counts as written at the next `written`."""
        offset = self._next[partition]
        self._next[partition] += 1
        self._connection.execute(
            "INSERT INTO core.events VALUES (%s, %s, %s, 1, %s, 'test', '', '', 1, %s, 1, %s, %s, 1, %s,"
            " to_timestamp(%s / 1000.0), %s, %s)",
            (agent, f"r-{partition}-{offset}", type_, tenant, ordinal, outcome, reason, orjson.dumps(data).decode(), ts, partition,
             offset),
        )  # fmt: skip
        return partition, offset

    def heard(self, thread: str, words: str, keys: Keys, *, subject: str = "person/mia", **more: object) -> tuple[int, int]:
        """Somebody said something to an agent."""
        text = seal(keys, subject, words).model_dump()
        item = {"thread": thread, "external_id": "1", "author": text, "text": text, "observed_at": 1, "taint": "open"}
        return self.add("SignalObserved", {"source": "x/social.mentions", "items": [item]}, **more)  # type: ignore[arg-type]

    def written(self, topic: str) -> None:
        """The projector's transaction over the log of that name is over."""
        for partition, offset in enumerate(self._next):
            self._connection.execute(
                "INSERT INTO core.checkpoints (model_set, topic, partition, next_offset, law) VALUES ('core', %s, %s, %s, 1)"
                " ON CONFLICT (model_set, topic, partition) DO UPDATE SET next_offset = EXCLUDED.next_offset",
                (topic, partition, offset),
            )

    def close(self) -> None:
        self._connection.close()
