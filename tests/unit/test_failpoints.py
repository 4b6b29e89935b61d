"""Failpoints: every name has its one place, nothing happens unless asked for, and what fires is on disk first."""

from __future__ import annotations

import ast
import asyncio
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psycopg
import pytest

from chimera import failpoints
from chimera.failpoints import POINTS, VARIABLE, BadFailpoints, Injected, active, armed, at, fired, here

ROOM = Path(failpoints.__file__).parent


def places(source: str) -> list[str]:
    """The names that a module's failpoints are called by, in order; '' for one that is not written out."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [
        str(call.args[0].value) if isinstance(call.args[0], ast.Constant) else ""
        for call in calls
        if isinstance(call.func, ast.Attribute)
        and call.func.attr in ("at", "here")
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "failpoints"
    ]


def test_every_point_of_the_table_has_exactly_one_place_in_the_code() -> None:
    found = Counter(name for path in ROOM.rglob("*.py") for name in places(path.read_text()))
    assert found == Counter(POINTS.keys())


def test_a_point_in_two_places_or_without_a_name_would_be_seen() -> None:
    planted = "async def f():\n    await failpoints.at('a')\n    failpoints.here('a')\n    failpoints.here(x)"
    assert sorted(places(planted)) == ["", "a", "a"]


def test_nothing_happens_where_nothing_is_asked_for(tmp_path: Path) -> None:
    asyncio.run(at("job.started"))
    here("projector.read")
    with armed(tmp_path, "brain"):
        here("projector.read")
        assert active() == []
    assert fired(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("executor.claimd=kill", "no such point"),
        ("executor.claimed", "no `=`"),
        ("executor.claimed=stop", "write kill"),
        ("executor.claimed=kill:1.5", "write kill"),
        ("executor.claimed=delay", "write kill"),
        ("executor.claimed=kill#0", "write kill"),
        ("executor.claimed=kill;executor.claimed=error", "twice"),
    ],
)
def test_what_cannot_be_understood_stops_the_start(text: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(BadFailpoints, match=why), armed(tmp_path, "brain"):
        pass


def test_a_process_that_is_started_with_a_bad_point_ends_with_one_line_that_names_it(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "chimera.cli.main", "run", "brain"]
    env = {"CHIMERA_HOME": str(tmp_path), VARIABLE: "nowhere=kill", "PATH": "/usr/bin:/bin"}
    ended = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "'nowhere=kill': no such point" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_error_is_of_the_kind_that_its_place_expects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "job.started=error;projector.moved=error")
    with armed(tmp_path, "brain"):
        with pytest.raises(Injected, match=r"failpoint job\.started"):
            asyncio.run(at("job.started"))
        with pytest.raises(psycopg.OperationalError, match=r"failpoint projector\.moved"):
            here("projector.moved", psycopg.OperationalError)
    assert [line["point"] for line in fired(tmp_path)] == ["job.started", "projector.moved"]


def test_the_nth_arrival_fires_once_in_a_home_however_often_the_process_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "job.started=error#3")
    for first_life in (True, False):
        with armed(tmp_path, "brain"):
            for arrival in range(1, 6):
                if first_life and arrival == 3:
                    with pytest.raises(Injected):
                        here("job.started")
                else:
                    here("job.started")
    assert [(line["process"], line["arrival"]) for line in fired(tmp_path)] == [("brain", 3)]


def test_a_point_throws_the_same_dice_for_the_same_seed_and_others_after_a_firing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "seed=7;job.started=error:0.2")

    def life(home: Path) -> int:
        """How many arrivals pass before the point fires."""
        home.mkdir(exist_ok=True)
        with armed(home, "brain"):
            for arrival in range(1000):
                try:
                    here("job.started")
                except Injected:
                    return arrival
        raise AssertionError("a fifth of a thousand did not fire")

    first = [life(tmp_path / "one") for _ in range(5)]
    assert first == [life(tmp_path / "two") for _ in range(5)]
    assert len(set(first)) > 1
    monkeypatch.setenv(VARIABLE, "seed=8;job.started=error:0.2")
    assert first != [life(tmp_path / "three") for _ in range(5)]


def test_a_delay_holds_the_caller_up_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "job.started=delay(0.05);projector.read=delay(0.05)")
    began = time.monotonic()
    with armed(tmp_path, "brain"):
        here("projector.read")
        asyncio.run(at("job.started"))
    assert time.monotonic() - began >= 0.1
    assert [line["action"] for line in fired(tmp_path)] == ["delay", "delay"]


def test_a_killed_process_leaves_word_of_what_killed_it(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from chimera import failpoints
failpoints.arm(Path({str(tmp_path)!r}), "gate")
failpoints.here("executor.called")
print("survived")
"""
    env = {VARIABLE: "executor.called=kill", "PATH": "/usr/bin:/bin"}
    ended = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (-9, "")
    assert [(line["point"], line["process"], line["action"]) for line in fired(tmp_path)] == [("executor.called", "gate", "kill")]
    assert "failpoints are on" in ended.stderr
