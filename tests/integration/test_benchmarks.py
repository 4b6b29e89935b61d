"""The benchmarks run: each script is read, and those that a swarm's figures hang on do their work once, in a tiny size.

What they print at that size says nothing of speed; that they print it says that `make bench` will.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
PATIENCE_S = 240


def run(script: str, *words: str, may_end_with: tuple[int, ...] = (0,)) -> str:
    """What the script prints; its errors where it ends otherwise than it may."""
    argv = [sys.executable, str(BENCHMARKS / script), *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE_S, check=False, cwd=BENCHMARKS.parent)
    assert done.returncode in may_end_with, f"{script} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.mark.parametrize("script", sorted(path.name for path in BENCHMARKS.glob("*.py")))
def test_every_benchmark_finds_what_it_imports(script: str) -> None:
    spec = importlib.util.spec_from_file_location(f"bench_{script[:-3]}", BENCHMARKS / script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if "__main__" in (BENCHMARKS / script).read_text():  # others are parts of these
        assert callable(module.main)


def test_a_swarm_of_two_agents_settles_and_tells_what_each_process_cost() -> None:
    figures = json.loads(run("swarm.py", "--agents", "2", "--formats", "1", "--json"))
    assert figures["agents"] == 2
    assert figures["tasks"] >= 2
    assert (figures["void"], figures["job errors"]) == (0, 0)
    for name in ("swarm", "projector", "broker", "command service", "PostgreSQL"):
        assert figures[f"{name} CPU ms per task"] > 0, name
    assert figures["limit: tasks/s by appends alone"] > 0


def test_a_small_log_is_rebuilt_beside_its_limits(kafka_bootstrap: str, make_database: Callable[[], str]) -> None:
    addresses = ("--kafka", kafka_bootstrap, "--postgres", make_database())
    printed = run("project.py", "--agents", "2", "--posts", "2", *addresses).splitlines()
    rows = [line.split("  ")[0] for line in printed if "records/s" in line]
    assert [row.split(":")[0].split(" (")[0] for row in rows] == ["limit", "limit", "rebuild of all models"], printed


def test_appends_are_told_beside_the_raw_producer(kafka_bootstrap: str) -> None:
    told = run("append.py", "--records", "1000", "--kafka", kafka_bootstrap, "--json", may_end_with=(0, 1))  # 1: slower than asked
    figures = json.loads(told)
    assert figures["append ratio"] > 0
    assert figures["read_at records/s"] > 0
