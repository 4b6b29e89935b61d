"""Faust as what it is good at: consumer groups, assignment, timers. Its offsets mean nothing to us.

On assignment `seek_to_committed` of our consumer first catches every partition up to its end (confluent-kafka, in a thread)
and then seeks Faust to exactly the next offset; `perform_seek` is the one place where a seek is not overwritten.
The rule not to break: no record reaches the fold twice or with one missing, whatever rebalances do.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import faust
import mode
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from chimera.events.raw import RawRecord
from chimera.processors.membership import REBALANCE_TIMEOUT_S, SESSION_TIMEOUT_S

log = logging.getLogger(__name__)

BATCH = 500
WITHIN_S = 0.005


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
) -> faust.App:
    """A Faust app that follows one topic.

    Args:
        take_over: given the partitions now assigned, catches them up and returns each one's next offset; nothing where another
            assignment came meanwhile, whose own call follows.
        revoked: a rebalance begins.
        folded: a batch of records, in partition order.
        begin: called once when the app has started.
    """

    class Consumer(driver.Consumer):
        async def seek_to_committed(self) -> Mapping[TP, int]:
            ours = {tp for tp in self.assignment() if tp.topic == topic}
            offsets = await take_over({tp.partition for tp in ours})
            seeks = {tp: offsets[tp.partition] for tp in ours if tp.partition in offsets}
            if seeks:
                await self._thread.seek_wait(seeks)
            return seeks

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
        async for events in stream.noack_take(BATCH, within=WITHIN_S):
            folded([_raw(event.message) for event in events])

    @app.task  # type: ignore[untyped-decorator]
    async def start() -> None:
        await begin()

    return app


def _raw(message: Any) -> RawRecord:
    """Faust's message as the broker's record: the raw header list, append time in whole milliseconds."""
    return RawRecord(
        message.topic,
        message.partition,
        message.offset,
        round(message.timestamp * 1000),
        message.key,
        message.value,
        list(message.headers or ()),
    )
