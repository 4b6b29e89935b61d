"""A broker that is away fills no disk: repeated lines are counted, not written."""

from __future__ import annotations

import logging

import pytest

from chimera.eventlog.clientlog import ClientLog


def test_a_line_is_said_once_and_then_counted_until_its_time_is_over(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    talk = ClientLog(logging.getLogger("kafka-test"), lambda: now[0])
    for _ in range(500):
        talk.log(logging.ERROR, "%s [%s] %s", "FAIL", "producer-1", "refused")
    talk.log(logging.ERROR, "%s [%s] %s", "FAIL", "producer-2", "refused")
    now[0] = 11.0
    talk.log(logging.ERROR, "%s [%s] %s", "FAIL", "producer-1", "refused")
    assert caplog.messages == [
        "FAIL [producer-1] refused",
        "FAIL [producer-2] refused",
        "FAIL [producer-1] refused (and 499 more like it)",
    ]
