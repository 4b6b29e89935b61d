"""What an operator watches a stack with: promised figures are there, Ctrl-C ends watching, versions keep snapshots apart."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from chimera.commands.keys import load_installation
from chimera.snapshots import state
from chimera.snapshots.postgres import PostgresSnapshots
from tests.e2e.house import House

PAGE = Path(__file__).parents[2] / "docs" / "operators.md"

PROMISED = {
    "lag in records": ("lag_records", {"brain", "gate", "projector", "command"}),
    "lag in seconds": ("lag_seconds", {"brain", "gate", "projector", "command"}),
    "rulings by reason": ("rulings_total", {"brain", "gate"}),
    "jobs in flight": ("jobs_in_flight", {"brain", "gate"}),
    "claims open": ("claims_open", {"brain", "gate"}),
    "unknown effects": ("unknown_effects", {"brain", "gate"}),
    "checkpoint age": ("checkpoint_age_seconds", {"projector"}),
    "snapshot age": ("snapshot_age_seconds", {"brain"}),
    "call latency": ("call_seconds_count", {"brain", "gate"}),
}
"""What was promised to be told -> the sample, and the roles that tell it."""


@pytest.fixture(scope="module")
def worked(house: House) -> House:
    """A campaign has left its posts, so that every kind of process has done something."""
    names = house.enrol("opr", 1)
    house.start(house.brief("Operator", 1), names)
    house.until_completed(names)
    house.until_projected()
    return house


def samples(house: House) -> dict[str, set[str]]:
    """Sample -> roles whose `/metrics` has it with the labels that its table promises."""
    found: dict[str, set[str]] = {}
    for process in house.done("top", "--once")["processes"]:
        with urllib.request.urlopen(f"{process['http']}/metrics", timeout=10) as answer:
            page = answer.read().decode()
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                found.setdefault(sample.name.removeprefix("chimera_"), set()).add(process["role"])
    return found


def test_every_promised_figure_and_every_metric_of_the_page_is_told_by_the_processes_that_have_it(worked: House) -> None:
    promised = {what: roles for what, (name, roles) in PROMISED.items() if not roles <= samples(worked).get(name, set())}
    assert promised == {}
    table = PAGE.read_text().split("| metric (`chimera_` before each)")[1].split("\n\n")[0]
    names = {name for row in table.splitlines()[2:] for name in re.findall(r"`([a-z_]+)`", row.split("|")[1].partition(" by ")[0])}
    assert len(names) >= 20, "the page has its table"
    there = {name.removesuffix("_count").removesuffix("_bucket").removesuffix("_sum") for name in samples(worked)}
    assert names - there == set()


class Ended(NamedTuple):
    """How a command ended that was watched and interrupted."""

    code: int
    out: str


def watched(house: House, words: str, shows: str, *, terminal: bool) -> Ended:
    """Run until it has shown this twice, then press Ctrl-C."""
    argv = [sys.executable, "-m", "chimera.cli.main", *words.split()]
    ours, its = pty.openpty() if terminal else os.pipe()
    process = subprocess.Popen(
        argv, env={**os.environ, **house.stack.environment(), "TERM": "xterm", "COLUMNS": "120"},
        stdin=subprocess.DEVNULL, stdout=its, stderr=its, start_new_session=True,
        # Whoever runs the tests in the background has Ctrl-C ignored, and that would be handed on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    os.close(its)
    out = b""
    try:
        while out.count(shows.encode()) < 2:
            chunk = os.read(ours, 65536)
            assert chunk, out.decode()
            out += chunk
        os.killpg(process.pid, signal.SIGINT)
        with suppress(OSError):  # what a terminal says once nobody is behind it
            while chunk := os.read(ours, 65536):
                out += chunk
        return Ended(process.wait(30), out.decode())
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])
@pytest.mark.parametrize(
    ("words", "shows"),
    [("fleet status --watch --every 0.3", "effects executed"), ("top --every 0.5", "records/s")],
    ids=["fleet", "top"],
)
def test_watching_shows_one_look_after_the_other_until_ctrl_c(worked: House, words: str, shows: str, terminal: bool) -> None:
    ended = watched(worked, words, shows, terminal=terminal)
    assert ended.code == 0
    assert "Traceback" not in ended.out
    assert ("\x1b[" in ended.out) is terminal


def test_a_new_version_builds_its_snapshots_beside_the_old_and_both_stay(worked: House, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = state.maker(load_installation(worked.home).root)
    worked.until(
        lambda: [row for row in worked.done("snapshots", "list") if row["code"] == mine.code], "the brain saved its own", 60
    )
    newer = mine._replace(code="0123456789abcdef")
    monkeypatch.setattr("chimera.cli.snapshots.maker", lambda root: newer)  # this process is of the next version
    assert worked.run("snapshots", "list").out.count("none for this version: its first start folds from offset 0") == 1
    before = {partition: _where(worked, mine, partition) for partition in range(24)}
    worked.service.catch_up()
    before_all = len(worked.seen)
    built = worked.done("snapshots", "build")
    assert (built["kept"], built["later_ones_there"]) == (24, 0)
    listed = {row["code"]: row for row in worked.done("snapshots", "list")}
    assert listed[newer.code]["mine"]
    assert not listed[mine.code]["mine"]
    worked.service.catch_up()
    assert before_all <= listed[newer.code]["records"] == built["records"] <= len(worked.seen), "whatever the swarm appended since"
    assert all(_where(worked, mine, partition) >= at for partition, at in before.items()), "the old ones stay and go on"
    assert worked.done("snapshots", "build")["kept"] == 24, "building again is harmless"


def _where(house: House, maker: state.Maker, partition: int) -> int:
    """Where this maker's snapshot of a partition stands; 0 where there is none."""
    store = PostgresSnapshots(house.addresses.postgres, maker)
    try:
        found = store.load(partition)
        return 0 if found is None else found.next_offset
    finally:
        store.close()


def test_where_nothing_runs_top_says_so_and_options_of_other_roles_are_refused(
    worked: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, worked.home = worked.home, tmp_path
    try:
        nothing = worked.run("top", "--once")
    finally:
        worked.home = home
    assert nothing.code == 1
    assert f"nothing runs in {tmp_path}: start it with `chimera up`" in nothing.out
    for words in (("run", "projector", "--instance", "two"), ("run", "notary", "--group", "g"), ("run", "nobody")):
        typed = worked.shell(*words)
        assert typed.code == 2, typed
        assert words[1] in typed.out
    assert orjson.loads(worked.shell("top", "--once", "--json").out)["phase"] == "ready"
