"""A rebuild of the read models under live load, while everything that takes part in it is killed; then its place in the sun.

In CI once; `make chaos` kills in rounds. The tests' readers ask all the while.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import orjson
import psycopg
import pytest

from chimera.eventlog.read import end_offsets, read_until
from chimera.projections.calls import CALLS
from chimera.replay import builds
from tests.e2e.house import House

LOOKS = ("social.metrics", "social.mentions", "social.messages")


def lives(pid: int) -> bool:
    """Does it run? (One that ended and waits for its parent does not.)"""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def processes_of(parent: int) -> list[int]:
    """Load processes that a rebuild has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if path.read_text().rpartition(")")[2].split()[1] == str(parent):
                found.append(int(path.parent.name))
    return [pid for pid in found if lives(pid)]


def loaded(house: House, build: int) -> int:
    """Records that the build's rows are made of; 0 while the database is away."""
    try:
        return int(house.sql(f"SELECT coalesce(sum(next_offset), 0) FROM build_{build}.checkpoints")[0][0])
    except psycopg.Error:
        return 0


def answers(house: House) -> bool:
    """Is the database there?"""
    try:
        return house.sql("SELECT 1") == [(1,)]
    except psycopg.OperationalError:
        return False


@contextmanager
def rebuilding(house: House, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """`chimera replay ...` in a process of its own, which the test may kill."""
    argv = [sys.executable, "-m", "chimera.cli.main", "replay", *words]
    with (house.home / "logs" / "rebuild.log").open("ab") as log:
        process = subprocess.Popen(argv, env={**os.environ, **house.stack.environment()}, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait(20)


@pytest.fixture(autouse=True)
def _no_build_is_left(house: House) -> Iterator[None]:
    """Whatever a test did or failed to do: the tests after it find the live tables alone."""
    yield
    house.until(lambda: house.run("replay", "gc", "--yes", "--reason", "after a test").code == 0, "builds are dropped", 120)
    states = house.sql("SELECT state FROM replay.builds WHERE state <> 'dropped'")
    assert states == [("live",)], f"a test leaves builds behind: {states}"


@contextmanager
def asking(house: House) -> Iterator[list[str]]:
    """Readers without rest; what went wrong for them: errors, a record that was there and is not, two sets of tables at once."""
    wrong, stop = list[str](), threading.Event()

    def ask(look: Callable[[psycopg.Connection[tuple[int, int]], int], int]) -> None:
        seen = 0
        try:
            with psycopg.connect(house.addresses.postgres) as connection:
                while not stop.is_set():
                    seen = look(connection, seen)
                    connection.commit()
        except psycopg.Error as error:
            wrong.append(str(error))

    def never_less(connection: psycopg.Connection[tuple[int, int]], seen: int) -> int:
        row = connection.execute("SELECT count(*), 0 FROM analytics_v1.events").fetchone()
        if row is None or row[0] < seen:
            wrong.append(f"{seen} events were there, now {row}")
        return row[0] if row else 0

    gaps = set[int]()

    def one_build(connection: psycopg.Connection[tuple[int, int]], seen: int) -> int:
        """Rows and checkpoints of one statement agree: each record below a checkpoint has its row, and no other has."""
        row = connection.execute(
            "SELECT (SELECT count(*) FROM core.events), (SELECT sum(next_offset) FROM core.checkpoints WHERE model_set = 'core')"
        ).fetchone()
        assert row is not None
        gaps.add(int(row[1]) - int(row[0]))
        if len(gaps) > 1:  # what other tests had parked is missing all the time
            wrong.append(f"rows and checkpoints are of two builds: {row}, {gaps}")
        return seen

    threads = [threading.Thread(target=ask, args=(look,)) for look in (never_less, one_build)]
    for thread in threads:
        thread.start()
    try:
        yield wrong
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def kill_and_see(house: House, name: str) -> None:
    """SIGKILL to a child of the stack, which starts it again."""
    restarts = house.restarts(name)
    house.kill(name)
    house.until(lambda: house.restarts(name) > restarts, f"{name} was started again", 90)


def kill_its_processes(house: House, build: int, words: tuple[str, ...]) -> None:
    """Apply, kill a load process, which is started again, then the rebuild itself, whose processes end by themselves."""
    before = loaded(house, build)
    with rebuilding(house, "apply", str(build), *words) as process:
        house.until(lambda: loaded(house, build) > before, "rows are loaded", 60)
        first = processes_of(process.pid)
        os.kill(first[0], signal.SIGKILL)
        house.until(lambda: set(processes_of(process.pid)) - set(first), "a load process was started again", 60)
        hands = processes_of(process.pid)
        process.send_signal(signal.SIGKILL)
    house.until(lambda: not any(map(lives, hands)), "its processes ended by themselves", 60)
    assert house.sql("SELECT state FROM replay.builds WHERE id = %s", build) == [("loading",)], "it was over before it was killed"


def rebuild_under_kills(house: House, rounds: int) -> int:
    """Kill what builds, the live projector and the database; the build's number when it is ready all the same."""
    plan = house.done("replay", "plan")
    # Slowly: it is not to be over before it is killed, also where the log is as short as these campaigns are.
    build, slow, rate = int(plan["build"]), str(max(2, plan["records"] // (60 * rounds))), str(max(50, plan["records"] // 12))
    for _ in range(rounds):
        kill_its_processes(
            house, build, ("--processes", "2", "--max-rate", slow, "--reason", "a test of faults", "--yield-at", "0")
        )
    kill_and_see(house, "projector")
    before = loaded(house, build)
    assert before > 0
    with rebuilding(house, "resume", str(build), "--processes", "2", "--max-rate", rate) as process:
        house.until(lambda: loaded(house, build) > before, "it goes on from its checkpoints", 60)
        kill_and_see(house, "postgres")
        house.until(lambda: answers(house), "the database is back", 90)
        house.until(lambda: process.poll() is not None, "the build is ready", 120)
        assert process.returncode == 0, (house.home / "logs" / "rebuild.log").read_text()[-2000:]
    return build


def swapped_in_and_right(house: House, build: int, names: list[str]) -> None:
    """Under readers and live load the build becomes live, equals a refold, and no tool was called for any of it."""
    with asking(house) as wrong:
        done = house.done("replay", "swap", str(build), "--reason", "a test of faults")
        assert done["live"] == build
        house.approve_all(names)
        house.until_projected()
    assert wrong == []
    house.until_completed(names, 150)
    house.equals_refold()


def called(house: House) -> Counter[str]:
    """Calls so far by what was asked for, but for the looks at platforms that the swarm takes by itself all the time."""
    ends = end_offsets(house.addresses.kafka, CALLS)
    made = Counter[str]()
    for raws in read_until(house.addresses.kafka, CALLS, ends, end=ends):
        made.update(str(orjson.loads(raw.value or b"{}")["capability"]) for raw in raws)
    return Counter({asked: count for asked, count in made.items() if asked not in LOOKS})


@pytest.mark.timeout(300)
def test_a_rebuild_under_load_survives_kills_and_its_swap_is_seen_by_nobody(house: House) -> None:
    names = house.enrol("reb", 3, approve_above=1.0)
    house.start(house.brief("Rebuilt", 4), names)
    house.until(lambda: len(house.cards(names)) >= 3, "cards come", 90)
    build = rebuild_under_kills(house, 1)
    swapped_in_and_right(house, build, names)

    calls = called(house)
    assert house.run("replay", "diff", "--json", "0").code == 0
    assert house.done("replay", "rollback", "--reason", "and back")["live"] == 0
    assert called(house) == calls, "replaying called a tool"
    house.equals_refold()
    house.done("replay", "gc", "--yes")
    with psycopg.connect(house.addresses.postgres) as connection:
        assert [b.state for b in builds.listed(connection) if b.state != "dropped"] == ["live"]


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_rebuilds_are_killed_again_and_again(house: House) -> None:
    for n in range(5):
        names = house.enrol(f"rec{n}x", 3, approve_above=1.0)
        house.start(house.brief(f"Rebuilt {n}", 6), names)
        house.until(lambda names=names: len(house.cards(names)) >= 3, "cards come", 90)
        swapped_in_and_right(house, rebuild_under_kills(house, 2), names)
