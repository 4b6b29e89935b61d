"""A stack that is there to be broken, and the choice between the short form and the long one.

`CHIMERA_CHAOS=1` (`make chaos`) runs the tests that are marked so; without it they are not collected, which is no skip.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.e2e.house import House, open_house


@pytest.fixture(scope="session")
def house() -> Iterator[House]:
    # Half of what is usual: a lost claim is waited for in every run, and no call of the sandbox takes seconds.
    with open_house("faults", claim_lease_s=30, call_timeout_s=10) as opened:
        yield opened


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """After the long forms: what was broken, for how long, with which seed, and what came out. A seed repeats its run."""
    if os.environ.get("CHIMERA_CHAOS") != "1":
        return
    terminalreporter.section("long forms")
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.getreports(outcome):
            if report.when != "call" and outcome != "error":
                continue
            seeds = sorted({line for line in report.capstdout.splitlines() if line.startswith("CHIMERA_CHAOS_SEED=")})
            test = report.nodeid.partition("::")[2].removeprefix("test_").replace("_", " ")
            terminalreporter.write_line(f"{outcome:6}  {report.duration:6.0f} s  {test}  {' '.join(seeds)}".rstrip())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long form out unless it is asked for."""
    if os.environ.get("CHIMERA_CHAOS") == "1":
        return
    long = [item for item in items if item.get_closest_marker("chaos")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]
