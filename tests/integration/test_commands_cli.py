"""The verbs as a person types them, on a real broker; the other roles' records are appended by hand."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from chimera.cli.main import build
from chimera.commands import verbs, wiring
from chimera.commands.decision import Refused
from chimera.commands.keys import log_topics
from chimera.commands.server import serve
from chimera.commands.service import CommandService
from chimera.errors import ChimeraError
from chimera.eventlog.append import Appender
from chimera.eventlog.read import read_until
from chimera.events.envelope import NewRecord, decode, encode
from chimera.events.hashes import commit_hash, digest, simhash, text_hash
from chimera.events.records import (
    ArtifactProduced,
    Data,
    EffectClaimed,
    EffectEnded,
    EffectProposal,
    EffectUnknown,
    HumanApproved,
    HumanRejected,
    JudgeVerdict,
    PlanDrafted,
    PlanRow,
    TaskPlanned,
    effect_body,
)
from chimera.events.state import Agent
from chimera.projections.schema import migrate
from chimera.settings import Settings
from tests.integration.commanding import Kept
from tests.integration.ownlog import installed, own_log

SOUL = """---
name: {name}
handles: {{x: {name}_x}}
voice: {{tone: [warm]}}
topics: [soup]
---
Cooks.
"""
POLICY = """---
boardkit: 1
name: house rules
approvers: {publish: [kim, lee]}
undo_s: 0
grace_s: 0
---
Be kind.
"""
FLEET = """tenant: acme
policy: AGENTS.md
allowance: {limit_usd: 1, window_s: 3600}
agents:
  - {name: ava, soul: souls/ava.md, groups: [north]}
  - {name: ben, soul: souls/ben.md}
"""
BRIEF = """name: Autumn soup
goal: people cook soup at home
audience: people with a pot
key_messages: [soup warms]
feeds: [feed.xml]
formats: [{platform: x, format: post}]
"""


class Person:
    """Types commands; `run` gives exit code and output, `json` the parsed answer. `served`: a command service runs meanwhile.

    `before` is called ahead of each command.
    """

    def __init__(self, home: Path, served: bool, before: Callable[[], None] = lambda: None) -> None:
        self.home = home
        self.served = served
        self.runner = CliRunner()
        self.before = before

    def run(self, *words: str | Path) -> tuple[int, str]:
        self.before()
        argv = [str(word) for word in words]
        result = self.runner.invoke(build(argv), argv)
        if isinstance(result.exception, ChimeraError):
            return 1, str(result.exception)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    def json(self, *words: str | Path) -> Any:
        self.before()
        argv = [*(str(word) for word in words), "--json"]
        result = self.runner.invoke(build(argv), argv)
        return orjson.loads(result.stdout)


@pytest.fixture(params=["embedded", "served", "restored"])
def person(
    request: pytest.FixtureRequest, kafka_bootstrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Person]:
    """The same commands give the same answers with and without a running command service, and when each begins at snapshots."""
    topic = own_log(kafka_bootstrap, "cli")
    monkeypatch.setattr(wiring, "LOG_TOPIC", topic)
    monkeypatch.setenv("CHIMERA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CHIMERA_KAFKA", kafka_bootstrap)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "souls").mkdir()
    for name in ("ava", "ben"):
        (tmp_path / "souls" / f"{name}.md").write_text(SOUL.format(name=name))
    (tmp_path / "AGENTS.md").write_text(POLICY)
    (tmp_path / "fleet.yaml").write_text(FLEET)
    (tmp_path / "brief.yaml").write_text(BRIEF)
    (tmp_path / "feed.xml").write_text("<rss version='2.0'><channel><title>t</title></channel></rss>")
    if request.param == "embedded":
        yield Person(tmp_path, served=False)
        return
    if request.param == "restored":
        dsn = request.getfixturevalue("make_database")()
        migrate(dsn)
        monkeypatch.setenv("CHIMERA_POSTGRES", dsn)
        with contextlib.closing(Kept(Settings().home, kafka_bootstrap, topic, dsn)) as kept:
            yield Person(tmp_path, served=False, before=kept)
        return
    installed(Settings(), topic)
    stop, ready = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(serve, Settings(), stop, ready=ready)
        assert ready.wait(60), ended.exception(0)
        yield Person(tmp_path, served=True)
        stop.set()
        ended.result(30)


@pytest.fixture
def swarm(kafka_bootstrap: str, person: Person) -> Callable[[str], Swarm]:
    return lambda name: Swarm(kafka_bootstrap, name)


class Swarm:
    """Plays planner, worker, judge and executor for one agent, one record at a time."""

    def __init__(self, bootstrap: str, name: str) -> None:
        self.bootstrap = bootstrap
        self.name = name

    def agent(self) -> Agent:
        with CommandService(self.bootstrap, Settings(), topic=wiring.LOG_TOPIC) as service:
            service.catch_up()
            return next(agent for agent in service.agents.values() if agent.name == self.name)

    def append(self, *wanted: Data, causation: str = "") -> str:
        agent, last = self.agent(), causation
        with Appender(self.bootstrap, log_topics(wiring.LOG_TOPIC), "swarm") as appender:
            for data in wanted:
                id_ = str(uuid.uuid4())
                new = NewRecord(agent.key, data, "acme", data.ROLE, "2026-11-22T00:00:00Z", id_, causation=last)
                wire = encode(new)
                appender.append_blocking(wiring.LOG_TOPIC, wire.key, wire.value, wire.headers)
                last = id_
        return last

    def card(self, text: str) -> None:
        """Plan one task, open it, produce a post, and let the judge ask for people."""
        self.append(
            PlanDrafted(campaign=1, round=1, brief_edition=1, rows=[PlanRow(ordinal=1, kind="publish", reads=["soul"])]),
            TaskPlanned(campaign=1, ordinal=1, attempt=1),
        )
        self.produce(text)
        self.verdict(0.8)

    def cards(self, texts: list[str]) -> None:
        """The same for so many tasks at once."""
        numbers = range(1, len(texts) + 1)
        rows = [PlanRow(ordinal=n, kind="publish", reads=["soul"]) for n in numbers]
        self.append(
            PlanDrafted(campaign=1, round=1, brief_edition=1, rows=rows),
            *(TaskPlanned(campaign=1, ordinal=n, attempt=1) for n in numbers),
        )
        agent = self.agent()
        self.append(*(_artifact(agent, n, text) for n, text in zip(numbers, texts, strict=True)))
        agent = self.agent()
        self.append(*(_vote(agent, n, 0.8) for n in numbers))

    def produce(self, text: str) -> None:
        self.append(_artifact(self.agent(), 1, text))

    def verdict(self, confidence: float) -> None:
        self.append(_vote(self.agent(), 1, confidence))

    def claim(self, lease_ms: int = 60_000) -> None:
        effect = self.agent().campaigns[1].tasks[1].effect
        assert effect is not None
        self.append(
            EffectClaimed(
                campaign=1, ordinal=1, attempt=1, effect_hash=effect.hash, claim=effect.claim + 1, token="t", lease_ms=lease_ms
            )
        )


def _artifact(agent: Agent, ordinal: int, text: str) -> ArtifactProduced:
    task = agent.campaigns[1].tasks[ordinal]
    content = {"text": text}
    body = EffectProposal(
        effect_hash="",
        effect_class="publish",
        tool_class="keyed",
        profile="x",
        mode="sandbox",
        tool="createPosts",
        schema_sha256="0",
        arguments={"text": text, "made_with_ai": True},
        platform="x",
        account=agent.accounts["x"],
        disclosure="automated",
        agent=agent.key,
        input_state_version=task.input_state_version,
        salt=secrets.token_hex(16),
        text_hash=text_hash(text),
        simhash=f"{simhash(text):016x}",
    )
    effect = body.model_copy(update={"effect_hash": digest(effect_body(body))})
    return ArtifactProduced(
        campaign=1,
        ordinal=ordinal,
        attempt=task.attempt,
        input_state_version=task.input_state_version,
        kind="publish",
        artifact_hash=digest(content),
        content=content,
        confidence_score=0.8,
        taint="owner",
        sources=[{"title": "Soup", "url": "https://example.org/soup"}],
        effect=effect,
    )


def _vote(agent: Agent, ordinal: int, confidence: float) -> JudgeVerdict:
    task = agent.campaigns[1].tasks[ordinal]
    assert task.effect is not None
    return JudgeVerdict(
        campaign=1,
        ordinal=ordinal,
        attempt=task.attempt,
        policy_edition=1,
        input_state_version=task.input_state_version,
        artifact_hash=task.artifact_hash,
        effect_hash=task.effect.hash,
        edit=task.effect.edit,
        expected_output_version=agent.version + 1,
        commit_hash=commit_hash(agent.key, f"1.{ordinal}", task.input_state_version, task.artifact_hash, task.effect.hash),
        judge="content",
        decision="pass",
        confidence_raw=confidence,
        confidence=confidence,
        reasons=["fits the brief"],
    )


def enrolled(person: Person) -> None:
    code, out = person.run("agent", "enrol", "-f", person.home / "fleet.yaml")
    assert code == 0, out


def with_card(person: Person, swarm: Callable[[str], Swarm], text: str = "Soup warms.") -> Swarm:
    enrolled(person)
    code, out = person.run("campaign", "start", "-f", person.home / "brief.yaml", "--agents", "ava")
    assert code == 0, out
    ava = swarm("ava")
    ava.card(text)
    return ava


def test_a_dry_run_appends_nothing_and_makes_no_keys(person: Person) -> None:
    plan = person.json("agent", "enrol", "-f", person.home / "fleet.yaml", "--dry-run")["plan"]
    assert [row["agent"] for row in plan] == ["ava", "ben"]
    assert (person.home / "home" / "installation.json").exists() == person.served
    assert person.served or not (person.home / "home" / "keys").exists()


def test_a_fleet_is_enrolled_listed_paused_and_resumed(person: Person) -> None:
    enrolled(person)
    again = person.json("agent", "enrol", "-f", person.home / "fleet.yaml")["answers"]
    assert [(row["outcome"], row["reason"]) for row in again] == [("applied", "no change")] * 2
    assert [row["name"] for row in person.json("agent", "list")["agents"]] == ["ava", "ben"]
    assert person.run("agent", "pause", "ava", "ben", "--reason", "look")[0] == 0
    assert person.json("agent", "show", "ava")["status"] == "paused"
    assert person.run("agent", "resume", "ava")[0] == 0
    assert person.run("agent", "retire", "ben")[0] == 0
    code, out = person.run("agent", "resume", "ben")
    assert (code, "retired" in out) == (3, True)
    code, out = person.run("agent", "pause", "avo")
    assert (code, "did you mean ava" in out) == (1, True)


def test_one_broken_agent_of_a_file_does_not_stop_the_others(person: Person) -> None:
    text = FLEET + "  - {name: ava, soul: souls/ava.md}\n  - {name: cid, soul: souls/cid.md}\n"
    (person.home / "fleet.yaml").write_text(text)
    code, out = person.run("agent", "enrol", "-f", person.home / "fleet.yaml")
    assert code == 3
    assert "line 7" in out
    assert "souls/cid.md" in out
    assert len(person.json("agent", "list")["agents"]) == 2


def test_a_changed_persona_is_adopted_when_asked_for(person: Person) -> None:
    enrolled(person)
    (person.home / "souls" / "ava.md").write_text(SOUL.format(name="ava").replace("warm", "dry"))
    unasked = person.json("agent", "enrol", "-f", person.home / "fleet.yaml")["answers"]
    asked = person.json("agent", "enrol", "-f", person.home / "fleet.yaml", "--update")["answers"]
    assert [row["records"] for row in unasked] == [0, 0]
    assert [row["records"] for row in asked] == [1, 0]


def test_a_csv_fleet_is_enrolled(person: Person) -> None:
    (person.home / "fleet.csv").write_text("name,soul,groups,x\nava,souls/ava.md,north;south,ava_x\nben,souls/ben.md,,\n")
    answers = person.json("agent", "enrol", "-f", person.home / "fleet.csv", "--tenant", "acme")["answers"]
    assert [(row["agent"], row["outcome"]) for row in answers] == [("ava", "applied"), ("ben", "applied")]
    assert person.json("agent", "list")["agents"][1]["accounts"] == {"x": "ben_x"}


def test_a_campaign_goes_through_its_life(person: Person) -> None:
    enrolled(person)
    brief = person.home / "brief.yaml"
    assert person.run("campaign", "start", "-f", brief)[0] == 2
    assert person.run("campaign", "start", "-f", brief, "--group", "north")[0] == 0
    started = person.json("campaign", "start", "-f", brief, "--all")["answers"]
    assert [(row["agent"], row["changed"]) for row in sorted(started, key=lambda r: r["agent"])] == [("ava", False), ("ben", True)]
    assert person.run("campaign", "pause", "autumn-soup")[0] == 0
    assert person.run("campaign", "resume", "autumn-soup", "--agents", "ava")[0] == 0
    assert person.json("campaign", "change", "autumn-soup", "-f", brief)["answers"][0]["changed"] is False
    brief.write_text(BRIEF.replace("at home", "outside"))
    assert person.json("campaign", "change", "autumn-soup", "-f", brief)["answers"][0]["changed"] is True
    assert person.run("campaign", "cancel", "autumn-soup")[0] == 0
    listed = person.json("campaign", "list")["campaigns"]
    assert [(row["campaign_id"], row["status"], row["brief_edition"]) for row in listed] == [("autumn-soup", {"closed": 2}, 2)]
    code, out = person.run("campaign", "cancel", "autumn-soop")
    assert code == 1
    assert "none is open" in out


def test_a_card_is_shown_and_approved_by_somebody_entitled_only(person: Person, swarm: Callable[[str], Swarm]) -> None:
    with_card(person, swarm)
    listed = person.json("review", "list")["cards"]
    assert [(card["card"], card["why"], card["text"]) for card in listed] == [("ava/1.1.1", "confidence", "Soup warms.")]
    code, out = person.run("review", "show", "ava/1.1")
    assert code == 0
    assert "Soup warms." in out
    assert "https://example.org/soup" in out
    code, out = person.run("review", "approve", "ava/1.1.1", "--as", "operator")
    assert (code, "kim or lee may" in out) == (3, True)
    approved = person.json("review", "approve", "ava/1.1.1", "--as", "kim", "--effect", listed[0]["effect_hash"][:8])
    assert approved["answers"][0]["outcome"] == "applied"
    again = person.json("review", "approve", "ava/1.1.1", "--as", "kim")["answers"][0]
    assert (again["outcome"], again["changed"]) == ("applied", False)
    assert person.json("review", "list")["cards"] == []
    record = person.json("events", "show", "{partition}:{offset}".format(**approved["answers"][0]["position"]))
    assert (record["actor"], record["data"]["shown_hash"]) == ("kim", listed[0]["shown_hash"])


def test_an_edited_card_carries_other_bytes_and_is_judged_again(person: Person, swarm: Callable[[str], Swarm]) -> None:
    ava = with_card(person, swarm)
    old = person.json("review", "show", "ava/1.1.1")
    edited = person.json("review", "edit", "ava/1.1.1", "--text", "Soup warms people.", "--as", "kim")["answers"][0]
    assert edited["outcome"] == "applied"
    code, out = person.run("review", "approve", "ava/1.1.1", "--as", "lee", "--effect", old["effect_hash"])
    assert (code, "look at it again" in out) == (3, True)
    ava.verdict(0.8)
    effect = ava.agent().campaigns[1].tasks[1].effect
    assert effect is not None
    assert (effect.status, effect.editor, effect.approvals) == ("approved", "kim", ["kim"])


def test_a_rejected_card_closes_and_rejecting_again_changes_nothing(person: Person, swarm: Callable[[str], Swarm]) -> None:
    with_card(person, swarm)
    assert person.run("review", "reject", "ava/1.1.1", "--reason", "ugly", "--as", "kim")[0] == 2
    assert person.run("review", "reject", "ava/1.1.1", "--reason", "off_brand", "--as", "kim")[0] == 0
    again = person.json("review", "reject", "ava/1.1.1", "--reason", "off_brand", "--as", "kim")["answers"][0]
    assert (again["outcome"], again["changed"]) == ("applied", False)
    code, out = person.run("review", "approve", "ava/1.1.1", "--as", "kim")
    assert (code, "was closed (rejected)" in out) == (3, True)


def test_a_held_card_stands_behind_what_nobody_holds_and_is_still_decided_on(person: Person, swarm: Callable[[str], Swarm]) -> None:
    with_card(person, swarm)
    assert person.run("campaign", "start", "-f", person.home / "brief.yaml", "--agents", "ben")[0] == 0
    swarm("ben").card("Bread warms, too.")
    hold = ("review", "hold", "ava/1.1.1", "--reason", "legal looks", "--until", "4h", "--as", "kim")
    assert person.json(*hold, "--dry-run")["answers"][0]["reason"] == "would append CardHoldSet"
    assert person.json(*hold)["answers"][0]["outcome"] == "applied"
    listed = person.json("review", "list")["cards"]
    assert [card["card"] for card in listed] == ["ben/1.1.1", "ava/1.1.1"]
    assert [card["held"] and (card["held"]["by"], card["held"]["reason"]) for card in listed] == [None, ("kim", "legal looks")]
    assert "held by kim until" in person.run("review", "list")[1]
    assert "legal looks" in person.run("review", "show", "ava/1.1.1")[1]
    assert person.run("review", "hold", "ava/1.1.1", "--reason", "mine", "--as", "lee")[0] == 3
    assert person.run("review", "hold", "ava/1.1.1", "--reason", "mine", "--until", "later", "--as", "lee")[0] == 2
    assert person.run("review", "release", "ava/1.1.1", "--as", "lee")[0] == 0
    assert person.json("review", "release", "ava/1.1.1", "--as", "lee")["answers"][0]["reason"] == "no change"
    assert person.json("review", "show", "ava/1.1.1")["held"] is None
    assert person.run("review", "approve", "ava/1.1.1", "--as", "kim")[0] == 0


def test_an_approval_is_withdrawn_until_somebody_has_claimed_it(person: Person, swarm: Callable[[str], Swarm]) -> None:
    with_card(person, swarm)
    assert person.run("review", "withdraw", "ava/1.1.1")[0] == 3
    assert person.run("review", "approve", "ava/1.1.1", "--as", "kim")[0] == 0
    assert person.run("review", "withdraw", "ava/1.1.1", "--reason", "typo")[0] == 0
    assert person.json("review", "withdraw", "ava/1.1.1")["answers"][0]["reason"] == "no change"


def test_an_unknown_call_is_resolved_with_proof(person: Person, swarm: Callable[[str], Swarm]) -> None:
    ava = with_card(person, swarm)
    assert person.run("review", "approve", "ava/1.1.1", "--as", "kim")[0] == 0
    ava.claim()
    code, out = person.run("review", "withdraw", "ava/1.1.1")
    assert (code, "too late" in out) == (3, True)
    resolve = ("review", "resolve", "ava/1.1.1", "--outcome", "executed", "--proof", "seen on the timeline")
    assert person.run(*resolve)[0] == 3
    ava.append(EffectUnknown(campaign=1, ordinal=1, attempt=1, claim=1, token="t", reason="timeout"))
    assert person.run(*resolve)[0] == 3
    code, out = person.run(*resolve, "--platform-id", "77", "--url", "https://x.example/77")
    assert code == 0, out
    assert person.json("fleet", "status")["executed"] == 1


def test_a_post_is_traced_back_to_its_brief(person: Person, swarm: Callable[[str], Swarm]) -> None:
    ava = with_card(person, swarm)
    assert person.run("review", "approve", "ava/1.1.1", "--as", "kim")[0] == 0
    ava.claim()
    ava.append(EffectEnded(campaign=1, ordinal=1, attempt=1, claim=1, token="t", outcome="executed", url="https://x.example/1"))
    story = person.json("events", "trace", "ava/1.1")

    def types(node: dict[str, Any]) -> list[str]:
        return [node["type"], *(t for child in node["caused"] for t in types(child))]

    (root,) = story["tree"]
    assert types(root) == [
        "CampaignStarted",
        "PlanDrafted",
        "TaskPlanned",
        "ArtifactProduced",
        "JudgeVerdict",
        "HumanApproved",
        "EffectClaimed",
        "EffectEnded",
    ]
    code, out = person.run("events", "trace", "ava/1.1.1")
    assert code == 0
    assert out.index("CampaignStarted") < out.index("HumanApproved") < out.index("https://x.example/1")
    assert person.json("events", "trace", root["id"])["tree"][0]["type"] == "CampaignStarted"
    assert person.run("events", "trace", "ava/1.9")[0] == 1


def test_the_tail_shows_rulings_and_filters(person: Person) -> None:
    enrolled(person)
    code, out = person.run("events", "tail", "--no-follow", "--agent", "ava", "-n", "3", "--json")
    lines = [orjson.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [line["type"] for line in lines] == ["PolicyAdopted", "AccountLinked", "AllowanceSet"]
    assert {line["outcome"] for line in lines} == {"applied"}
    code, out = person.run("events", "tail", "--no-follow", "--type", "AgentEnroled")
    assert (code, "AgentEnrolled" in out) == (2, True)
    assert person.run("events", "show", "no-such-id")[0] == 1


def test_the_fleet_is_counted(person: Person, swarm: Callable[[str], Swarm]) -> None:
    with_card(person, swarm)
    look = person.json("fleet", "status")
    assert look["agents"] == {"active": 2}
    assert look["campaigns"] == {"running": 1}
    assert look["cards_waiting"] == 1
    assert [card["card"] for card in look["cards"]] == ["ava/1.1.1"]
    assert look["last_record_ts"] <= time.time() * 1000 + 60_000


def test_a_reviewer_sees_every_sign_of_the_text_even_on_a_narrow_screen(
    person: Person, swarm: Callable[[str], Swarm], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "Soup " * 30 + "https://example.org/" + "long" * 30 + " \x1b[2Khidden \u202eback"
    with_card(person, swarm, text)
    monkeypatch.setenv("COLUMNS", "60")
    code, out = person.run("review", "show", "ava/1.1.1")
    panel = out[out.index("╭") : out.index("╯")]
    seen = "".join(line.strip("│ ") for line in panel.splitlines()[1:-1])
    wanted = text.replace("\x1b", r"\u{1b}").replace("\u202e", r"\u{202e}")
    assert code == 0
    assert seen.replace(" ", "") == wanted.replace(" ", "")
    assert "\x1b[2K" not in out


def test_an_edit_is_shown_word_by_word_with_what_the_rules_say_before_it_is_sent(
    person: Person, swarm: Callable[[str], Swarm]
) -> None:
    ava = with_card(person, swarm)
    edit = ("review", "edit", "ava/1.1.1", "--text", "Soup cures people.", "--as", "kim", "--yes")
    code, out = person.run(*edit, "--dry-run")
    assert (code, "would append HumanEdited" in out) == (0, True), out
    assert "Soup [-warms.-]{+cures people.+}" in out
    assert "not looked at" in out
    assert person.json("review", "show", "ava/1.1.1")["edit"] == 0
    assert person.run(*edit)[0] == 0
    ava.verdict(0.8)
    effect = ava.agent().campaigns[1].tasks[1].effect
    assert effect is not None
    assert (effect.edit, effect.editor) == (1, "kim")


def test_who_decides_on_a_card_that_was_edited_since_is_told_what_changed(person: Person, swarm: Callable[[str], Swarm]) -> None:
    with_card(person, swarm)
    with wiring.open_desk(Settings()) as desk:
        seen = desk.ask(verbs.CardShow(card="ava/1.1.1"))
        shown = verbs.Shown(shown_hash=seen["shown_hash"], effect_hash=seen["effect_hash"], edit=0)
        desk.ask(verbs.wish(verbs.Edit, "kim", card="ava/1.1.1", shown=shown, text="Soup warms people."))
        with pytest.raises(Refused, match=r"changed by kim.*text: Soup \[-warms\.-\]\{\+warms people\.\+\}; .*edit: 0 -> 1"):
            desk.ask(verbs.wish(verbs.Approve, "lee", card="ava/1.1.1", shown=shown))


def test_a_file_of_decisions_is_answered_line_by_line(person: Person, swarm: Callable[[str], Swarm]) -> None:
    ava = with_card(person, swarm)
    sheet = person.home / "decisions.csv"
    effect = person.json("review", "list")["cards"][0]["effect_hash"]
    lines = f"ava/1.1.1,approve,,{effect[:8]}\nben/7.1,approve,,\neve/1.1,approve,,\nava/1.2,reject,ugly,\nben/1.9,,,\n"
    sheet.write_text("card,decision,reason,effect\n" + lines)
    tried = person.json("review", "--batch", sheet, "--as", "kim", "--dry-run")
    assert [(row["outcome"], row["changed"]) for row in tried["answers"]] == [("applied", False)] + [("refused", False)] * 3
    assert tried["answers"][0]["reason"] == "would append HumanApproved"
    waits = ava.agent().campaigns[1].tasks[1].effect
    assert waits is not None
    assert waits.status == "people"
    code, out = person.run("review", "--batch", sheet, "--as", "kim", "--yes")
    assert code == 3, out
    assert "Soup warms." in out
    assert "no campaign 7" in out
    assert "eve" in out
    assert "off_brand" in out
    assert "1 lines without a decision" in out
    approved = ava.agent().campaigns[1].tasks[1].effect
    assert approved is not None
    assert (approved.status, approved.approvals) == ("approved", ["kim"])
    sheet.write_text("card,decision,reason\nava/1.1.1,withdraw,typo\n")
    assert person.run("review", "--batch", sheet, "--as", "kim")[0] == 0
    assert person.json("review", "--batch", sheet, "--as", "kim")["answers"][0]["reason"] == "no change"
    assert person.run("review", "--batch", sheet, "list")[0] == 2
    assert person.run("review", "--dry-run")[0] == 2


@pytest.mark.parametrize("person", ["served"], indirect=True)
def test_a_hundred_cards_are_decided_by_one_file_and_each_decision_says_who_saw_what_under_which_policy(
    person: Person, swarm: Callable[[str], Swarm]
) -> None:
    enrolled(person)
    assert person.run("campaign", "start", "-f", person.home / "brief.yaml", "--agents", "ava")[0] == 0
    ava = swarm("ava")
    ava.cards([f"Soup number {n} warms, and {n * 7919} pots were counted." for n in range(1, 101)])
    waiting = {card["card"]: card for card in person.json("review", "list")["cards"]}
    assert len(waiting) == 100
    sheet = person.home / "decisions.csv"
    turned_down = {f"ava/1.{n}.1" for n in range(10, 101, 10)}
    lines = [f"{card},{'reject,timing' if card in turned_down else 'approve,'}" for card in waiting]
    sheet.write_text("\n".join(["card,decision,reason", *lines]) + "\n")
    done = person.json("review", "--batch", sheet, "--as", "kim", "--yes")
    assert {(row["outcome"], row["changed"]) for row in done["answers"]} == {("applied", True)}

    log = [decode(raw) for batch in read_until(Settings().kafka or "", wiring.LOG_TOPIC, range(24)) for raw in batch]
    said = {
        f"ava/{d.campaign}.{d.ordinal}.{d.attempt}": (r, d) for r in log if isinstance(d := r.data, HumanApproved | HumanRejected)
    }
    assert said.keys() == waiting.keys()
    for card, (record, decision) in said.items():
        assert (record.actor, decision.policy_edition, decision.effect_hash) == ("kim", 1, waiting[card]["effect_hash"])
        assert isinstance(decision, HumanRejected) == (card in turned_down)
        if isinstance(decision, HumanApproved):
            assert len(decision.shown_hash) == 64
    assert len({d.shown_hash for _, d in said.values() if isinstance(d, HumanApproved)}) == 90, "each card was shown for itself"
    again = person.json("review", "--batch", sheet, "--as", "kim", "--yes")
    assert not any(row["changed"] for row in again["answers"]), "the same file again decides nothing twice"
