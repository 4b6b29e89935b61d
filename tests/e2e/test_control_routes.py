"""Every route of Mission Control, walked by everybody: each role in the thing's tenant, in another, in every one; and by nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from chimera.control.access import ROLES, Role
from chimera.control.routes import WAYS, Way
from tests.e2e.desk import HERE, HIDDEN, SENTINEL, WHERE, Desk, Signed, open_desk, person
from tests.e2e.house import House

MAY: dict[str | None, set[Role]] = {
    None: set(ROLES),
    "read": set(ROLES),
    "decide": {"moderator", "finance", "admin"},
    "decide_money": {"finance", "admin"},
    "operate": {"operator", "admin"},
    "administer": {"admin"},
}
BROWSED = [way for way in WAYS if way.entry == "login"]
CALLED = [way for way in WAYS if way.entry == "token"]
STALE_S = 13 * 3600
ONE_OF_A_LIST = ("/api/v1/campaigns/{campaign}", "/campaign/{campaign}")
NOT_THERE = ("/record/{record}", "/policies/report/{report}", "/policies/diff")
"""Of these the test has no sample that everybody sees: being told that there is none is being let in."""


@pytest.fixture(scope="module")
def desk(house: House) -> Iterator[Desk]:
    with open_desk(house) as opened:
        yield opened


def path_of(way: Way, desk: Desk, tenant: str) -> str:
    """The route's path with a thing of that tenant in it."""
    samples = {
        "name": desk.agents[tenant],
        "agent": desk.agents[tenant],
        "card": desk.cards[tenant],
        "tenant": tenant,
        "token": "no-such-link",
        "login": "no-such-login",
        "number": desk.cards[tenant].removeprefix(f"{desk.agents[tenant]}/"),
        "campaign": desk.campaigns[tenant],
        "task": ".".join(desk.cards[tenant].rpartition("/")[2].split(".")[:2]),
        "record": "0:0",
        "build": "0",
        "report": "none.html",
        "chart": "cost",
    }
    path = way.path
    for name, value in samples.items():
        path = path.replace(f"{{{name}}}", value).replace(f"{{{name}:path}}", value)
    assert "{" not in path, f"{way.path} names something of which this test has no sample: add one"
    return path


def status(desk: Desk, way: Way, tenant: str, signed: Signed | None) -> tuple[int, str]:
    """What the route answers. What changes something is sent without a wish in it, so that nothing is changed by being let in."""
    path = path_of(way, desk, tenant)
    if way.path == "/events" and signed is not None:
        return begun(desk, path, signed), ""  # this answer never ends
    if way.entry == "token":
        answer = desk.ask(way.method, path, signed, content=b"?" if way.method != "GET" else None)
        return answer.status_code, answer.text + str(answer.headers)
    form = {"csrf": signed.csrf} if signed is not None and way.method != "GET" else None
    answer = desk.ask(way.method, path, signed, data=form)
    assert answer.headers["content-security-policy"]
    return answer.status_code, answer.text + str(answer.headers)


def begun(desk: Desk, path: str, signed: Signed) -> int:
    """The status with which an endless answer begins."""
    found: list[int] = []

    async def look() -> None:
        over = asyncio.Event()

        async def receive() -> dict[str, Any]:
            await over.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                found.append(message["status"])
                over.set()

        headers = [(b"host", b"desk.test"), *((k.lower().encode(), v.encode()) for k, v in signed.headers.items())]
        scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": headers}
        more = {"scheme": "https", "server": ("desk.test", 443), "client": ("127.0.0.1", 1), "http_version": "1.1", "root_path": ""}
        asked = asyncio.ensure_future(desk.client.app({**scope, **more}, receive, send))  # type: ignore[arg-type]
        await over.wait()
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)

    assert desk.client.portal is not None
    desk.client.portal.call(look)
    return found[0]


def expected(way: Way, role: Role, where: str, tenant: str) -> set[int]:
    """The statuses that may be given; empty: the person is let in, and what comes of it is the handler's."""
    inside = where == "everywhere" or WHERE[where] == tenant
    able = role in MAY[way.action]
    if way.of in ("agent", "card", "tenant"):
        return {404} if not inside else set() if able else {403}
    if way.of == "installation":
        return set() if able and where == "everywhere" else {403}
    return set() if able else {403}


@pytest.fixture(scope="module")
def people(desk: Desk) -> dict[tuple[str, str], Signed]:
    """A login or a token of every role in every place, by (entry, account)."""
    names = [person(role, where) for role in ROLES for where in WHERE]
    return {("login", n): desk.signed_in(n) for n in names} | {("token", n): desk.token(n) for n in names}


@pytest.mark.parametrize("way", [*BROWSED, *CALLED], ids=lambda way: f"{way.method} {way.path}")
def test_everybody_is_let_in_just_where_the_table_says(desk: Desk, people: dict[tuple[str, str], Signed], way: Way) -> None:
    wrong = []
    for where in WHERE:
        for role in ROLES:
            for tenant in (HERE, HIDDEN):
                signed = people[way.entry, person(role, where)]
                if way.path == "/logout":
                    signed = desk.signed_in(person(role, where))  # which this way ends
                code, said = status(desk, way, tenant, signed)
                told = expected(way, role, where, tenant)
                # A listing says of what one sees nothing of that it is not there.
                unseen = way.path in ONE_OF_A_LIST and where != "everywhere" and WHERE[where] != tenant
                own = way.of == "caller" and "{" in way.path  # of the samples nobody has one
                gone = way.path in NOT_THERE and code == 404
                let_in = gone or (code == 404 if unseen or own else code < 500 and code not in (401, 403, 404))
                if code not in told if told else not let_in:
                    wrong.append(f"{role} {where}, a thing of {tenant}: {code}, not {told or 'let in'}")
                if where == "here" and SENTINEL in said:
                    wrong.append(f"{role} of {HERE} reads of {HIDDEN} in the answer {code}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("way", BROWSED, ids=lambda way: f"{way.method} {way.path}")
def test_nobody_gets_further_than_the_sign_in_without_a_login_or_with_an_old_one(desk: Desk, way: Way) -> None:
    for ago_s in (None, STALE_S, 31 * 60):
        signed = None if ago_s is None else desk.signed_in(person("admin", "everywhere"), ago_s)
        path = path_of(way, desk, HERE)
        answer = desk.ask(way.method, path, signed, data={"csrf": signed.csrf} if signed and way.method != "GET" else None)
        if way.method == "GET" and way.path != "/events":
            assert (answer.status_code, answer.headers["location"]) == (303, "/login"), ago_s
        else:
            assert answer.status_code == 401, ago_s


@pytest.mark.parametrize("way", CALLED, ids=lambda way: f"{way.method} {way.path}")
def test_no_program_gets_in_without_a_token_with_an_old_one_or_by_a_browser_s_login(desk: Desk, way: Way) -> None:
    old = desk.token(person("admin", "everywhere"), 1, ago_s=2 * 86_400)
    browser = desk.signed_in(person("admin", "everywhere"))
    for signed in (None, old, browser, Signed({"Authorization": "Bearer chimera_guessed"}, "")):
        answer = desk.ask(way.method, path_of(way, desk, HERE), signed)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("way", [w for w in BROWSED if w.method != "GET"], ids=lambda way: way.path)
def test_nothing_changes_without_the_login_s_own_token(desk: Desk, way: Way) -> None:
    admin, other = desk.signed_in(person("admin", "everywhere")), desk.signed_in(person("admin", "everywhere"))
    for token in ("", "made up", other.csrf):
        answer = desk.ask(way.method, path_of(way, desk, HERE), admin, data={"csrf": token})
        assert answer.status_code == 403
        assert "another login" in answer.text


@pytest.mark.parametrize("way", [w for w in WAYS if w.entry == "open"], ids=lambda way: f"{way.method} {way.path}")
def test_what_is_open_to_anybody_tells_nothing_of_anybody(desk: Desk, way: Way) -> None:
    answer = desk.ask(way.method, path_of(way, desk, HERE))
    assert answer.status_code in (200, 303, 401)
    assert "Sign out" not in answer.text
    assert SENTINEL not in answer.text
