"""How a brain's consumer hands records to the fold, and when it pauses: without a broker, batches come from the test."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord
from faust.types import TP

from chimera.events.raw import RawRecord
from chimera.processors.faust_app import BUSY_PER_S, GATHER_S, build_app

LOG = TP("chimera.log", 3)


class Brain:
    """A consumer whose batches and clock are given, and what it did: batches folded, pauses made."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.folded: list[list[int]] = []
        self.pauses: list[float] = []
        self._offset = 0
        app = build_app(
            group="brain", bootstrap="127.0.0.1:1", topic=LOG.topic, datadir=tmp_path, instance=None,
            take_over=self._nothing_taken, revoked=lambda: None, folded=self._fold, begin=self._begin,
            clock=lambda: self.now, sleep=self._sleep,
        )  # fmt: skip
        kind: Any = app.transport.Consumer
        self._consumer: Any = kind.__new__(kind)
        monkeypatch.setattr(type(self._consumer), "should_stop", False)
        self._consumer.flow_active = True
        self._consumer._wait_next_records = self._fetched

    async def _nothing_taken(self, partitions: set[int]) -> Mapping[int, int]:
        return {}

    async def _begin(self) -> None: ...

    def _fold(self, raws: list[RawRecord]) -> None:
        self.folded.append([raw.offset for raw in raws])

    async def _sleep(self, seconds: float) -> None:
        assert self.folded, "what was fetched is folded before anybody pauses"
        self.pauses.append(seconds)

    async def _fetched(self, timeout: float) -> tuple[dict[TP, list[Any]], set[TP]]:
        return self._batch, {LOG}

    async def fetch(self, records: int, after_s: float) -> None:
        """A fetch that comes so long after the one before and brings so many records."""
        self.now += after_s
        batch = [
            ConsumerRecord(LOG.topic, LOG.partition, self._offset + n, 0, 1, b"agent/a", b"{}", None, 7, 2, ())
            for n in range(records)
        ]
        self._offset += records
        self._batch = {LOG: batch} if batch else {}
        assert [each async for each in self._consumer.getmany(1.0)] == [], "nothing goes by the stream"


def test_a_brain_asks_again_at_once_while_little_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        brain = Brain(tmp_path, monkeypatch)
        for _ in range(int(3 * BUSY_PER_S)):
            await brain.fetch(1, 1.1 / BUSY_PER_S)
        assert [offset for batch in brain.folded for offset in batch] == list(range(int(3 * BUSY_PER_S)))
        assert not brain.pauses

    asyncio.run(scenario())


def test_a_brain_pauses_after_each_batch_while_much_comes_and_not_after_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        brain = Brain(tmp_path, monkeypatch)
        for _ in range(int(3 * BUSY_PER_S)):
            await brain.fetch(2, 1.0 / BUSY_PER_S)
        assert [offset for batch in brain.folded for offset in batch] == list(range(int(6 * BUSY_PER_S))), "none is missed"
        assert len(brain.pauses) > BUSY_PER_S
        assert set(brain.pauses) == {GATHER_S}
        paused = len(brain.pauses)
        await brain.fetch(0, 60.0)
        await brain.fetch(1, 1.0)
        assert len(brain.pauses) == paused, "it is calm again"

    asyncio.run(scenario())
