"""A projector that is killed inside the COPY of calls or of platform numbers, and started again: no row is lost, none doubled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import psycopg

from chimera import failpoints
from chimera.commands.keys import log_topics
from chimera.eventlog.append import Appender
from chimera.eventlog.cluster import apply
from chimera.eventlog.topics import load_topics
from chimera.events.metrics import TOPIC as METRICS
from chimera.events.metrics import EngagementObserved, encode
from chimera.projections import calls
from chimera.projections.engine import Projector, catch_up
from chimera.projections.schema import migrate
from chimera.projections.verify import verify
from chimera.projections.write import FEW
from tests.integration.projection_data import History, enrol

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 90.0
EACH = FEW + 100
"""Records of each topic: more than travel without a COPY."""


def ended(process: subprocess.Popen[bytes], holds: Callable[[], bool]) -> int | None:
    """How the process ended; None once the condition holds, and then it was told to go."""
    deadline, pause = time.monotonic() + DEADLINE_S, threading.Event()
    while process.poll() is None and not holds():
        assert time.monotonic() < deadline, "neither died nor wrote everything in time"
        pause.wait(0.05)
    if process.poll() is None:
        process.kill()
        process.wait()
        return None
    return process.returncode


def test_a_projector_killed_inside_the_copies_of_calls_and_numbers_loses_nothing_and_doubles_nothing(
    kafka_bootstrap: str, make_database: Callable[[], str], tmp_path: Path
) -> None:
    dsn, prefix = make_database(), f"killed-{uuid.uuid4().hex[:8]}-"
    migrate(dsn)
    topics, h = load_topics().only(calls.CALLS, METRICS).with_prefix(prefix), History(f"{prefix}chimera.log")
    apply(kafka_bootstrap, topics)
    apply(kafka_bootstrap, log_topics(h.topic))
    agent = enrol(h, "ava")
    projector = Projector(kafka_bootstrap, dsn, h.root.public, topic=h.topic)
    catch_up(projector, h.send(kafka_bootstrap))  # nothing of the log is left to write: the next COPY is that of the calls
    projector.close()
    with Appender(kafka_bootstrap, topics, "test") as appender:
        for n in range(EACH):
            call = {"tenant": "acme", "result_class": "ok", "cost_usd": "0.5", "tool": str(n)}
            appender.append_blocking(prefix + calls.CALLS, agent, orjson.dumps(call), [])
            told = EngagementObserved(agent, "x", f"p{n % 50}", 1_795_000_000_000 + n, {"views": n, "likes": 1}, "x/social.metrics")
            appender.append_blocking(prefix + METRICS, agent, encode(told), [])

    def ask(query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(dsn, autocommit=True) as connection:
            return connection.execute(query.encode()).fetchall()

    counted = (
        "SELECT (SELECT count(*) FROM core.tool_calls), (SELECT count(DISTINCT tool) FROM core.tool_calls),"
        " (SELECT count(*) FROM core.engagement_metrics),"
        " (SELECT sum((SELECT max(v) FROM unnest(numbers) v)) FROM core.engagement_latest)"
    )
    whole = [(EACH, EACH, 2 * EACH, float(sum(range(EACH - 50, EACH))))]
    moved = "SELECT sum(next_offset)::int FROM core.checkpoints WHERE model_set = '{}'"
    command = [sys.executable, "-m", "tests.integration.mortal", kafka_bootstrap, dsn, h.root.public, prefix, str(tmp_path)]
    armed = {**os.environ, failpoints.VARIABLE: "projector.copied=kill#1;metrics.copied=kill#1"}
    for deaths in (1, 2):
        with subprocess.Popen(command, env=armed, cwd=ROOT) as process:
            assert ended(process, lambda: ask(counted) == whole) == -signal.SIGKILL
        fired = failpoints.fired(tmp_path)
        assert len(fired) == deaths
        cut_off = "calls" if fired[-1]["point"] == "projector.copied" else "metrics"
        table = {"calls": "tool_calls", "metrics": "engagement_metrics"}[cut_off]
        assert ask(moved.format(cut_off)) == [(0,)], "the checkpoint moved without its rows"
        assert ask(f"SELECT count(*) FROM core.{table}") == [(0,)], "rows are there without their checkpoint"
    assert {line["point"] for line in failpoints.fired(tmp_path)} == {"projector.copied", "metrics.copied"}
    with subprocess.Popen(command, env=armed, cwd=ROOT) as process:
        assert ended(process, lambda: ask(counted) == whole) is None
    assert ask(moved.format("calls")) == ask(moved.format("metrics")) == [(EACH,)]
    elsewhere: dict[str, Any] = {"topic": h.topic, "calls_topic": prefix + calls.CALLS, "metrics_topic": prefix + METRICS}
    report = verify(kafka_bootstrap, dsn, h.root.public, **elsewhere)
    assert report.equal, report.difference
