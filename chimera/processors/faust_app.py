"""Faust as what it is good at: consumer groups, assignment, timers. Its offsets mean nothing to us.

On assignment `seek_to_committed` of our consumer first catches every partition up to its end (confluent-kafka, in a thread)
and then seeks Faust to exactly the next offset; `perform_seek` is the one place where a seek is not overwritten.
The rule not to break: no record reaches the fold twice or with one missing, whatever rebalances do.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import faust
import mode
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from chimera.eventlog.trickle import Trickle
from chimera.events.raw import RawRecord
from chimera.processors.membership import REBALANCE_TIMEOUT_S, SESSION_TIMEOUT_S
from chimera.processors.swarm import HoleInLog

log = logging.getLogger(__name__)

BATCH = 500
"""Records folded in one go at most: the event loop is not held up for longer than that takes."""
FETCH_BYTES = 128 * 1024
"""Of a partition in one answer. Before our seek aiokafka fetches the beginning of the log, and then holds so much per partition."""

BUSY_PER_S, CALM_PER_S, GATHER_S = 100.0, 60.0, 0.025
"""From so many records a second on, until they are so few again, the broker is asked again only so long after an answer. That is
earlier and longer than other readers pause: what a fetch costs broker and aiokafka is the dearest part of a record here, and nobody
waits for a processor alone: commands are answered, and rows made, by processes that read for themselves."""


def build_app(
    *,
    group: str,
    bootstrap: str,
    topic: str,
    datadir: Path,
    instance: str | None,
    take_over: Callable[[set[int]], Awaitable[Mapping[int, int]]],
    revoked: Callable[[], None],
    folded: Callable[[list[RawRecord]], None],
    begin: Callable[[], Awaitable[None]],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> faust.App:
    """A Faust app that follows one topic.

    Args:
        take_over: given the partitions now assigned, catches them up and returns each one's next offset; nothing where another
            assignment came meanwhile, whose own call follows.
        revoked: a rebalance begins.
        folded: a batch of records, in partition order.
        begin: called once when the app has started.
        clock, sleep: seconds of a steady clock, and how a pause is made.
    """

    pace = Trickle(BUSY_PER_S, CALM_PER_S)

    class Consumer(driver.Consumer):
        async def seek_to_committed(self) -> Mapping[TP, int]:
            ours = {tp for tp in self.assignment() if tp.topic == topic}
            offsets = await take_over({tp.partition for tp in ours})
            seeks = {tp: offsets[tp.partition] for tp in ours if tp.partition in offsets}
            if seeks:
                await self._thread.seek_wait(seeks)
            return seeks

        async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:
            """Whole batches go to the fold as they come: through a stream of events each record costs more than its fold does."""
            records, active = await self._wait_next_records(timeout)
            pace.saw(sum(map(len, records.values())) if records else 0, clock())
            if self.should_stop or not records:
                return
            if not self.flow_active:  # fetched, but a rebalance began meanwhile: they are read again from where the fold stands
                try:
                    await self.perform_seek()
                except Exception:
                    log.warning("a rebalance went on while seeking: its end seeks again", exc_info=True)
                return
            folded([_raw(record) for tp, batch in records.items() if active is None or tp in active for record in batch])
            if pace.busy:  # aiokafka asks the broker again when all that it fetched is taken: what comes meanwhile shares an answer
                await sleep(GATHER_S)
            left_for_streams: tuple[tuple[TP, Any], ...] = ()
            for each in left_for_streams:
                yield each

        async def on_partitions_revoked(self, revoked_now: set[TP]) -> None:
            revoked()
            await super().on_partitions_revoked(revoked_now)

    class Transport(driver.Transport):
        pass

    Transport.Consumer = Consumer
    app = faust.App(
        group,
        broker=f"kafka://{bootstrap}",
        store="memory://",
        datadir=str(datadir),
        key_serializer="raw",
        value_serializer="raw",
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        stream_buffer_maxsize=4096,
        stream_wait_empty=False,
        broker_commit_interval=5.0,
        broker_max_poll_records=BATCH,
        consumer_max_fetch_size=FETCH_BYTES,
        broker_session_timeout=SESSION_TIMEOUT_S,
        broker_heartbeat_interval=2.0,
        broker_rebalance_timeout=REBALANCE_TIMEOUT_S,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=instance,
        web_enabled=False,
        cython_optimizations=True,
        supervisor=mode.CrashingSupervisor,
        agent_supervisor=mode.CrashingSupervisor,
    )
    app.transport = Transport(app.conf.broker, app)
    source = app.topic(topic, key_type=bytes, value_type=bytes)

    @app.agent(source, concurrency=1, supervisor_strategy=mode.CrashingSupervisor)
    async def follow(stream: Any) -> None:
        """What subscribes the app to the topic; its records are folded where they are fetched (`Consumer.getmany`)."""
        async for event in stream:
            raise HoleInLog(f"{event.message.topic}[{event.message.partition}]@{event.message.offset} came by the stream")

    @app.task  # type: ignore[untyped-decorator]
    async def start() -> None:
        await begin()

    return app


def _raw(record: Any) -> RawRecord:
    """aiokafka's record as the broker's: the raw header list, append time in milliseconds."""
    return RawRecord(
        record.topic,
        record.partition,
        record.offset,
        record.timestamp,
        record.key,
        record.value,
        list(record.headers or ()),
    )
