"""One stack for all tests of the whole path that break nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from chimera.control.app import application
from chimera.control.limits import rates
from tests.e2e.house import House, open_house
from tests.e2e.pages import Told, tell


@pytest.fixture(scope="session")
def house() -> Iterator[House]:
    with open_house("e2e") as opened:
        yield opened


@pytest.fixture(scope="session")
def told(house: House) -> Told:
    """Agents of a tenant of their own, for the pages of Mission Control beside the review desk."""
    return tell(house)


@pytest.fixture(scope="session")
def pages(house: House, told: Told) -> Iterator[TestClient]:
    """Mission Control, serving. Many people sign in from one address in many files: how often they may is other tests' matter."""
    with TestClient(
        application(house.home, house.addresses.postgres, rates(1000)), base_url="https://desk.test", follow_redirects=False
    ) as client:
        yield client
