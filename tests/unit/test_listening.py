"""How an agent listens: what a poll brings, what it forgets, when the next one is; and which rows answer what was heard."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from chimera.commands.subjects import SubjectKeyFiles
from chimera.events import records as rec
from chimera.events.envelope import Record
from chimera.events.fold import fold
from chimera.events.sealed import subject_of, unseal
from chimera.events.state import MAX_HEARD, Agent, Ref
from chimera.mcp.profiles import load_profiles
from chimera.mcp.records import Outcome
from chimera.processors import replies
from chimera.processors.jobs import Job
from chimera.processors.listening import LONGEST_PAUSE_MS, MOST_ITEMS, Ear
from tests.histories import INLINE, Log, agent_with_policy
from tests.swarmhouse import Keys

PAUSE_MS = 60_000
PROFILES = load_profiles()


def post(number: int, **fields: Any) -> dict[str, Any]:
    when = "2026-01-02T03:04:05.000+00:00"
    return {"id": str(number), "text": f"word {number}", "author_id": "mia", "conversation_id": "7", "created_at": when} | fields


@dataclass
class Platform:
    """Posts that mention the account, as X lists them: newest first, by pages; the time of the broker; how often it was asked."""

    posts: list[dict[str, Any]] = field(default_factory=list)
    down: bool = False
    now: int = 0
    asked: list[dict[str, Any]] = field(default_factory=list)

    def broker_now(self) -> int:
        return self.now

    async def tool(
        self, job: Job, capability: str, inputs: dict[str, Any], account: str | None = None, platform: str | None = None
    ) -> Outcome:
        if self.down:
            return Outcome("unknown", "timeout")
        if capability == "social.me":
            return Outcome("ok", platform_id="42")
        self.asked.append(inputs)
        assert inputs["id"] == "42"
        low, high = int(inputs.get("since_id", 0)), int(inputs.get("until_id", 1 << 62))
        found = sorted((p for p in self.posts if low < int(p["id"]) < high), key=lambda p: -int(p["id"]))[: inputs["max_results"]]
        users = {"users": [{"id": "7", "username": "Otto"}]}
        told = {"data": found, "includes": users, "meta": {"result_count": len(found)}}
        return Outcome("ok", data=told if found else {"meta": {"result_count": 0}})

    async def say(self, job: Job, answer: Any) -> Any: ...

    async def read(self, ref: Ref) -> Record: ...  # type: ignore[empty-body]


def folded(log: Log) -> Agent:
    agent: Agent | None = None
    for r in log.records:
        agent, _ = fold(log.law, agent, r)
    assert agent is not None
    return agent


def listener(**campaign: Any) -> Log:
    """An agent whose policy listens on X, with a campaign that answers until the end of days."""
    log = agent_with_policy(INLINE.model_copy(update={"listen_ms": {"x": PAUSE_MS}, "replies_per_thread": 2}))
    more: dict[str, Any] = {"campaign_id": "c", "name": "n", "brief": {}, "brief_hash": "b", "listens_until": 1 << 50} | campaign
    log.command(rec.CampaignStarted, **more)
    log.add(rec.PlanDrafted(campaign=1, round=1, brief_edition=1, rows=[]))
    return log


def poll(ear: Ear, log: Log, platform: Platform) -> rec.SignalObserved | None:
    """The one poll that is owed when its time has come."""
    agent = folded(log)
    platform.now = max(platform.now, log.now)
    wake = ear.due(agent, platform.now).wake_at
    platform.now = platform.now if wake is None else wake
    (job,) = ear.due(agent, platform.now).jobs
    answer = asyncio.run(ear.listen(job, cast("Any", platform)))
    if answer is None:
        return None
    assert isinstance(answer.data, rec.SignalObserved)
    return answer.data


def test_who_was_forgotten_is_not_heard_again_and_stops_nobody_else_from_being_heard(tmp_path: Path) -> None:
    keys = SubjectKeyFiles(tmp_path)
    keys.forget(subject_of("acme", "x", "otto"))
    many = [post(n, author_id="7") for n in range(10, 10 + MOST_ITEMS)]
    ear, log, platform = Ear(PROFILES, keys), listener(), Platform([post(3), post(5, author_id="7"), *many, post(90)])
    heard = poll(ear, log, platform)
    assert heard is not None
    assert [item.external_id for item in heard.items] == ["3", "90"], "twenty words of Otto's take nobody's place"


def test_a_poll_brings_what_is_new_oldest_first_and_seals_who_said_what() -> None:
    ear, log, platform = Ear(PROFILES, Keys()), listener(), Platform([post(3), post(5, author_id="7"), post(4)])
    heard = poll(ear, log, platform)
    assert heard is not None
    assert [(item.external_id, item.thread) for item in heard.items] == [("3", "x:7"), ("4", "x:7"), ("5", "x:7")]
    assert (heard.number, heard.cursor, heard.source) == (1, "5", "x/social.mentions")
    assert [unseal(Keys(), item.text) for item in heard.items] == ["word 3", "word 4", "word 5"]
    assert heard.items[2].author.subject == subject_of("acme", "x", "otto")
    assert "Otto" not in heard.model_dump_json()
    assert {item.taint for item in heard.items} == {"open"}


def test_the_next_poll_asks_for_what_is_newer_than_the_cursor() -> None:
    ear, log, platform = Ear(PROFILES, Keys()), listener(), Platform([post(3)])
    log.add(poll(ear, log, platform))  # type: ignore[arg-type]
    platform.posts.append(post(9))
    second = poll(ear, log, platform)
    assert second is not None
    assert (second.number, [item.external_id for item in second.items]) == (2, ["9"])
    assert platform.asked[-1]["since_id"] == "3"


def test_an_empty_poll_leaves_no_record_and_the_next_is_due_after_the_pause() -> None:
    ear, log, platform = Ear(PROFILES, Keys()), listener(), Platform()
    assert poll(ear, log, platform) is None
    due = ear.due(folded(log), platform.now)
    assert (due.jobs, due.wake_at) == ([], platform.now + PAUSE_MS)


def test_a_platform_that_does_not_answer_is_asked_after_twice_the_time_up_to_a_quarter_of_an_hour() -> None:
    ear, log, platform = Ear(PROFILES, Keys()), listener(), Platform(down=True)
    pauses = []
    for _ in range(6):
        assert poll(ear, log, platform) is None
        wake = ear.due(folded(log), platform.now).wake_at
        assert wake is not None
        pauses.append(wake - platform.now)
    assert pauses == [2 * PAUSE_MS, 4 * PAUSE_MS, 8 * PAUSE_MS, *[LONGEST_PAUSE_MS] * 3]
    platform.down = False
    assert poll(ear, log, platform) is None
    assert ear.due(folded(log), platform.now).wake_at == platform.now + PAUSE_MS


def test_more_than_fits_into_a_record_or_a_page_is_read_by_the_next_polls_and_nothing_is_skipped() -> None:
    ear, log, platform = Ear(PROFILES, Keys()), listener(), Platform([post(n) for n in range(1, 251)])
    got: list[int] = []
    while len(got) < 250:
        heard = poll(ear, log, platform)
        assert heard is not None
        assert len(heard.items) <= MOST_ITEMS
        got += [int(item.external_id) for item in heard.items]
        log.add(heard)
        if len(folded(log).heard) > 2:
            agent = folded(log)
            answers = {"campaign": 1, "round": agent.campaigns[1].round + 1, "brief_edition": 1, "answers": len(agent.heard)}
            log.add(rec.PlanDrafted(**answers, rows=[]))
    assert got == list(range(1, 251))


@pytest.mark.parametrize(
    "wrong", [{"id": ""}, {"text": None}, {"author_id": {"name": "mia"}}, {"conversation_id": None}, {"text": ""}]
)
def test_an_item_that_does_not_say_who_said_what_where_is_left_out(wrong: dict[str, Any]) -> None:
    ear, log = Ear(PROFILES, Keys()), listener()
    broken = {**post(4), **wrong}
    platform = Platform([post(3), post(5)])
    listed = platform.tool

    async def with_broken(job: Job, capability: str, inputs: dict[str, Any], account: str | None, platform: str | None) -> Outcome:
        outcome = await listed(job, capability, inputs, account)
        if "data" in outcome.data:
            outcome.data["data"].insert(1, broken)
        return outcome

    platform.tool = with_broken  # type: ignore[assignment, method-assign]
    heard = poll(ear, log, platform)
    assert heard is not None
    assert [item.external_id for item in heard.items] == ["3", "5"]


def silent(log: Log) -> bool:
    due = Ear(PROFILES, Keys()).due(folded(log), log.now + PAUSE_MS)
    return not due.jobs and due.wake_at is None


def test_nobody_listens_whose_campaign_answers_nobody_or_no_more_or_is_held() -> None:
    assert not silent(listener())
    assert silent(listener(listens_until=0))
    assert silent(listener(listens_until=1_700_000_000_001))
    paused = listener()
    paused.command(rec.CampaignStatusSet, campaign=1, status="paused")
    assert silent(paused)
    held = listener()
    held.command(rec.AgentStatusSet, status="paused")
    assert silent(held)
    unlinked = listener()
    unlinked.command(rec.AccountUnlinked, platform="x")
    assert silent(unlinked)


def test_nobody_listens_while_as_much_waits_for_the_planner_as_may_wait() -> None:
    ear, log = Ear(PROFILES, Keys()), listener()
    platform = Platform()
    for n in range(MAX_HEARD):
        platform.posts.append(post(n + 1))
        heard = poll(ear, log, platform)
        assert heard is not None
        log.add(heard)
    assert silent(log)


# --- rows that answer ------------------------------------------------------------------------------------------------


class Shelf:
    """Records by place, as the planner reads them."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def read(self, ref: Ref) -> Record:
        return next(r for r in self._log.records if (r.partition, r.offset) == tuple(ref))

    async def remembered(self, job: Job) -> frozenset[str]:
        return frozenset()


BRIEF = {
    "name": "Soup",
    "goal": "Show how good soup is",
    "audience": "all",
    "key_messages": ["soup"],
    "feeds": ["/a.xml"],
    "formats": [{"platform": "x", "format": "post"}],
    "replies": {"days": 1, "max_chars": 200},
}


def round_of(log: Log) -> rec.PlanDrafted:
    agent = folded(log)
    campaign = agent.campaigns[1]
    assert replies.answers_now(agent, campaign, log.now)
    job = Job("planner", "answer", agent.key, agent.tenant, "c", 1, 0, 0, campaign.round + 1, replies.facts(agent, campaign))
    answer = asyncio.run(replies.plan(job, Shelf(log)))  # type: ignore[arg-type]
    assert isinstance(answer.data, rec.PlanDrafted)
    return answer.data


def test_each_item_gets_a_reply_and_its_publication_on_research_made_once() -> None:
    ear, log = Ear(PROFILES, Keys()), listener(brief=BRIEF)
    log.add(poll(ear, log, Platform([post(1), post(2, conversation_id="8")])))  # type: ignore[arg-type]
    drafted = round_of(log)
    assert [(r.ordinal, r.kind, r.depends_on) for r in drafted.rows] == [
        (1, "research", []),
        (2, "reply", [1]),
        (3, "publish", [2]),
        (4, "reply", [1]),
        (5, "publish", [4]),
    ]
    assert drafted.rows[1].reads == ["brief/1", "thread/x:7", "soul"]
    assert drafted.rows[4].reads == ["brief/1", "thread/x:8", "account/x"]
    assert drafted.rows[1].inputs["max_chars"] == 200
    assert log.add(drafted)[0] == "applied"


def test_a_thread_gets_as_many_answers_as_policy_says() -> None:
    ear, log = Ear(PROFILES, Keys()), listener(brief=BRIEF)
    log.add(poll(ear, log, Platform([post(n) for n in range(1, 6)])))  # type: ignore[arg-type]
    assert [r.inputs["item"] for r in round_of(log).rows if r.kind == "reply"] == [0, 1]


def test_answers_that_wait_for_people_count_towards_what_a_thread_gets() -> None:
    """Each poll brings another item of a long talk, and nobody has looked at the first answers yet."""
    ear, log = Ear(PROFILES, Keys()), listener(brief=BRIEF)
    platform = Platform([post(1)])
    planned = []
    for number in range(2, 6):
        log.add(poll(ear, log, platform))  # type: ignore[arg-type]
        drafted = round_of(log)
        planned.append(sum(r.kind == "reply" for r in drafted.rows))
        assert log.add(drafted)[0] == "applied"
        platform.posts.append(post(number))
        log.now += PAUSE_MS
    assert planned == [1, 1, 0, 0]


def test_the_newest_campaign_that_listens_is_the_one_that_answers() -> None:
    ear, log = Ear(PROFILES, Keys()), listener(brief=BRIEF)
    log.add(poll(ear, log, Platform([post(1)])))  # type: ignore[arg-type]
    for number, until in ((2, 1 << 50), (3, 0)):
        log.command(rec.CampaignStarted, campaign_id=f"c{number}", name="n", brief=BRIEF, brief_hash="b", listens_until=until)
        log.add(rec.PlanDrafted(campaign=number, round=1, brief_edition=1, rows=[]))
    agent = folded(log)
    assert [number for number, c in agent.campaigns.items() if replies.answers_now(agent, c, log.now)] == [2]
