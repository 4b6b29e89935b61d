"""kill -9 exactly between two steps of a rebuild and of its swap: each point proved to have fired, and all is right in the end.

The rule not to break: who dies is started again by the same words, and by nothing else.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

import pytest

from chimera import failpoints
from tests.e2e.house import House
from tests.faults.test_rebuild import asking

LOADING = ("load.opened", "projector.copied", "load.taken", "load.folded")
"""Points of a load process, which the rebuild starts again by itself, five times at most without a record in between."""
BUILDING = ("build.prepared", "build.loaded", "build.indexed", "build.followed")
SWAPPING = ("swap.locked", "swap.renamed", "swap.committed")


def given(house: House, points: Sequence[str], *words: str) -> int:
    """`chimera replay ...` by a shell whose processes die once at each of these points; its exit code."""
    env = os.environ | house.stack.environment() | {failpoints.VARIABLE: ";".join(f"{point}=kill#1" for point in points)}
    with (house.home / "logs" / "rebuild.log").open("ab") as log:
        argv = [sys.executable, "-m", "chimera.cli.main", "replay", *words, "--reason", "a test of faults"]
        return subprocess.run(argv, env=env, stdout=log, stderr=log, timeout=90, check=False).returncode


def died_at(house: House, process: str) -> list[str]:
    """Where processes of this name were killed so far."""
    return [line["point"] for line in failpoints.fired(house.home) if line["process"] == process and line["action"] == "kill"]


@pytest.mark.timeout(300)
def test_a_rebuild_and_a_swap_that_die_at_every_point_are_gone_on_with_by_the_same_words(house: House) -> None:
    names = house.enrol("pts", 2, approve_above=1.0)
    house.start(house.brief("Points", 1), names)
    house.until(lambda: house.cards(names), "cards come", 90)
    build = str(house.done("replay", "plan")["build"])
    for point in BUILDING:
        assert given(house, [*BUILDING, *LOADING], "apply", build) == -signal.SIGKILL
        assert died_at(house, "replay")[-1:] == [point], (house.home / "logs" / "rebuild.log").read_text()[-2000:]
    assert {*died_at(house, "load")} == {*LOADING}, "load processes were started again, and died at the next point"
    assert given(house, BUILDING, "apply", build) == 0
    assert house.run("replay", "diff", "--json", build).code == 0

    with asking(house) as wrong:
        for point in SWAPPING:
            assert given(house, SWAPPING, "swap", build, "--yes") == -signal.SIGKILL
            assert died_at(house, "replay")[-1:] == [point]
            live = house.sql("SELECT id FROM replay.builds WHERE state = 'live'")
            assert (live == [(int(build),)]) == (point == "swap.committed"), "a swap is done wholly or not at all"
        house.approve_all(names)
        house.until_projected()
    assert wrong == [], "no reader saw two builds at once, or lost a record"
    house.until_completed(names, 150)
    house.equals_refold()
    assert house.done("replay", "rollback", "--reason", "and back")["kept"] == int(build)
    house.done("replay", "gc", "--yes")
