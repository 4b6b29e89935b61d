"""What tests of the review desk share: people with passwords, their browsers, and what a page says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from chimera.control.accounts import Accounts
from chimera.control.app import application

OURS = {"Sec-Fetch-Site": "same-origin"}


@contextmanager
def desk_of(home: Path, dsn: str) -> Iterator[TestClient]:
    """The application on a running stack, in this process."""
    with TestClient(application(home, dsn), base_url="https://desk.test") as client:
        yield client


def people(home: Path, tenant: str, grants: Mapping[str, list[Any]]) -> None:
    """Accounts with roles in a tenant; everybody's password is `password(name)`."""
    for name, roles in grants.items():
        Accounts(home).put(name, {tenant: roles}, password(name))


def password(name: str) -> str:
    return f"{name}'s long password"


class Person:
    """One signed-in browser. `fresh` False: came in by a link, so money asks for the password."""

    def __init__(self, home: Path, served: TestClient, name: str, *, fresh: bool = True) -> None:
        self.name = name
        self.client = TestClient(served.app, base_url="https://desk.test", follow_redirects=False)
        self.client.portal = served.portal  # the one running application
        if fresh:
            answer = self.client.post("/login", data={"name": name, "password": password(name)}, headers=OURS)
        else:
            answer = self.client.post(f"/enter/{Accounts(home).link(name)}", headers=OURS)
        assert answer.status_code == 303, answer.text

    def page(self, card: str = "", **asked: str) -> str:
        """The desk with that card."""
        answer = self.client.get("/review", params={**({"card": card} if card else {}), **asked})
        assert answer.status_code == 200, answer.text
        return answer.text

    def decides(self, card: str, what: str, page: str | None = None, **typed: str) -> Any:
        """The answer to a decision on what a page (by default one asked for now) shows."""
        data = {**fields(page or self.page(card)), "decision": what, **typed}
        return self.client.post(f"/review/{card}/decide", data=data, headers=OURS)

    def decides_all(self, cards: list[str], what: str, **typed: str) -> Any:
        """The answer to one decision on several cards."""
        data = {"csrf": token(self.page()), "card": cards, "decision": what, **typed}
        return self.client.post("/review/batch", data=data, headers=OURS)


def fields(page: str) -> dict[str, str]:
    """The hidden fields of the card that a page shows."""
    form = page[page.index('id="decide"') :]
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form[: form.index("</form>")]))


def token(page: str) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found is not None
    return found[1]


def flash(page: str) -> str:
    """What is said above the card."""
    found = re.search(r'<div class="flash (\w+)"[^>]*>\s*<span>(.*?)</span>', page, re.DOTALL)
    return "" if found is None else f"{found[1]}: {unescape(found[2])}"
