"""A disk that fills up under the database, under the broker, or under everything; then somebody makes room, and does nothing else.

Each disk is a tmpfs of its own, which only root may mount, and not in every container.
"""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import orjson
import psycopg
import pytest

from chimera.errors import ChimeraError
from chimera.eventlog.append import Appender
from chimera.eventlog.topics import load_topics
from chimera.events import metrics
from chimera.projections import calls
from tests.e2e.house import House, open_house
from tests.faults.oracle import every_effect_happened_once, no_task_is_lost

SIZE_MB = 1400
"""Above what the doctor calls all but full, or it would never be content."""


PAGE = 4096


class Disk:
    """A small disk and the file that fills it."""

    def __init__(self, place: Path) -> None:
        self.place, self._filler = place, place / "filler"

    def fill(self) -> None:
        """Leave no page free. What is refused is taken in halves: the system gives all that was asked for, or nothing."""
        with self._filler.open("ab") as file:
            size, step = self._filler.stat().st_size, os.statvfs(self.place).f_blocks
            while step:
                try:
                    os.posix_fallocate(file.fileno(), size, step * PAGE)
                    size += step * PAGE
                except OSError as error:
                    assert error.errno == errno.ENOSPC, error  # noqa: PT017  # any other error is no full disk
                    step //= 2

    def free(self) -> None:
        """Somebody made room."""
        self._filler.unlink()


@contextmanager
def house_with_small_disk(part: str) -> Iterator[tuple[House, Disk]]:
    """A stack whose home, or the part of it named, lies on a disk of its own."""
    disks: list[Disk] = []

    def furnish(home: Path, closing: ExitStack) -> None:
        place = home / part
        place.mkdir(exist_ok=True)
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m,mode=0755", "tmpfs", str(place)],
            capture_output=True,
            text=True,
            check=False,
        )
        if mounted.returncode != 0:
            pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
        closing.callback(subprocess.run, ["umount", "-l", str(place)], check=True)
        disks.append(Disk(place))

    with open_house("disk", furnish=furnish, durable=True) as house:
        yield house, disks[0]


def at_work(house: House) -> list[str]:
    names = house.enrol("dsk", 3)
    house.start(house.brief("Full disk", 4), names)
    house.until(lambda: len(house.records("ArtifactProduced", names)) >= 3, "work goes on", 60)
    return names


def says(house: House, *words: str) -> Callable[[], bool]:
    """The doctor's problems speak of all of these."""

    def said() -> bool:
        found = [f for f in house.diagnosis()["findings"] if f["level"] == "problem"]
        assert all(finding["todo"] for finding in found)
        return all(any(word in finding["what"] for finding in found) for word in words)

    return said


TOLD = 500
"""Observations and calls that come in while there is no room for their rows."""


def told_meanwhile(house: House) -> None:
    """Platforms' numbers of one post, growing, and calls of one tool."""
    topics = load_topics().only(metrics.TOPIC, calls.CALLS)
    now = int(time.time() * 1000)
    with Appender(house.addresses.kafka, topics, "disk-test") as appender:
        for n in range(TOLD):
            seen = metrics.EngagementObserved("agent/told", "x", "1", now + n, {"views": float(n)}, "x/social.metrics")
            appender.append_blocking(metrics.TOPIC, seen.agent, metrics.encode(seen), [])
            call = {"tenant": "acme", "profile": "planted", "tool": "t", "result_class": "ok", "cost_usd": "0.5"}
            appender.append_blocking(calls.CALLS, "agent/told", orjson.dumps(call), [])


def what_was_told_is_there_once(house: House) -> None:
    rows = (
        "SELECT (SELECT count(*) FROM core.engagement_metrics WHERE agent_id = 'agent/told'),"
        " (SELECT numbers[1]::int FROM core.engagement_latest WHERE agent_id = 'agent/told'),"
        " (SELECT count(*) FROM core.tool_calls WHERE profile = 'planted'),"
        " (SELECT sum(calls)::int FROM core.spend_daily WHERE profile = 'planted'),"
        " (SELECT sum(cost_usd)::int FROM core.spend_daily WHERE profile = 'planted')"
    )
    with psycopg.connect(house.addresses.postgres, autocommit=True) as connection:
        found = lambda: connection.execute(rows.encode()).fetchone()  # noqa: E731
        house.until(lambda: (found() or (0,) * 5)[0] >= TOLD and (found() or (0,) * 5)[2] >= TOLD, "they are rows", 90)
        assert found() == (TOLD, TOLD - 1, TOLD, TOLD, TOLD // 2)


def recovers_by_itself(house: House, disk: Disk, names: list[str]) -> None:
    disk.free()
    house.until_well(120)
    house.until_completed(names, 150)
    no_task_is_lost(house, names)
    every_effect_happened_once(house, names)
    house.equals_refold()


@pytest.mark.timeout(400)
def test_a_database_whose_disk_is_full_comes_back_when_there_is_room_and_agents_can_be_paused_meanwhile() -> None:
    with house_with_small_disk("postgres") as (house, disk):
        names = at_work(house)
        disk.fill()

        def panicked() -> bool:
            """Use up what the server has kept in reserve: without room for its own log it ends itself."""
            try:
                with psycopg.connect(house.addresses.postgres, autocommit=True) as connection:
                    connection.execute("SELECT pg_switch_wal(), pg_current_xact_id()")
            except psycopg.Error:
                disk.fill()  # what it gave back on ending
            return house.failures("postgres") >= 3

        house.until(panicked, "it ends itself, and cannot start", 150)
        house.until(
            says(house, "the disk is all but full", "PostgreSQL does not answer", "postgres does not stay up"), "it is said", 60
        )
        told_meanwhile(house)
        house.done("agent", "pause", names[0], "--reason", "no room")
        house.done("agent", "resume", names[0])
        recovers_by_itself(house, disk, names)
        what_was_told_is_there_once(house)


@pytest.mark.timeout(500)
@pytest.mark.parametrize(
    "part",
    [
        pytest.param("kafka", id="the broker's disk", marks=pytest.mark.chaos),
        pytest.param(".", id="the one disk for everything"),
    ],
)
def test_a_broker_whose_disk_is_full_comes_back_when_there_is_room(part: str) -> None:
    with house_with_small_disk(part) as (house, disk):
        names = at_work(house)
        disk.fill()

        def died() -> bool:
            try:
                house.approve_all(names)
            except ChimeraError:  # it is gone: nothing can be read or appended
                disk.fill()
            return house.failures("kafka") >= 3

        house.until(died, "the broker stops, and cannot start", 150, broker=False)
        house.until(says(house, "the disk is all but full", "Kafka at "), "it is said", 60, broker=False)
        recovers_by_itself(house, disk, names)
