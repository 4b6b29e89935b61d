"""Mission Control's operations on a running stack: switches, money, calls, parked rows, builds, policies, the audit page."""

from __future__ import annotations

import re
import uuid
from html import unescape
from typing import Any

import psycopg
import pytest
from starlette.testclient import TestClient

from chimera.cli import noting
from chimera.control.policies import REPORTS
from chimera.settings import Settings
from tests.e2e.house import House
from tests.e2e.pages import OURS, TENANT, Told, browser, shown, token


def flash(client: TestClient, path: str, given: dict[str, Any], here: str = "/fleet") -> tuple[int, str]:
    """What posting a form comes to: the status, and what the page then says."""
    answer = client.post(path, data={"csrf": token(shown(client, here)), **given}, headers=OURS)
    text = shown(client, answer.headers["location"]) if answer.status_code == 303 else answer.text
    return answer.status_code, unescape(text)


def test_the_overview_tells_every_process_its_lag_and_that_nobody_is_missing(house: House, pages: TestClient, told: Told) -> None:
    house.until_well()
    page = unescape(shown(browser(pages, "vic"), "/operations"))
    for role in ("brain", "gate", "projector"):
        assert re.search(rf'<th scope="row">{role} <span class="dim">\d+', page), role
    assert "missing: nobody does this" not in page
    assert "cards</a>, the oldest for" in page
    assert "Security events" not in page, "log-ins are the installation's"
    ada, who = browser(pages, "ada"), f"guard-{uuid.uuid4().hex[:8]}"
    noting.note(Settings(home=house.home, actor=who), "export_made", resource="for-the-overview")
    house.until(lambda: who in unescape(shown(ada, "/operations")), "what doors noted is told to who may look at every tenant")


def test_a_switch_is_closed_after_asking_stops_calls_and_is_opened_again(house: House, pages: TestClient, told: Told) -> None:
    ona, name = browser(pages, "ona"), told.names[1]
    given = {"turn": "close", "kind": "agent", "name": name, "reason": "looks hacked"}
    status, asked = flash(ona, "/switches/turn", given)
    assert (status, f"Close the switch of agent {name}?" in asked) == (200, True)
    assert not closed(house, name)

    status, page = flash(ona, "/switches/turn", {**given, "sure": "yes"})
    assert (status, f"agent {name}: closed" in page) == (303, True)
    assert closed(house, name)
    house.decide(next(card for card in house.cards([name])))
    house.until(lambda: house.records("EffectDeferred", [name]), "the gate was stopped")
    house.until(lambda: "Holds back 1:" in unescape(shown(ona, "/switches")), "the page shows what it holds back")

    scope = re.search(r'name="scope" value="([^"]+)"', page)
    assert scope is not None
    given = {"turn": "open", "scope": scope[1], "reason": "it was us", "sure": "yes"}
    assert flash(ona, "/switches/turn", given)[0] == 303
    assert not closed(house, name)
    house.until(lambda: house.records("EffectEnded", [name]), "what was held back goes out")


def closed(house: House, name: str) -> bool:
    found = house.done("switch", "list", "--all")["switches"]
    return any(switch["closed"] for switch in found if house.agent(name).key in switch["scope"])


@pytest.mark.parametrize(
    ("person", "change", "status"),
    [
        ("vic", {}, 403),
        ("out", {}, 409),
        ("ona", {"kind": "fleet", "name": ""}, 403),
        ("ona", {"kind": "platform", "name": "x"}, 403),
        ("ona", {"kind": "tenant", "name": "canary"}, 409),
        ("ona", {"reason": ""}, 409),
        ("ona", {"kind": "door"}, 409),
    ],
)
def test_a_switch_is_not_turned_by_who_may_not_and_one_beyond_the_tenant_only_by_who_operates_everywhere(
    house: House, pages: TestClient, told: Told, person: str, change: dict[str, str], status: int
) -> None:
    given = {"turn": "close", "kind": "agent", "name": told.names[1], "reason": "a try", "sure": "yes", **change}
    assert flash(browser(pages, person), "/switches/turn", given)[0] == status
    assert not closed(house, told.names[1])
    assert not any(
        switch["closed"] for switch in house.done("switch", "list")["switches"] if switch["scope"] in ("fleet", "platform:x")
    )


def test_calls_are_counted_per_tool_and_money_by_what_it_was_spent_on(pages: TestClient, told: Told) -> None:
    vic = browser(pages, "vic")
    calls = unescape(shown(vic, "/calls"))
    assert re.search(r'<th scope="row">x\.createPosts</th><td>social\.publish</td><td>sandbox</td><td class="number">[1-9]', calls)
    assert "<svg" in calls
    money = unescape(shown(vic, "/money"))
    assert f'href="/agent/{told.names[0]}"' in money[money.index("Agents by cost") :]


def test_what_is_parked_is_healed_from_the_page_and_given_up_only_after_asking(house: House, pages: TestClient, told: Told) -> None:
    ona, agent = browser(pages, "ona"), house.agent(told.names[0])
    house.until_projected()
    (place,) = house.sql('SELECT partition, "offset" FROM core.verdicts WHERE agent_id = %s ORDER BY "offset" LIMIT 1', agent.key)
    with psycopg.connect(house.addresses.postgres) as connection:
        connection.execute(
            'INSERT INTO core.parked (model, stream, partition, "offset", reason, last_offset) VALUES (%s, %s, %s, %s, %s, %s)',
            ("verdicts", agent.key, place[0], place[1], "made up: a row was refused", place[1]),
        )
        connection.execute('DELETE FROM core.verdicts WHERE agent_id = %s AND "offset" = %s', (agent.key, place[1]))
    assert "made up: a row was refused" in unescape(shown(ona, "/parked"))
    assert "made up" not in shown(browser(pages, "out"), "/parked")
    which = {"model": "verdicts", "stream": agent.key, "partition": str(place[0])}
    assert flash(browser(pages, "vic"), "/parked/change", {"change": "heal", **which})[0] == 403
    status, asked = flash(ona, "/parked/change", {"change": "discard", "reason": "ours", **which})
    assert (status, "Give the record up?" in asked) == (200, True)
    status, page = flash(ona, "/parked/change", {"change": "heal", **which})
    assert (status, f"healed: verdicts of {told.names[0]}" in page) == (303, True)
    assert "Nothing is parked" in page
    house.equals_refold()


def test_a_build_is_planned_made_compared_swapped_in_and_swapped_back_from_the_pages(
    house: House, pages: TestClient, told: Told
) -> None:
    ada = browser(pages, "ada")
    before = live(shown(ada, "/builds"))
    status, page = flash(ada, "/builds/plan", {"change": "plan"})
    made = re.search(r"build (\d+) is planned", page)
    assert (status, made is not None) == (303, True)
    build = str(made and made[1])

    given = {"change": "apply", "reason": "to try it"}
    status, asked = flash(ada, f"/builds/{build}", given)
    assert (status, "records are read from offset 0" in asked) == (200, True)
    assert flash(ada, f"/builds/{build}", {**given, "sure": "yes"})[0] == 303
    house.until(lambda: made_and_left(shown(ada, "/builds"), build), "the build is made, and its process has ended", 180)

    compared = unescape(shown(ada, f"/builds/{build}/diff"))
    assert "<b>Equal</b>" in compared
    status, asked = flash(ada, f"/builds/{build}", {"change": "swap", "reason": "it is equal"})
    assert (status, "All readers see build" in asked, "<b>Equal</b>" in asked) == (200, True, True)
    assert live(shown(ada, "/builds")) == before
    assert flash(ada, f"/builds/{build}", {"change": "swap", "reason": "it is equal", "sure": "yes"})[0] == 303
    assert live(shown(ada, "/builds")) == build
    assert flash(ada, f"/builds/{before}", {"change": "rollback", "reason": "enough", "sure": "yes"})[0] == 303
    page = shown(ada, "/builds")
    assert live(page) == before
    assert all(word in page for word in ("to try it", "it is equal", "enough"))
    assert flash(ada, f"/builds/{build}", {"change": "drop", "reason": "tidy", "sure": "yes"})[0] == 303


def made_and_left(page: str, build: str) -> bool:
    return f'Build {build} <span class="state ready"' in page and "a process works on it" not in page


def live(page: str) -> str:
    found = re.search(r'Build (\d+) <span class="state live"', page)
    assert found is not None
    return found[1]


@pytest.mark.parametrize(
    ("path", "person"), [("/builds", "ona"), ("/builds", "out"), ("/audit", "vic"), ("/policies/report/a.html", "ona")]
)
def test_what_tells_of_every_tenant_is_shown_only_to_who_may_look_everywhere(
    pages: TestClient, told: Told, path: str, person: str
) -> None:
    assert browser(pages, person).get(path).status_code == 403


def test_builds_are_not_touched_by_who_does_not_administer(pages: TestClient, told: Told) -> None:
    assert flash(browser(pages, "ona"), "/builds/plan", {"change": "plan"})[0] == 403
    assert flash(browser(pages, "ona"), "/builds/1", {"change": "drop", "reason": "x", "sure": "yes"})[0] == 403


def test_the_audit_page_tells_whether_a_notary_signs_and_who_took_the_log_home(house: House, pages: TestClient, told: Told) -> None:
    ada = browser(pages, "ada")
    page = unescape(shown(ada, "/audit"))
    assert ("No notary runs here" in page) != ("records signed" in page)
    assert "chimera audit export" in page
    noting.note(Settings(home=house.home, actor="nora"), "export_made", resource="for-the-auditor")
    house.until(lambda: "export made: for-the-auditor" in unescape(shown(ada, "/audit")), "the export is told")
    assert "by nora" in unescape(shown(ada, "/audit"))


def test_policies_are_listed_and_compared_in_meaning_and_a_rehearsal_is_shown_in_a_sandbox(
    house: House, pages: TestClient, told: Told
) -> None:
    vic = browser(pages, "vic")
    page = unescape(shown(vic, "/policies"))
    (digest, *_) = re.findall(r'name="after" value="([^"]+)"', page)
    same = unescape(shown(vic, "/policies/diff", before=digest, after=digest))
    assert "No difference in meaning" in same
    assert vic.get("/policies/diff", params={"before": digest, "after": "other"}).status_code == 404
    (house.home / REPORTS / "autumn.html").write_text("<h1>Rehearsal</h1><script>alert(1)</script>")
    ada = browser(pages, "ada")
    assert 'href="/policies/report/autumn.html"' in shown(ada, "/policies")
    answer = ada.get("/policies/report/autumn.html")
    assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    for name in ("..%2Fstack.json", "none.html"):
        assert ada.get(f"/policies/report/{name}").status_code == 404
    assert TENANT in page
