"""Mission Control in this process on a running stack, and people of every role in a tenant, in another one, and in every one.

The rule not to break: whoever signs in here does it by a link, so no test waits for Argon2; what a person is let to do is the
table's, not the way's by which they came in.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from starlette.testclient import TestClient

from chimera.control import web
from chimera.control.access import ROLES, Role
from chimera.control.accounts import Accounts
from chimera.control.app import application
from chimera.control.limits import rates
from chimera.control.routes import WAYS
from chimera.control.tokens import Tokens
from tests.e2e.house import House

OURS = {"Sec-Fetch-Site": "same-origin"}
BASE = "https://desk.test"
HERE, HIDDEN = "walked", "zqhidden"
"""A tenant, and one of which others must never hear: its name, its agent's and its campaign's all have the sentinel in them."""
SENTINEL = "zqhidden"
APPROVERS = {kind: ["robin", "sam"] for kind in ("publish", "paid", "financial")}
WHERE: Mapping[str, str] = {"here": HERE, "elsewhere": HIDDEN, "everywhere": "*"}


class Signed(NamedTuple):
    """A login: the cookie that carries it and the token that comes with changes."""

    headers: dict[str, str]
    csrf: str


class Desk:
    """The served application and its people. `agents`, `cards`: of each tenant one."""

    def __init__(self, house: House, client: TestClient) -> None:
        self.house, self.client = house, client
        self.accounts = Accounts(house.home)
        self.agents = {HERE: "walked0", HIDDEN: f"{SENTINEL}0"}
        self.campaigns = {tenant: house.campaigns([name])[0].campaign_id for tenant, name in self.agents.items()}
        self.cards = {tenant: str(house.cards([name])[0].address) for tenant, name in self.agents.items()}
        for where, tenant in WHERE.items():
            for role in ROLES:
                self.accounts.put(person(role, where), {tenant: [role]})

    def signed_in(self, name: str, ago_s: float = 0.0) -> Signed:
        """A login of that account, begun and last seen so long ago."""
        begun = Accounts(self.house.home, now=lambda: time.time() - ago_s)
        id_ = begun.enter(begun.link(name))
        assert id_ is not None
        known = begun.known(id_)
        assert known is not None
        return Signed({"Cookie": f"{web.COOKIE}={id_}", **OURS}, known.csrf)

    def token(self, name: str, days: int = 1, ago_s: float = 0.0) -> Signed:
        """A token with all that the account may, made so long ago."""
        grants = next(grants for known, grants, *_ in self.accounts.listed() if known == name)
        ((tenant, roles),) = grants.items()
        _, secret = Tokens(self.house.home, now=lambda: time.time() - ago_s).add(name, roles, tenant, days)
        return Signed({"Authorization": f"Bearer {secret}"}, "")

    def ask(self, method: str, path: str, signed: Signed | None = None, **given: Any) -> Any:
        """An answer; redirections are not followed, and no cookie is kept."""
        self.client.cookies.clear()
        headers = {**(signed.headers if signed else OURS), **given.pop("headers", {})}
        return self.client.request(method, path, headers=headers, **given)


def person(role: Role, where: str) -> str:
    """The account with that role there."""
    return f"{role}.{where}"


def filled(path: str, desk: Desk, tenant: str) -> str:
    """The path of a route with things of that tenant in it. Of a build, a link, a login and a report one that nobody has."""
    agent, card = desk.agents[tenant], desk.cards[tenant]
    samples = {
        "name": agent,
        "agent": agent,
        "card": card,
        "tenant": tenant,
        "token": "no-such-link",
        "login": "no-such-login",
        "number": card.removeprefix(f"{agent}/"),
        "campaign": desk.campaigns[tenant],
        "task": ".".join(card.rpartition("/")[2].split(".")[:2]),
        "record": "0:0",
        "build": "0",
        "report": "none.html",
        "chart": "cost",
    }
    for name, value in samples.items():
        path = path.replace(f"{{{name}}}", value).replace(f"{{{name}:path}}", value)
    assert "{" not in path, f"{path} names something of which there is no sample: add one here"
    return path


PARTS = (
    "/events",
    "/review/{card:path}/looking",
    "/analytics/{chart}.csv",
    "/statement.csv",
    "/builds/{build}/diff",
    "/policies/report/{report}",
    "/policies/diff",
)
"""What is read and is no page by itself, or none without something to compare."""
PAGES = sorted({way.path for way in WAYS if way.entry == "login" and way.method == "GET" and way.path not in PARTS})
"""Every page that there is for who is signed in."""


@contextmanager
def open_desk(house: House) -> Iterator[Desk]:
    """Two tenants with an agent and waiting cards each, and Mission Control served for them."""
    for tenant, prefix in ((HERE, "walked"), (HIDDEN, SENTINEL)):
        if not house.agents([f"{prefix}0"]):
            names = house.enrol(prefix, 1, tenant=tenant, approve_above=1.0, approvers=APPROVERS)
            house.start(house.brief(f"{prefix} in spring", 3), names)
    names = ["walked0", f"{SENTINEL}0"]
    house.until(lambda: house.resting(names) and all(house.cards([name]) for name in names), "a card waits in either tenant")
    house.until_projected()
    app = application(house.home, house.addresses.postgres, rates(1000))
    with TestClient(app, base_url=BASE, follow_redirects=False) as client:
        yield Desk(house, client)
