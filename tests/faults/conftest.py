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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long form out unless it is asked for."""
    if os.environ.get("CHIMERA_CHAOS") == "1":
        return
    long = [item for item in items if item.get_closest_marker("chaos")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]
