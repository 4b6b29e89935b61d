"""The JSON API on a running stack: what programs read and do, and what of it stands in the log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import orjson
import pytest

from chimera.control.limits import Limit, rates
from chimera.events.records import HumanApproved
from tests.e2e.desk import HERE, HIDDEN, Desk, Signed, open_desk
from tests.e2e.house import House
from tests.receiver import listening


@pytest.fixture(scope="module")
def desk(house: House) -> Iterator[Desk]:
    with open_desk(house) as opened:
        opened.accounts.put("robin", {HERE: ["moderator", "operator"]})
        yield opened


@pytest.fixture
def robin(desk: Desk) -> Signed:
    return desk.token("robin")


def got(desk: Desk, who: Signed, path: str, **query: Any) -> Any:
    answer = desk.ask("GET", f"/api/v1{path}", who, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def accepted(desk: Desk, who: Signed, path: str, body: dict[str, Any], key: str = "") -> Any:
    code, told = sent(desk, who, path, body, key)
    assert code == 200, told
    return told["answers"]


def sent(desk: Desk, who: Signed, path: str, body: dict[str, Any], key: str = "") -> Any:
    answer = desk.ask("POST", f"/api/v1{path}", who, json=body, headers={"Idempotency-Key": key} if key else {})
    return answer.status_code, answer.json()


def seen(desk: Desk, who: Signed, card: str) -> dict[str, Any]:
    told = got(desk, who, f"/cards/{card}")
    return {"shown": {name: told[name] for name in ("shown_hash", "effect_hash", "edit")}}


def waiting(desk: Desk) -> list[str]:
    desk.house.service.catch_up()
    return [str(card.address) for card in desk.house.cards([desk.agents[HERE]])]


def test_what_a_token_reads_is_what_its_tenant_has(desk: Desk, robin: Signed) -> None:
    me = got(desk, robin, "/me")
    assert (me["name"], me["tenant"], me["roles"]) == ("robin", HERE, ["moderator", "operator"])
    assert {card["tenant"] for card in got(desk, robin, "/queue")["cards"]} == {HERE}
    assert [agent["agent"] for agent in got(desk, robin, "/agents")["agents"]] == [desk.agents[HERE]]
    assert got(desk, robin, "/fleet")["agents"] == 1
    assert got(desk, robin, f"/agents/{desk.agents[HERE]}")["tasks"]
    assert [row["campaign_id"] for row in got(desk, robin, "/campaigns")["campaigns"]] == [desk.campaigns[HERE]]
    assert got(desk, robin, f"/campaigns/{desk.campaigns[HERE]}")["campaigns"][0]["status"] == {"running": 1}
    assert {row["tenant"] for row in got(desk, robin, "/spend")["rows"]} <= {HERE}
    assert got(desk, robin, "/switches/stopped") == {"stopped": []}


def test_an_approval_by_a_token_names_the_account_and_what_was_shown_and_counts_once_under_its_key(
    desk: Desk, robin: Signed
) -> None:
    at = waiting(desk)[0]
    body = seen(desk, robin, at)
    (first,) = accepted(desk, robin, f"/cards/{at}/approve", {**body, "comment": "fine"}, "key-1")
    assert first["outcome"] == "applied"
    (again,) = accepted(desk, robin, f"/cards/{at}/approve", {**body, "comment": "fine"}, "key-1")
    assert again["command_id"] == first["command_id"]
    desk.house.service.catch_up()
    votes = [each.record for each in desk.house.records("HumanApproved", [desk.agents[HERE]]) if each.record.actor == "robin"]
    (vote,) = [each for each in votes if cast(HumanApproved, each.data).effect_hash == body["shown"]["effect_hash"]]
    assert cast(HumanApproved, vote.data).shown_hash == body["shown"]["shown_hash"]


def test_what_was_not_shown_or_is_decided_already_is_refused_as_a_conflict(desk: Desk, robin: Signed) -> None:
    at = waiting(desk)[-1]
    body = seen(desk, robin, at)
    code, told = sent(desk, robin, f"/cards/{at}/approve", {"shown": {**body["shown"], "shown_hash": "0" * 64}})
    assert (code, told["title"]) == (409, "Conflict")
    assert "not what was shown" in told["detail"]
    code, _ = sent(desk, robin, f"/cards/{at}/hold", {"reason": "legal looks"})
    assert code == 200
    assert got(desk, robin, f"/cards/{at}")["held_by"] == "robin"
    assert sent(desk, robin, f"/cards/{at}/release", {})[0] == 200
    code, told = sent(desk, robin, f"/cards/{at}/reject", {**body, "reason_code": "other", "comment": "no"})
    assert (code, told["answers"][0]["outcome"]) == (200, "applied")
    code, told = sent(desk, robin, f"/cards/{at}/approve", body)
    assert code == 409
    assert desk.ask("GET", f"/api/v1/cards/{at}", robin).status_code == 404


def test_an_agent_and_a_campaign_are_paused_and_go_on_again(desk: Desk, robin: Signed) -> None:
    name, campaign = desk.agents[HERE], desk.campaigns[HERE]
    for path in (f"/agents/{name}", f"/tenants/{HERE}/campaigns/{campaign}"):
        for word in ("pause", "resume"):
            code, told = sent(desk, robin, f"{path}/{word}", {"reason": "to see"})
            assert (code, {row["outcome"] for row in told["answers"]}) == (200, {"applied"}), told
    assert sent(desk, robin, f"/tenants/{HERE}/campaigns/{desk.campaigns[HIDDEN]}/pause", {})[0] == 404
    desk.house.service.catch_up()
    assert desk.house.agent(name).status == "active"
    assert [each.record.actor for each in desk.house.records("AgentStatusSet", [name])] == ["robin", "robin"]


def test_a_switch_of_one_s_own_tenant_is_closed_and_opened_and_no_other(desk: Desk, robin: Signed) -> None:
    name = desk.agents[HERE]
    for scope in (f"agent:{name}", f"tenant:{HERE}"):
        code, told = sent(desk, robin, "/switches/close", {"scope": scope, "reason": "to see"})
        assert (code, told["outcome"], told["changed"]) == (200, "applied", True), told
        assert [row["closed"] for row in got(desk, robin, "/switches")["switches"] if row["scope"] == told["scope"]] == [True]
        code, told = sent(desk, robin, "/switches/open", {"scope": scope, "reason": "seen"})
        assert (code, told["outcome"]) == (200, "applied"), told
    for scope, refused in (("fleet", 403), ("platform:x", 403), (f"tenant:{HIDDEN}", 404), (f"agent:{desk.agents[HIDDEN]}", 404)):
        assert sent(desk, robin, "/switches/close", {"scope": scope, "reason": "to see"})[0] == refused, scope


@pytest.mark.parametrize(
    ("method", "path", "given", "code", "words"),
    [
        ("GET", "/queue", {"params": {"kind": "strange"}}, 422, "query.kind"),
        ("GET", "/queue", {"params": {"colour": "red"}}, 422, "query.colour"),
        ("GET", "/agents", {"params": [("limit", "1"), ("limit", "2")]}, 422, "twice"),
        ("GET", "/nowhere", {}, 404, "Not Found"),
        ("GET", "/campaigns/a%00b", {}, 404, "nothing like that"),
        ("GET", "/agents/a%00b", {}, 404, "nothing like that"),
        ("POST", "/queue", {"json": {}}, 405, "Method Not Allowed"),
        ("POST", "/agents/walked0/pause", {"json": {"reasons": ""}}, 422, "body.reasons"),
        ("POST", "/agents/walked0/pause", {"content": b"{}"}, 422, "Content-Type"),
        ("POST", "/agents/walked0/pause", {"json": {}, "headers": {"Idempotency-Key": "a b"}}, 422, "idempotency-key"),
        ("POST", "/agents/walked0/pause", {"json": {"reason": "x" * 70_000}}, 422, "more than 65536 bytes"),
    ],
)
def test_what_is_wrong_with_a_call_is_told_as_a_problem(
    desk: Desk, robin: Signed, method: str, path: str, given: dict[str, Any], code: int, words: str
) -> None:
    answer = desk.ask(method, f"/api/v1{path}", robin, **given)
    assert (answer.status_code, answer.headers["content-type"]) == (code, "application/problem+json"), answer.text
    told = answer.json()
    assert told["status"] == code
    assert words in told["detail"]


def test_who_asks_too_often_is_told_when_to_come_again(desk: Desk) -> None:
    from starlette.testclient import TestClient

    from chimera.control.app import application

    few = rates()._replace(tokens=Limit(0.1, 2), wrong_tokens=Limit(0.1, 2))
    app = application(desk.house.home, desk.house.addresses.postgres, few)
    with TestClient(app, base_url="https://desk.test") as client:
        token = desk.token("robin").headers
        codes = [client.get("/api/v1/me", headers=token).status_code for _ in range(3)]
        assert codes == [200, 200, 429]
        assert 1 <= int(client.get("/api/v1/me", headers=token).headers["retry-after"]) <= 10
        guesses = [client.get("/api/v1/me", headers={"Authorization": f"Bearer {n}"}).status_code for n in range(3)]
        assert guesses == [401, 401, 429]
        other = desk.token("robin").headers
        assert client.get("/api/v1/me", headers=other).status_code == 429  # whoever guesses waits, whatever comes next


def test_a_token_of_the_shell_opens_the_api_until_it_is_revoked(desk: Desk) -> None:
    house = desk.house
    made = house.done("control", "token", "add", "robin", "--role", "operator", "--tenant", HERE, "--label", "board")
    bearer = Signed({"Authorization": f"Bearer {made['secret']}"}, "")
    assert got(desk, bearer, "/me")["roles"] == ["operator"]
    assert "board" in house.run("control", "token", "list", "robin").out
    assert made["secret"] not in house.run("control", "token", "list", "--json").out
    assert house.run("control", "token", "revoke", made["id"]).code == 0
    assert desk.ask("GET", "/api/v1/me", bearer).status_code == 401
    assert "no more than that" in house.run("control", "token", "add", "robin", "--role", "admin", "--tenant", HERE).out


def test_a_receiver_hears_from_the_running_desk_that_cards_wait_and_nothing_of_what_they_say(desk: Desk) -> None:
    house = desk.house
    with listening() as receiver:
        made = house.done("control", "webhook", "add", receiver.url, "--tenant", HIDDEN, "--allow-private")
        house.until(lambda: receiver.got, "word of waiting cards comes")
        assert house.run("control", "webhook", "test", made["id"]).code == 0
        assert "1 webhooks" in house.run("control", "webhook", "list").out
        assert made["secret"] not in house.run("control", "webhook", "list", "--json").out
        assert house.run("control", "webhook", "remove", made["id"], "--yes").code == 0
    told = orjson.loads(receiver.got[0].body)
    cards = house.cards([desk.agents[HIDDEN]])
    assert told["type"] == "review.waiting"
    assert set(told["data"]["cards"]) == {str(card.address) for card in cards}
    for card in cards:
        words = house.done("review", "show", str(card.address))["text"]
        assert words[:20].encode() not in receiver.got[0].body
    assert orjson.loads(receiver.got[-1].body)["type"] == "ping"
