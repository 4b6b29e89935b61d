"""Mission Control's pages beside the review desk, on a running stack: what they tell, whom, and what they let people do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape

import pytest
from starlette.testclient import TestClient

from chimera.control.app import application
from tests.e2e.house import House
from tests.e2e.pages import OURS, TENANT, Told, browser, shown, tell, token


@pytest.fixture(scope="module")
def told(house: House) -> Told:
    return tell(house)


@pytest.fixture(scope="module")
def served(house: House, told: Told) -> Iterator[TestClient]:
    app = application(house.home, house.addresses.postgres)
    with TestClient(app, base_url="https://desk.test", follow_redirects=False) as client:
        yield client


PAGES = ["/fleet", "/agent/{agent}", "/agent/{agent}/past", "/task/{agent}/{task}", "/records", "/records?agent={agent}"]


def test_nobody_sees_a_page_without_signing_in(served: TestClient, told: Told) -> None:
    stranger = TestClient(served.app, base_url="https://desk.test", follow_redirects=False)
    stranger.portal = served.portal
    for page in PAGES:
        assert stranger.get(page.format(agent=told.names[0], task=told.published)).status_code == 303, page


def test_no_page_shows_anything_of_a_tenant_to_people_of_another(served: TestClient, told: Told) -> None:
    out = browser(served, "out")
    for page in PAGES:
        path = page.format(agent=told.names[0], task=told.published)
        answer = out.get(path)
        words = unescape(answer.text).replace(f"no agent '{told.names[0]}' here", "").replace(f'value="{told.names[0]}"', "")
        words = words.replace(f"agent={told.names[0]}", "")  # what was asked for, said back
        assert told.names[0] not in words, path
        assert "Paged on" not in words, path
        assert answer.status_code in (200, 404), path


# --- a task's story --------------------------------------------------------------------------------------------------


def test_a_story_goes_from_the_brief_to_the_post_and_each_step_leads_to_its_record(
    house: House, served: TestClient, told: Told
) -> None:
    vic = browser(served, "vic")
    page = unescape(shown(vic, f"/task/{told.names[0]}/{told.published}"))
    steps = re.findall(r'<div class="head"><b>([^<]+)</b>', page)
    in_order = [
        "Brief",
        "Plan",
        "Research",
        "Angles",
        "Draft",
        "Publish",
        "Approved",
        "The gate claims the call",
        "The call succeeded",
    ]
    places = [steps.index(word) for word in (*in_order, "On the platform")]
    assert places == sorted(places), steps
    assert "judge" in page
    assert "createPosts" in page[page.index("Calls of the gate") :]

    links = set(re.findall(r'href="(/record/\d+:\d+)"', page))
    assert len(links) >= len(in_order)
    for link in links:
        assert "Envelope" in shown(vic, link)


def test_a_task_that_is_none_is_said_so(served: TestClient, told: Told) -> None:
    vic = browser(served, "vic")
    for path in (f"/task/{told.names[0]}/99.1", f"/task/{told.names[0]}/first", f"/task/nobody/{told.published}", "/record/9999:1"):
        assert vic.get(path).status_code == 404, path


def test_a_record_tells_its_envelope_its_body_its_cause_and_how_to_prove_it(house: House, served: TestClient, told: Told) -> None:
    (voted, *_) = [seen.record for seen in house.records("HumanApproved", told.names)]
    page = unescape(shown(browser(served, "vic"), f"/record/{voted.partition}:{voted.offset}"))
    for words in ("HumanApproved", voted.id, "effect_hash", "applied", f"chimera audit prove {voted.partition}@{voted.offset}"):
        assert words in page, words
    by_id = browser(served, "vic").get(f"/record/{voted.id}")
    assert f"{voted.partition}:{voted.offset}" in by_id.text
    listed = shown(browser(served, "vic"), "/records", agent=told.names[0], type="HumanApproved")
    assert f"/record/{voted.partition}:{voted.offset}" in listed
    assert "ArtifactProduced" not in listed


# --- an agent --------------------------------------------------------------------------------------------------------


def test_an_agent_s_page_shows_persona_allowance_tasks_their_picture_and_every_record(served: TestClient, told: Told) -> None:
    page = shown(browser(served, "vic"), f"/agent/{told.names[0]}")
    for words in ("Persona", "of 1.00 USD", "<svg", f'href="/task/{told.names[0]}/{told.published}"', "HumanRejected", "Timeline"):
        assert words in page, words
    assert 'name="change"' not in page  # a viewer is given nothing to press
    only = shown(browser(served, "vic"), f"/agent/{told.names[0]}", ruling="rejected")
    assert "ArtifactProduced" not in only


def test_an_agent_is_shown_as_it_was_at_a_version_and_what_that_version_changed(served: TestClient, told: Told) -> None:
    vic = browser(served, "vic")
    early = unescape(shown(vic, f"/agent/{told.names[0]}/past", version="1"))
    assert "AgentEnrolled" in early
    assert "campaigns" not in early[early.index("The whole state") :]
    later = unescape(shown(vic, f"/agent/{told.names[0]}/past", version="4"))
    assert "Changed since version 3" in later
    assert "campaigns" in later[later.index("The whole state") :]


def test_an_operator_pauses_and_resumes_with_a_reason_and_the_log_names_them(house: House, served: TestClient, told: Told) -> None:
    ona, name = browser(served, "ona"), told.names[1]
    given = {"csrf": token(shown(ona, f"/agent/{name}")), "tenant": TENANT, "change": "pause", "reason": "looks odd"}
    paused = ona.post(f"/agent/{name}/status", data=given, headers=OURS)
    assert paused.status_code == 303
    assert "pause: applied" in unescape(shown(ona, paused.headers["location"]))
    house.service.catch_up()
    (seen,) = house.records("AgentStatusSet", [name])
    assert seen.record.actor == "ona"
    assert house.agent(name).status == "paused"
    assert ona.post(f"/agent/{name}/status", data={**given, "change": "resume"}, headers=OURS).status_code == 303
    house.service.catch_up()
    assert house.agent(name).status == "active"


@pytest.mark.parametrize(
    ("person", "change", "status"),
    [
        ("vic", {}, 403),
        ("out", {}, 404),
        ("ona", {"reason": " "}, 409),
        ("ona", {"change": "praise"}, 409),
        ("ona", {"csrf": "x"}, 403),
    ],
)
def test_an_agent_is_not_paused_by_who_may_not_or_without_saying_why(
    house: House, served: TestClient, told: Told, person: str, change: dict[str, str], status: int
) -> None:
    client, name = browser(served, person), told.names[0]
    given = {"csrf": token(shown(client, "/fleet")), "change": "pause", "reason": "a try", **change}
    assert client.post(f"/agent/{name}/status", data=given, headers=OURS).status_code == status
    house.service.catch_up()
    assert house.agent(name).status == "active"
