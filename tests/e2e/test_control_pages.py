"""Mission Control's pages beside the review desk, on a running stack: what they tell, whom, and what they let people do."""

from __future__ import annotations

import re
from html import unescape
from zoneinfo import ZoneInfo

import pytest
from starlette.testclient import TestClient

from chimera.control import fleet
from tests.e2e.house import House
from tests.e2e.pages import OURS, TENANT, Told, browser, shown, token

PAGES = [
    "/fleet", "/fleet?name=pag", "/fleet?is=waiting", "/agent/{agent}", "/agent/{agent}/past", "/task/{agent}/{task}", "/records",
    "/records?agent={agent}", "/campaigns", "/campaign/{campaign}", "/schedule", "/schedule?agent={agent}", "/operations",
    "/switches", "/money", "/calls", "/parked", "/policies", "/analytics", "/analytics?tenant=paged", "/analytics/cost.csv",
    "/statement", "/statement.csv",
]  # fmt: skip


def test_nobody_sees_a_page_without_signing_in(pages: TestClient, told: Told) -> None:
    stranger = TestClient(pages.app, base_url="https://desk.test", follow_redirects=False)
    stranger.portal = pages.portal
    for page in PAGES:
        assert stranger.get(page.format(agent=told.names[0], task=told.published, campaign=told.campaign)).status_code == 303, page


def test_no_page_shows_anything_of_a_tenant_to_people_of_another(pages: TestClient, told: Told) -> None:
    out = browser(pages, "out")
    for page in PAGES:
        path = page.format(agent=told.names[0], task=told.published, campaign=told.campaign)
        answer = out.get(path)
        words = unescape(answer.text).replace(f'value="{told.names[0]}"', "")
        words = words.replace(f"agent={told.names[0]}", "")  # what was asked for, said back
        assert told.names[0] not in words, path
        assert "Paged on" not in words, path
        assert answer.status_code in (200, 404), path


# --- a task's story --------------------------------------------------------------------------------------------------


def test_a_story_goes_from_the_brief_to_the_post_and_each_step_leads_to_its_record(
    house: House, pages: TestClient, told: Told
) -> None:
    vic = browser(pages, "vic")
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


def test_a_task_that_is_none_is_said_so(pages: TestClient, told: Told) -> None:
    vic = browser(pages, "vic")
    for path in (f"/task/{told.names[0]}/99.1", f"/task/{told.names[0]}/first", f"/task/nobody/{told.published}", "/record/9999:1"):
        assert vic.get(path).status_code == 404, path


def test_a_record_tells_its_envelope_its_body_its_cause_and_how_to_prove_it(house: House, pages: TestClient, told: Told) -> None:
    (voted, *_) = [seen.record for seen in house.records("HumanApproved", told.names)]
    page = unescape(shown(browser(pages, "vic"), f"/record/{voted.partition}:{voted.offset}"))
    for words in ("HumanApproved", voted.id, "effect_hash", "applied", f"chimera audit prove {voted.partition}@{voted.offset}"):
        assert words in page, words
    by_id = browser(pages, "vic").get(f"/record/{voted.id}")
    assert f"{voted.partition}:{voted.offset}" in by_id.text
    listed = shown(browser(pages, "vic"), "/records", agent=told.names[0], type="HumanApproved")
    assert f"/record/{voted.partition}:{voted.offset}" in listed
    assert "ArtifactProduced" not in listed


# --- an agent --------------------------------------------------------------------------------------------------------


def test_an_agent_s_page_shows_persona_allowance_tasks_their_picture_and_every_record(pages: TestClient, told: Told) -> None:
    page = shown(browser(pages, "vic"), f"/agent/{told.names[0]}")
    for words in ("Persona", "of 1.00 USD", "<svg", f'href="/task/{told.names[0]}/{told.published}"', "HumanRejected", "Timeline"):
        assert words in page, words
    assert 'name="change"' not in page  # a viewer is given nothing to press
    only = shown(browser(pages, "vic"), f"/agent/{told.names[0]}", ruling="rejected")
    assert "ArtifactProduced" not in only


def test_an_agent_is_shown_as_it_was_at_a_version_and_what_that_version_changed(pages: TestClient, told: Told) -> None:
    vic = browser(pages, "vic")
    early = unescape(shown(vic, f"/agent/{told.names[0]}/past", version="1"))
    assert "AgentEnrolled" in early
    assert "campaigns" not in early[early.index("The whole state") :]
    later = unescape(shown(vic, f"/agent/{told.names[0]}/past", version="4"))
    assert "Changed since version 3" in later
    assert "campaigns" in later[later.index("The whole state") :]


def test_an_operator_pauses_and_resumes_with_a_reason_and_the_log_names_them(house: House, pages: TestClient, told: Told) -> None:
    ona, name = browser(pages, "ona"), told.names[1]
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
    house: House, pages: TestClient, told: Told, person: str, change: dict[str, str], status: int
) -> None:
    client, name = browser(pages, person), told.names[0]
    given = {"csrf": token(shown(client, "/fleet")), "change": "pause", "reason": "a try", **change}
    assert client.post(f"/agent/{name}/status", data=given, headers=OURS).status_code == status
    house.service.catch_up()
    assert house.agent(name).status == "active"


# --- fleet, campaigns, schedule --------------------------------------------------------------------------------------


def test_the_fleet_is_paged_by_name_filtered_and_searched(pages: TestClient, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "AT_ONCE", 1)
    vic = browser(pages, "vic")
    first = unescape(shown(vic, "/fleet"))
    assert agents_on(first) == [told.names[0]]
    forward = re.search(r'href="(/fleet\?after=[^"]+)">Next', first)
    assert forward is not None
    second = unescape(shown(vic, forward[1]))
    assert agents_on(second) == [told.names[1]]
    assert ">Next" not in second
    back = re.search(r'href="(/fleet\?before=[^"]+)">Before', second)
    assert back is not None
    assert agents_on(shown(vic, back[1])) == [told.names[0]]
    assert agents_on(shown(vic, "/fleet", name=told.names[1].upper())) == [told.names[1]]
    assert agents_on(shown(vic, "/fleet", **{"is": "retired"})) == []
    assert agents_on(shown(vic, "/fleet", **{"is": "waiting"})) != []


def agents_on(page: str) -> list[str]:
    return re.findall(r'<a href="/agent/([^"?]+)', page)


def test_a_campaign_shows_its_goal_its_progress_and_the_tasks_of_the_agent_that_is_asked_for(pages: TestClient, told: Told) -> None:
    vic = browser(pages, "vic")
    assert f'href="/campaign/{told.campaign}"' in shown(vic, "/campaigns", name="paged")
    page = unescape(shown(vic, f"/campaign/{told.campaign}", agent=told.names[1]))
    for words in (
        "Show people that autumn",
        "tasks are over",
        f"Tasks of {told.names[1]}",
        f'href="/task/{told.names[1]}/1.4"',
        "2 running",
    ):
        assert words in page, words
    assert vic.get("/campaign/none-such").status_code == 404


def test_a_campaign_is_paused_and_resumed_by_who_operates_it_and_cancelled_only_after_asking(
    house: House, pages: TestClient, told: Told
) -> None:
    ona, path = browser(pages, "ona"), f"/campaign/{told.campaign}/status"
    given = {"csrf": token(shown(ona, f"/campaign/{told.campaign}")), "change": "pause", "reason": "a storm"}
    assert browser(pages, "vic").post(path, data=given, headers=OURS).status_code == 403  # also another login's token
    paused = ona.post(path, data=given, headers=OURS)
    assert paused.status_code == 303
    assert "applied for 2 of 2" in unescape(shown(ona, paused.headers["location"]))
    assert ona.post(path, data={**given, "change": "resume"}, headers=OURS).status_code == 303
    asked = ona.post(path, data={**given, "change": "cancel"}, headers=OURS)
    assert asked.status_code == 200
    assert "Cancel Paged on?" in unescape(asked.text)
    house.service.catch_up()
    (seen, *_) = house.records("CampaignStatusSet", told.names)
    assert seen.record.actor == "ona"
    assert {row.status for row in house.campaigns(told.names)} == {"running"}


def test_the_schedule_shows_what_went_out_today_by_the_clock_of_the_zone(house: House, pages: TestClient, told: Told) -> None:
    vic = browser(pages, "vic")
    (at,) = house.sql("SELECT published_at FROM analytics_v1.posts WHERE agent = %s", told.names[0])[0]
    for zone in ("UTC", "Asia/Kathmandu"):
        page = unescape(shown(vic, "/schedule", tz=zone))
        clock = at.astimezone(ZoneInfo(zone)).strftime("%H:%M")
        assert re.search(rf"<time>{clock}</time></span> <a href=\"/task/{told.names[0]}/{told.published}\"", page), zone
        assert "Without a time yet" in page
        assert f"{told.names[0]}_x" in page[page.index("Windows") :]
    assert "There is no time zone 'Moon/Sea'" in unescape(shown(vic, "/schedule", tz="Moon/Sea"))
