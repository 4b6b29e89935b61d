"""From nothing to published posts, on the whole local stack: what people see, decide, hold and change, and what it leaves behind.

The tests share one stack and follow each other; each campaign has agents of its own unless a test says otherwise.
"""

from __future__ import annotations

import html
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import cast

import orjson
import pytest

from chimera.events.records import BriefChanged, HumanEdited, TaskPlanned
from tests.e2e.house import EXAMPLES, House, accounts

FLEET = ["ava", "bruno", "cleo", "dov", "edda", "femi"]


@pytest.fixture(scope="module")
def autumn(house: House) -> House:
    """The example fleet, its campaign at rest: what could leave by itself has left, the rest waits for people."""
    house.done("agent", "enrol", "-f", EXAMPLES / "fleet.yaml")
    # Not --all: agents of other tests may be in this house, of which those want to know what they do.
    house.done("campaign", "start", "-f", EXAMPLES / "briefs" / "autumn.yaml", "--agents", ",".join(FLEET), "--as", "dora")
    house.until(lambda: house.resting(FLEET) and not house.cards(FLEET, ("approved", "claimed")), "the example campaign rests", 150)
    return house


def page(house: House) -> str:
    """The timeline as a browser gets it, entities resolved."""
    with urllib.request.urlopen(house.addresses.mcp["x"].replace("/mcp", "/"), timeout=10) as answer:
        return html.unescape(answer.read().decode())


def test_the_example_campaign_takes_the_automatic_the_human_and_the_retry_route(autumn: House) -> None:
    assert autumn.records("EffectEnded", FLEET), "something left by itself"
    assert not autumn.records("HumanApproved", FLEET), "nobody was asked for it"
    assert autumn.cards(FLEET), "something waits for people"
    again = [s.record.data for s in autumn.records("TaskPlanned", FLEET) if cast(TaskPlanned, s.record.data).attempt > 1]
    assert again, "something was written again"


def test_what_was_executed_stands_on_the_timeline_once_in_the_exact_approved_words(autumn: House) -> None:
    ended = autumn.records("EffectEnded", FLEET)
    handles = [agent.accounts["x"] for agent in autumn.agents(FLEET)]
    posts = autumn.posts(handles)
    assert len(posts) == len(ended)
    shown = page(autumn)
    for _, text in posts:
        assert text in shown
    calls = autumn.calls(handles)
    assert set(calls.values()) == {1}
    approved = {s.record.data.effect_hash for s in autumn.records("EffectClaimed", FLEET)}  # type: ignore[union-attr]
    assert set(calls) == approved, "the platform was called with the approved hashes as keys, and nothing else"


def test_an_approved_card_is_posted(autumn: House) -> None:
    card = autumn.cards(FLEET)[0]
    shown = autumn.done("review", "show", card.address)
    typed = autumn.run("review", "approve", card.address, "--as", "kim", "--effect", shown["effect_hash"][:12], "--yes")
    assert typed.code == 0, typed.out
    autumn.until(
        lambda: autumn.platform("SELECT 1 FROM posts WHERE account = ? AND text = ?", shown["account"], shown["text"]),
        "the approved text is on the timeline",
        30,
    )
    assert shown["text"] in page(autumn)
    autumn.service.catch_up()
    assert autumn.run("review", "approve", card.address, "--as", "kim", "--yes").code == 3, "decided once"


def test_the_person_who_started_the_campaign_may_not_approve_what_comes_of_it(autumn: House) -> None:
    typed = autumn.run("review", "approve", autumn.cards(FLEET)[0].address, "--as", "dora", "--yes")
    assert typed.code == 3
    assert "kim or lee may" in typed.out


def test_an_edited_card_is_judged_again_and_posted_in_the_editor_s_words(autumn: House) -> None:
    card = next(card for card in autumn.cards(FLEET) if card.why == "confidence")
    old = autumn.done("review", "show", card.address)["text"]
    new = old.replace(".\n\n", ". Read on.\n\n", 1) if ".\n\n" in old else f"So. {old}"
    assert new != old
    typed = autumn.run("review", "edit", card.address, "--text", new, "--as", "lee")
    assert typed.code == 0, typed.out
    account = card.effect.account

    def settled() -> bool:
        for waiting in autumn.cards([card.agent.name]):
            if waiting.address == card.address and waiting.effect.edit == 1:
                autumn.decide(waiting, actor="kim")
        return bool(autumn.platform("SELECT 1 FROM posts WHERE account = ? AND text = ?", account, new))

    autumn.until(settled, "the edited text is on the timeline", 60)
    assert not autumn.platform("SELECT 1 FROM posts WHERE text = ?", old)
    edited = cast(HumanEdited, autumn.records("HumanEdited", [card.agent.name])[-1].record.data)
    assert autumn.calls([account])[edited.effect.effect_hash] == 1


def test_a_rejected_card_is_closed_and_never_posted(autumn: House) -> None:
    card = autumn.cards(FLEET)[0]
    text = autumn.done("review", "show", card.address)["text"]
    assert autumn.run("review", "reject", card.address, "--reason", "off_brand", "--as", "kim", "--yes").code == 0
    autumn.service.catch_up()
    row = next(row for row in autumn.campaigns([card.agent.name]) if row.number == card.campaign.number)
    assert row.tasks[card.task.ordinal] == "closed"
    assert row.effects[card.task.ordinal] == "rejected"
    assert not autumn.platform("SELECT 1 FROM posts WHERE text = ?", text)


def test_a_campaign_whose_cards_are_decided_completes(autumn: House) -> None:
    autumn.until_completed(FLEET)
    assert {row.status for row in autumn.campaigns(FLEET)} == {"completed"}
    assert {status for row in autumn.campaigns(FLEET) for status in row.tasks.values()} <= {"done", "closed"}


def test_a_pause_holds_all_work_and_destroys_none(house: House) -> None:
    names = house.enrol("pia", 2, approve_above=1.0)  # so everything waits for people

    def still() -> bool:
        """The swarm has nothing to do, and both processes stand where this log stands."""
        here = len(house.seen)
        swarm = [*house.serving("brain"), *house.serving("gate")]
        return len(swarm) == 2 and all(status["idle"] and sum(status["offsets"].values()) == here for status in swarm)

    house.done("agent", "pause", *names, "--reason", "a look first")
    house.start(house.brief("Held work", 3), names)
    house.until(lambda: len(house.records("PlanDrafted", names)) == 2 and still(), "the swarm is idle under the pause", 60)
    assert {t.status for agent in house.agents(names) for t in agent.campaigns[1].tasks.values()} == {"planned"}
    house.done("agent", "resume", *names)
    house.until(lambda: house.resting(names), "cards wait", 60)

    house.done("agent", "pause", *names)
    cards = house.cards(names)
    for card in cards:
        assert house.decide(card).outcome == "applied", "people may decide under a pause"
    house.until(still, "the swarm is idle under the pause", 60)
    assert len(house.cards(names, ("approved",))) == len(cards)
    assert not house.calls(accounts(names)), "nothing leaves under a pause"
    house.done("agent", "resume", *names)
    house.until_completed(names)
    assert len(house.posts(accounts(names))) == len(cards)
    keys = {agent.key for agent in house.agents(names)}
    ruled = {(s.record.type, s.ruling.outcome, s.ruling.reason) for s in house.seen if s.record.key in keys}
    assert not [it for it in ruled if it[1] != "applied"], "a pause spoils no record"


def test_a_changed_brief_stales_what_read_it_and_that_is_planned_again_and_nothing_else(house: House) -> None:
    names = house.enrol("cal", 2, approve_above=1.0)  # so everything waits for people
    house.start(house.brief("Another campaign", 2), names)
    id_ = house.start(house.brief("Two editions", 2), names)
    house.until(lambda: house.resting(names) and len(house.campaigns(names)) == 4, "all cards wait", 90)
    posted = next(card for card in house.cards(names) if card.campaign.campaign_id == id_)
    house.decide(posted)
    house.until(lambda: house.posts(accounts(names)), "one card is posted", 30)
    house.until(lambda: house.resting(names), "all else waits", 30)
    of = {
        agent.key: campaign for agent in house.agents(names) for campaign in agent.campaigns.values() if campaign.campaign_id == id_
    }
    readers = {(key, campaign.number, ordinal) for key, campaign in of.items() for ordinal in campaign.tasks}
    assert readers
    at = len(house.seen)
    house.done(
        "campaign",
        "change",
        id_,
        "-f",
        house.brief("Two editions", 2, goal="Show people that a short walk is enough"),
        "--as",
        "dora",
    )
    house.service.catch_up()
    since = house.seen[at:]
    assert {s.record.key for s in since if isinstance(s.record.data, BriefChanged)} == set(of)
    house.until(lambda: house.resting(names), "the second edition waits for people", 90)
    opened = [
        (s.record.key, data.campaign, data.ordinal)
        for s in house.seen[at:]
        if isinstance(data := s.record.data, TaskPlanned) and s.ruling.outcome == "applied"
    ]
    assert set(opened) >= readers, "what had read the old brief is planned again"
    others = {(agent.key, c.number) for agent in house.agents(names) for c in agent.campaigns.values() if c.campaign_id != id_}
    assert not {(key, campaign) for key, campaign, _ in opened} & others, "another campaign's tasks never read this brief"
    assert (posted.agent.key, posted.campaign.number, posted.task.ordinal) not in opened, "what is done is final"
    house.until_completed(names)
    ends = [s.record.data for s in house.records("EffectEnded", [posted.agent.name])]
    assert [d.ordinal for d in ends if d.campaign == posted.campaign.number].count(posted.task.ordinal) == 1  # type: ignore[union-attr]


def test_the_read_models_equal_a_refold_of_the_log(autumn: House) -> None:
    autumn.equals_refold()
    handles = [agent.accounts["x"] for agent in autumn.agents(FLEET)]
    executed = autumn.sql("SELECT effect_hash FROM core.effects WHERE status = 'executed' AND account = ANY (%s)", handles)
    marks = ",".join("?" * len(handles))
    assert sorted(executed) == sorted(autumn.platform(f"SELECT key FROM keys WHERE account IN ({marks})", *handles))
    assert executed


def test_the_log_is_exported_and_the_export_proves_itself(autumn: House, tmp_path: Path) -> None:
    out = tmp_path / "export"
    autumn.service.catch_up()
    before = len(autumn.seen)
    assert autumn.run("audit", "export", "--out", out).code == 0
    autumn.service.catch_up()
    verdict = autumn.done("audit", "verify", out)
    assert verdict["intact"]
    assert {row["check"] for row in verdict["checks"] if row["verdict"] != "holds"} == {"key", "root", "previous"}
    shown = orjson.loads((out / "manifest.json").read_bytes())["topics"][0]["partitions"]
    # All that was there when it began; the swarm may have looked at its posts meanwhile.
    assert before <= sum(part["count"] for part in shown) == sum(part["size"] for part in shown) <= len(autumn.seen)
    damaged = next(path for path in out.rglob("*.jsonl") if b"agent/" in path.read_bytes())
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    typed = autumn.run("audit", "verify", out, "--json")
    assert typed.code == 1
    assert damaged.name in str(orjson.loads(typed.out)["damages"])


def test_a_post_is_traced_from_the_command_that_began_it(autumn: House) -> None:
    ended = autumn.records("EffectEnded", FLEET)[0]
    began = time.monotonic()
    typed = autumn.run("events", "trace", ended.record.id)
    assert typed.code == 0, typed.out
    for type_ in ("CampaignStarted", "ArtifactProduced", "EffectEnded"):
        assert type_ in typed.out
    assert time.monotonic() - began < 30


def test_posts_are_looked_at_again_and_what_the_platform_says_of_them_is_in_their_facts(autumn: House) -> None:
    """Nobody asks for it: the brain owes each post a look a minute after it went out, and the numbers become rows."""
    facts = (
        "SELECT platform_id, likes, model, tool_version FROM analytics_v1.post_facts WHERE agent = ANY (%s) AND views IS NOT NULL"
    )
    autumn.until(lambda: autumn.sql(facts, FLEET), "the first posts were looked at", 240)
    seen = autumn.sql(facts, FLEET)
    ids = sorted(row[0] for row in seen)
    assert all(row[1] is not None for row in seen), "what is told together is there together"
    assert {row[2:] for row in seen} == {("offline", "1")}, "who wrote it is told beside what it brought"
    autumn.service.catch_up()
    ended = {s.record.data.platform_id for s in autumn.records("EffectEnded", FLEET)}  # type: ignore[union-attr]
    assert set(ids) <= ended
    observed = "SELECT DISTINCT source FROM analytics_v1.engagement_metrics WHERE platform_id = ANY (%s) AND metric = 'views'"
    assert autumn.sql(observed, ids) == [("x/social.metrics",)]
    gained = autumn.sql("SELECT sum(posts) FROM analytics_v1.engagement_growth WHERE agent = ANY (%s) AND metric = 'views'", FLEET)
    assert gained[0][0] >= len(ids)
    looks = (
        "SELECT count(*) FROM analytics_v1.tool_calls"
        " WHERE agent = ANY (%s) AND capability = 'social.metrics' AND result_class = 'ok'"
    )
    autumn.until(lambda: autumn.sql(looks, FLEET)[0][0] >= len(ids), "every look is told as a call through the gate", 120)


def test_an_undisturbed_campaign_of_two_hundred_tasks_has_no_stale_and_no_void_record(house: House) -> None:
    names = house.enrol("many", 6)
    house.start(house.brief("Two hundred", 16), names)
    house.until_completed(names, 240)
    assert sum(len(row.tasks) for row in house.campaigns(names)) >= 200
    keys = {agent.key for agent in house.agents(names)}
    ruled = Counter((s.ruling.outcome, s.ruling.reason) for s in house.seen if s.record.key in keys)
    assert not [said for said in ruled if said[0] == "void" or said[1] == "stale"], ruled
