"""Mission Control on a running stack: what a browser is given and what its decisions become in the log."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from typing import Any, cast

import pytest
from starlette.testclient import TestClient

from chimera.control.accounts import Accounts
from chimera.control.app import application
from chimera.control.media import allowing
from chimera.control.web import HEADERS
from chimera.events.records import HumanApproved, HumanRejected
from chimera.stack.addresses import media_url
from tests.e2e.house import House

OURS = {"Sec-Fetch-Site": "same-origin"}
PASSWORDS = {"kim": "kim's long password", "lee": "lee's long password", "far": "far away password", "eye": "only looks here"}
GRANTS: dict[str, Any] = {
    "kim": {"acme": ["moderator"]},
    "lee": {"*": ["moderator"]},
    "far": {"canary": ["admin"]},
    "eye": {"acme": ["viewer"]},
}


@pytest.fixture(scope="module")
def names(house: House) -> list[str]:
    """Agents whose every text waits for people."""
    names = house.enrol("desk", 2, approve_above=1.0)
    house.start(house.brief("Looked at", 4), names)
    house.until(lambda: house.resting(names) and len(house.cards(names)) >= 6, "the cards wait")
    house.until_projected()
    accounts = Accounts(house.home)
    for name, grants in GRANTS.items():
        accounts.put(name, grants, PASSWORDS[name])
    return names


@pytest.fixture(scope="module")
def served(house: House, names: list[str]) -> Iterator[TestClient]:
    app = application(house.home, house.addresses.postgres)
    with TestClient(app, base_url="https://desk.test", follow_redirects=False) as client:
        yield client


def browser(served: TestClient, name: str) -> TestClient:
    """A browser in which that person is signed in."""
    client = TestClient(served.app, base_url="https://desk.test", follow_redirects=False)
    client.portal = served.portal  # the one running application
    answer = client.post("/login", data={"name": name, "password": PASSWORDS[name]}, headers=OURS)
    assert (answer.status_code, answer.headers["location"]) == (303, "/review")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-chimera=")
    assert all(word in cookie for word in ("HttpOnly", "Secure", "SameSite=lax", "Path=/"))
    return client


def fields(page: str) -> dict[str, str]:
    """The hidden fields of the card that a page shows."""
    form = page[page.index('id="decide"') :]
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form))


def shown(client: TestClient, card: str) -> str:
    page = client.get("/review", params={"card": card})
    assert page.status_code == 200, page.text
    return page.text


def cards(house: House, names: list[str]) -> list[str]:
    house.service.catch_up()
    return [str(card.address) for card in house.cards(names)]


def test_nobody_sees_a_page_without_signing_in_and_wrong_words_do_not_open(served: TestClient, names: list[str]) -> None:
    stranger = TestClient(served.app, base_url="https://desk.test", follow_redirects=False)
    stranger.portal = served.portal
    for path in ("/", "/review", "/fleet", f"/agent/{names[0]}"):
        answer = stranger.get(path)
        assert answer.status_code == 303
        assert "Sign out" not in answer.text
    assert stranger.get("/events").status_code == 401
    wrong = stranger.post("/login", data={"name": "kim", "password": "not the word"}, headers=OURS)
    assert wrong.status_code == 401
    assert "do not fit" in wrong.text
    assert "set-cookie" not in wrong.headers


@pytest.mark.parametrize("path", ["/fleet", "/nowhere", "/agent/nobody", "/static/control.css", "/login"])
def test_every_answer_carries_the_security_headers(served: TestClient, path: str) -> None:
    answer = browser(served, "kim").get(path)
    assert {name: answer.headers[name] for name in HEADERS if name != "Cache-Control"} == {
        name: value for name, value in HEADERS.items() if name != "Cache-Control"
    }


def test_the_desk_lets_in_media_from_their_own_origin_and_nothing_else_besides(house: House, served: TestClient) -> None:
    answer = browser(served, "kim").get("/review")
    ours, theirs = HEADERS["Content-Security-Policy"], answer.headers["Content-Security-Policy"]
    origin = media_url(house.home)
    assert origin.startswith("http://localhost:")  # another site than 127.0.0.1: no cookie of the desk goes there
    assert theirs == allowing(ours, origin)
    assert {rule for rule in theirs.split("; ") if origin in rule} == {f"img-src 'self' data: {origin}", f"media-src {origin}"}
    assert {name: answer.headers[name] for name in HEADERS if name != "Content-Security-Policy"} == {
        name: value for name, value in HEADERS.items() if name != "Content-Security-Policy"
    }


def test_a_card_is_approved_as_shown_and_the_log_names_the_person_and_the_sight(
    house: House, served: TestClient, names: list[str]
) -> None:
    at = cards(house, names)[0]
    kim = browser(served, "kim")
    page = shown(kim, at)
    words = cast(str, house.done("review", "show", at)["text"]).split("\n")[0][:40]
    assert words.split("'")[0].split("“")[0] in page

    answer = kim.post(f"/review/{at}/decide", data={**fields(page), "decision": "approve"}, headers=OURS)
    assert answer.status_code == 200, answer.text
    assert f"{at} approved by kim" in answer.text

    house.service.catch_up()
    (vote,) = [seen.record for seen in house.records("HumanApproved", names) if seen.record.actor == "kim"]
    data = cast(HumanApproved, vote.data)
    assert (data.effect_hash, data.shown_hash) == (fields(page)["effect_hash"], fields(page)["shown_hash"])


def test_two_people_race_for_a_card_and_the_loser_is_told_and_keeps_what_they_typed(
    house: House, served: TestClient, names: list[str]
) -> None:
    at = cards(house, names)[0]
    kim, lee = browser(served, "kim"), browser(served, "lee")
    first, second = shown(kim, at), shown(lee, at)
    gone = {**fields(first), "decision": "reject", "reason_code": "off_brand", "comment": "not us"}
    assert kim.post(f"/review/{at}/decide", data=gone, headers=OURS).status_code == 200

    late = lee.post(f"/review/{at}/decide", data={**fields(second), "decision": "approve", "comment": "fine by me"}, headers=OURS)
    assert late.status_code == 409
    assert "its task was closed (rejected)" in late.text

    house.service.catch_up()
    (no,) = [seen.record for seen in house.records("HumanRejected", names) if seen.record.actor == "kim"]
    assert cast(HumanRejected, no.data).reason_code == "off_brand"
    assert not [seen for seen in house.records("HumanApproved", names) if seen.record.actor == "lee"]


def test_what_was_not_shown_cannot_be_approved(house: House, served: TestClient, names: list[str]) -> None:
    first, other = cards(house, names)[:2]
    kim = browser(served, "kim")
    of_other = fields(shown(kim, other))
    answer = kim.post(f"/review/{first}/decide", data={**of_other, "decision": "approve"}, headers=OURS)
    assert answer.status_code == 409
    assert "it is not what was shown" in answer.text
    assert first in cards(house, names)


def test_an_edit_is_compared_and_read_by_the_rules_before_it_is_put_in_place(
    house: House, served: TestClient, names: list[str]
) -> None:
    at = cards(house, names)[0]
    kim = browser(served, "kim")
    given = fields(shown(kim, at))
    old = str(house.done("review", "show", at)["text"])
    looked = kim.post(f"/review/{at}/reread", data={"csrf": given["csrf"], "text": f"{old} miracle <b>now</b>"}, headers=OURS)
    assert "<ins>" in looked.text
    assert "&lt;b&gt;now" in looked.text
    assert "<b>now" not in looked.text
    assert "miracle" in looked.text[looked.text.index("findings") :]
    put = kim.post(f"/review/{at}/decide", data={**given, "decision": "edit", "text": old.replace(" ", "  ", 1)}, headers=OURS)
    assert put.status_code == 200, put.text
    assert f"{at} edited by kim" in put.text


def test_hold_and_release_move_a_card_and_decide_nothing(house: House, served: TestClient, names: list[str]) -> None:
    at = cards(house, names)[-1]
    kim = browser(served, "kim")
    held = kim.post(f"/review/{at}/decide", data={**fields(shown(kim, at)), "decision": "hold", "comment": "legal"}, headers=OURS)
    assert "Held by kim: legal" in held.text
    free = kim.post(f"/review/{at}/decide", data={**fields(held.text), "decision": "release"}, headers=OURS)
    assert "eld by kim:" not in free.text
    assert at in cards(house, names)


def test_another_tenant_s_people_see_nothing_of_this_one_and_decide_nothing_here(
    house: House, served: TestClient, names: list[str]
) -> None:
    at = cards(house, names)[0]
    mine = fields(shown(browser(served, "kim"), at))
    far = browser(served, "far")
    for path in ("/review", f"/review?card={at}", "/fleet", "/review?kind=sensitive", f"/agent/{names[0]}"):
        page = far.get(path)
        told = unescape(page.text)
        for refusal in (f"card {at}: there is none", f"no agent '{names[0]}' here"):  # says back what was asked for
            told = told.replace(refusal, "")
        assert names[0] not in told.replace(at, ""), path
        assert "autumn" not in told, path
    token = re.search(r'name="csrf" value="([^"]+)"', far.get("/fleet").text)
    assert token is not None
    tried = far.post(f"/review/{at}/decide", data={**mine, "csrf": token[1], "decision": "approve"}, headers=OURS)
    assert tried.status_code == 404
    assert at in cards(house, names)


def test_who_only_looks_is_given_no_buttons_and_no_way_around_them(house: House, served: TestClient, names: list[str]) -> None:
    at = cards(house, names)[0]
    eye = browser(served, "eye")
    page = shown(eye, at)
    assert "You may look at this card" in page
    assert 'id="approve"' not in page
    tried = eye.post(f"/review/{at}/decide", data={**fields(page), "decision": "approve"}, headers=OURS)
    assert tried.status_code == 403
    assert "eye may not decide cards of tenant acme" in tried.text


@pytest.mark.parametrize("change", [{"csrf": "made up"}, {"csrf": ""}])
def test_a_decision_without_the_login_s_own_token_counts_for_nothing(
    house: House, served: TestClient, names: list[str], change: dict[str, str]
) -> None:
    at = cards(house, names)[0]
    kim = browser(served, "kim")
    tried = kim.post(f"/review/{at}/decide", data={**fields(shown(kim, at)), **change, "decision": "approve"}, headers=OURS)
    assert tried.status_code == 403
    assert at in cards(house, names)


def test_a_decision_from_another_site_s_page_is_turned_away(house: House, served: TestClient, names: list[str]) -> None:
    at = cards(house, names)[0]
    kim = browser(served, "kim")
    given = {**fields(shown(kim, at)), "decision": "approve"}
    tried = kim.post(f"/review/{at}/decide", data=given, headers={"Sec-Fetch-Site": "cross-site"})
    assert tried.status_code == 403
    assert kim.post(f"/review/{at}/decide", data=given).status_code == 403  # nor what says nothing of where it comes from
    assert at in cards(house, names)


def test_the_fleet_and_an_agent_are_shown_with_every_record_and_its_ruling(
    house: House, served: TestClient, names: list[str]
) -> None:
    kim = browser(served, "kim")
    fleet = kim.get("/fleet", params={"name": "desk"})
    assert all(f'href="/agent/{name}?tenant=acme"' in fleet.text for name in names)
    page = kim.get(f"/agent/{names[0]}").text
    for word in ("ArtifactProduced", "applied", "Timeline"):
        assert word in page
    assert kim.get("/agent/nobody").status_code == 404


def test_signing_out_ends_the_login_on_the_server(served: TestClient) -> None:
    kim = browser(served, "kim")
    token = re.search(r'name="csrf" value="([^"]+)"', kim.get("/fleet").text)
    assert token is not None
    cookie = dict(kim.cookies)
    assert kim.post("/logout", data={"csrf": token[1]}, headers=OURS).status_code == 303
    again = TestClient(served.app, base_url="https://desk.test", follow_redirects=False, cookies=cookie)
    again.portal = served.portal
    assert again.get("/fleet").status_code == 303


def test_the_stack_runs_mission_control_and_the_command_line_gives_a_link_to_it(house: House, names: list[str]) -> None:
    import httpx

    typed = house.run("control", "link", "kim")
    assert typed.code == 0, typed.out
    link = typed.out.strip()
    with httpx.Client(follow_redirects=False) as client:
        assert client.get(link).status_code == 200  # looking at a link does not use it up
        entered = client.post(link, headers={"Origin": link.split("/enter")[0]})
        assert entered.status_code == 303
        assert client.post(link, headers={"Origin": link.split("/enter")[0]}).status_code == 401
    assert "kim" in house.run("control", "list").out
