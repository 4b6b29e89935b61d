"""What people say to an agent is heard, answered in its thread by the way of every effect, and answered once."""

from __future__ import annotations

from typing import Any, cast

from chimera.events.records import SignalObserved
from tests.e2e.house import House, accounts

LISTEN: dict[str, Any] = {"listen": {"x": {"every_s": 1}}, "taint_auto": {"publish": "open"}, "frequency": {}}


def test_people_who_speak_to_agents_are_answered_in_their_threads_once(house: House) -> None:
    # given agents that have published and go on listening
    names = house.enrol("ear", 3, **LISTEN)
    house.start(house.brief("Listen", 1, replies={"days": 2}), names)
    house.until(lambda: (house.approve_all(names), len(house.records("EffectEnded", names)) >= 3)[1], "each has posted", 120)
    posts = dict(house.platform("SELECT account, min(id) FROM posts GROUP BY account"))

    # when people answer their posts, and one of them mentions an agent in a thread of her own
    said = [
        house.says("mia", "I would love a soup in autumn, what food is in season?", reply_to=posts["ear0_x"]),
        house.says("otto", "How long does it take to mend a thing like a chair?", reply_to=posts["ear1_x"]),
        house.says("mia", "@ear2_x do you take a walk every day?"),
    ]

    # then each is answered once, in its thread, and no answer carries an address
    def answers() -> list[tuple[str, str, int]]:
        house.approve_all(names)
        marks = ",".join("?" * len(said))
        return house.platform(f"SELECT account, text, reply_to FROM posts WHERE reply_to IN ({marks})", *said)

    house.until(lambda: len(answers()) >= 3, "three answers", 120)
    assert sorted((account, to) for account, _, to in answers()) == sorted(zip(accounts(names), said, strict=True))
    assert not any("http" in text or "@" in text for _, text, _ in answers())
    observed = house.records("SignalObserved", names)
    assert sum(len(cast("SignalObserved", seen.record.data).items) for seen in observed) == 3

    # and nobody's words or names stand in the log in clear
    for seen in observed:
        told = seen.record.data.model_dump_json()  # type: ignore[union-attr]
        assert "mia" not in told
        assert "soup" not in told

    # and the campaigns go on listening, small: what answered leaves no trace in their state
    house.until(lambda: not any(c.passing for agent in house.agents(names) for c in agent.campaigns.values()), "answers are over")
    assert [row.status for row in house.campaigns(names)] == ["running"] * 3
    assert all(not agent.heard for agent in house.agents(names))

    # and analysts see what was heard, each beside the task that answered it, without words or names
    house.until_projected()
    heard = "SELECT agent, external_id, source, answer_status FROM analytics_v1.signals WHERE agent = ANY(%s) ORDER BY agent"
    rows = house.sql(heard, names)
    assert [(agent, int(said_in)) for agent, said_in, _, _ in rows] == list(zip(names, said, strict=True))
    assert {(source, status) for _, _, source, status in rows} == {("x/social.mentions", "done")}
    house.equals_refold()


def test_a_thread_is_answered_as_often_as_policy_says_and_then_left_alone(house: House) -> None:
    names = house.enrol("shy", 1, **LISTEN, replies_per_thread=1)
    house.writes("ida", "shy0_x", "Do you take a short walk on every day?")
    house.start(house.brief("Shy", 1, replies={"days": 2}), names)
    first = house.says("uwe", "@shy0_x which food is in season in autumn?")
    house.until(
        lambda: (house.approve_all(names), house.platform("SELECT 1 FROM posts WHERE reply_to = ?", first))[1], "an answer", 120
    )
    second = house.says("uwe", "@shy0_x and how do you cook the soup in autumn?", reply_to=first)

    def heard_both() -> bool:
        plans = [seen.record.data for seen in house.records("PlanDrafted", names)]
        return sum(plan.answers for plan in plans) >= 3  # type: ignore[union-attr]

    house.until(heard_both, "the planner has seen both, and what Ida wrote in private", 60)
    house.until(
        lambda: (house.approve_all(names), not any(c.passing for c in house.agent("shy0").campaigns.values()))[1],
        "all rows are over",
        120,
    )
    assert house.platform("SELECT 1 FROM posts WHERE reply_to = ?", second) == []

    # and Ida has her answer, in private and once
    [(text, to)] = house.platform("SELECT text, recipient FROM messages WHERE sender = 'shy0_x'")
    assert to == "ida"
    assert text.endswith("(automated reply)")

    # and what was told to her alone is no post: neither the fold lists it as one nor the read models
    house.until_projected()
    posts = sorted(str(id_) for (id_,) in house.platform("SELECT id FROM posts WHERE account = 'shy0_x'"))
    assert sorted(row["platform_id"] for row in house.done("post", "list", "--agent", "shy0")["posts"]) == posts
    assert sorted(row["platform_id"] for row in house.posts_of_models("shy0")) == posts
