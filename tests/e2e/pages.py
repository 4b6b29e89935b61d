"""The pages beside the review desk, for tests: agents with a story of their own, and browsers in which people are signed in."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from starlette.testclient import TestClient

from chimera.control.accounts import Accounts
from tests.e2e.house import House

OURS = {"Sec-Fetch-Site": "same-origin"}
TENANT = "paged"
GRANTS: Mapping[str, Any] = {
    "ona": {TENANT: ["operator"]},
    "vic": {TENANT: ["viewer"]},
    "ada": {"*": ["admin"]},
    "out": {"canary": ["admin"]},
}
"""Who looks: an operator and a viewer of the tenant, an admin of everything, an admin of another tenant."""
_PASSWORD = "a password that is long"


class Told(NamedTuple):
    """Agents whose first card was approved and published, and whose second was rejected."""

    names: Sequence[str]
    campaign: str
    published: str
    """A task, as addresses name it: `campaign.ordinal`, of the first agent."""


def tell(house: House) -> Told:
    """Make them. Their campaign goes on waiting for people."""
    names = house.enrol("paged", 2, approve_above=1.0, tenant=TENANT)
    campaign = house.start(house.brief("Paged on", 3), names)
    house.until(lambda: house.resting(names) and len(house.cards(names)) >= 4, "the cards wait")
    first, second, *_ = (card for card in house.cards(names) if card.agent.name == names[0])
    house.decide(first)
    house.decide(second, "reject")
    ended = lambda: house.records("EffectEnded", names[:1])  # noqa: E731
    house.until(ended, "the first is published")
    house.until_projected()
    accounts = Accounts(house.home)
    for name, grants in GRANTS.items():
        accounts.put(name, grants, _PASSWORD)
    data: Any = ended()[0].record.data
    return Told(names, campaign, f"{data.campaign}.{data.ordinal}")


def browser(served: TestClient, name: str) -> TestClient:
    """A browser in which that person is signed in."""
    client = TestClient(served.app, base_url="https://desk.test", follow_redirects=False)
    client.portal = served.portal  # the one running application
    assert client.post("/login", data={"name": name, "password": _PASSWORD}, headers=OURS).status_code == 303
    return client


def shown(client: TestClient, path: str, **asked: Any) -> str:
    """A page that is there."""
    answer = client.get(path, params=asked or None)
    assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:2000]}"
    return answer.text


def token(page: str) -> str:
    """The login's token, which every form of a page carries."""
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found is not None
    return found[1]
