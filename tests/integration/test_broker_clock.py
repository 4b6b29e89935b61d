"""Timers after a restart on a log that nobody writes to, on a real broker."""

from __future__ import annotations

import asyncio
import time

import pytest
from confluent_kafka import Consumer, TopicPartition

from chimera.events import records as rec
from chimera.processors.runtime import PINGS
from tests.integration.stage import Stage, open_stage

pytestmark = pytest.mark.timeout(120)
EXPIRY_MS = 6_000


def wall_ms() -> int:
    """The broker runs on this machine: its clock is this one."""
    return int(time.time() * 1000)


def pings(stage: Stage) -> int:
    consumer = Consumer({"bootstrap.servers": str(stage.settings.kafka), "group.id": "test"})
    try:
        return int(consumer.get_watermark_offsets(TopicPartition(PINGS, 0), timeout=10)[1])
    finally:
        consumer.close()


def test_a_card_whose_time_ran_out_while_nobody_was_there_expires_as_soon_as_somebody_is() -> None:
    """Without the broker's word the newest record is all a planner knows of the time: the card would get its time again."""
    with open_stage() as stage:
        key = stage.enrol("quiet", expiry_ms=EXPIRY_MS, approve_above=1.0)
        stage.plan(key, 1)
        stage.approve(key, 1, "Nobody will read this card in time.", becomes="people")
        opened = stage.effect(key, 1).opened_ts
        last = stage.seen[-1][0].append_ts

        async def story() -> None:
            await stage.until(lambda: wall_ms() > opened + EXPIRY_MS, "its time has run out")
            assert stage.seen[-1][0].append_ts == last, "the log was silent"
            began = wall_ms()
            async with stage.role("brain"):
                await stage.until(lambda: stage.said(key, rec.Expired), "the card expires")
            assert stage.at(key, rec.Expired)[0] - began < EXPIRY_MS

        asyncio.run(asyncio.wait_for(story(), 60))
        assert pings(stage) == 1, "one word from the broker is enough"
