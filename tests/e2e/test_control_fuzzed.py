"""The API under made-up calls: Schemathesis reads the OpenAPI document and calls all operations on a running stack with real rows.

No call may end in a 5xx, get through without a token, be answered otherwise than the document says, or hear of another tenant.
CHIMERA_FUZZ calls per operation (`make fuzz`); a few where it is not set.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from chimera.control.access import ROLES
from chimera.control.app import application
from chimera.control.limits import rates
from chimera.stack.process import free_port
from tests.e2e.desk import SENTINEL, Desk, Signed, open_desk
from tests.e2e.house import House

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
hypothesis = pytest.importorskip("hypothesis")

CALLS = int(os.environ.get("CHIMERA_FUZZ", "4"))
PATIENCE_S = 60
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reference" / "openapi.json"
schema = schemathesis.openapi.from_path(DOCUMENT)
REAL: dict[str, str] = {}
"""Path parameters that there are: so that made-up calls reach real things."""


@schema.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any]) -> dict[str, Any]:
    """Two thirds of the calls are about what there is."""
    if not path_parameters or not REAL or sum(map(ord, str(path_parameters))) % 3 == 0:
        return path_parameters
    return {name: REAL.get(name, value) for name, value in path_parameters.items()}


class Target(Desk):
    """The application behind a real socket, and the token of somebody who may all in one tenant."""

    def __init__(self, desk: Desk, url: str, signed: Signed) -> None:
        self.__dict__.update(desk.__dict__)
        self.url, self.signed = url, signed


@pytest.fixture(scope="module")
def target(house: House) -> Iterator[Target]:
    with open_desk(house) as desk:
        names = house.enrol("fuzzed", 1, tenant="fuzzed", approve_above=1.0)
        house.start(house.brief("Fuzzed in spring", 2), names)
        house.until(lambda: house.resting(names) and house.cards(names), "a card waits to be called about")
        house.until_projected()
        address = house.cards(names)[0].address
        number = str(address).removeprefix(f"{names[0]}/")
        campaign = house.campaigns(names)[0].campaign_id
        REAL.update(name=names[0], agent=names[0], number=number, campaign=campaign, tenant="fuzzed")
        desk.accounts.put("fuzzer", {"fuzzed": list(ROLES)})
        port = free_port()
        app = application(house.home, house.addresses.postgres, rates(1000))
        server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            begun = time.monotonic()
            house.until(lambda: server.started or time.monotonic() - begun > PATIENCE_S, "the application listens", PATIENCE_S)
            yield Target(desk, f"http://127.0.0.1:{port}", desk.token("fuzzer"))
        finally:
            server.should_exit = True
            thread.join()
            REAL.clear()


@schema.parametrize()
@hypothesis.settings(
    max_examples=CALLS, deadline=None, derandomize=True, database=None, suppress_health_check=list(hypothesis.HealthCheck)
)
def test_made_up_calls_are_answered_as_documented(case: Any, target: Target) -> None:
    answer = case.call_and_validate(base_url=target.url, headers=target.signed.headers)
    assert SENTINEL not in answer.text + str(answer.headers)
    strange = case.call(base_url=target.url, headers={"Authorization": "Bearer chimera_guessed"})
    assert strange.status_code == (answer.status_code if answer.status_code == 405 else 401)
