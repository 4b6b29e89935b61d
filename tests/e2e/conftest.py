"""One stack for all tests of the whole path that break nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.house import House, open_house


@pytest.fixture(scope="session")
def house() -> Iterator[House]:
    with open_house("e2e") as opened:
        yield opened
