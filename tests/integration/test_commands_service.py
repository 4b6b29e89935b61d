"""The command service on a real broker: answers are rulings read back from the log."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from chimera.commands import agents, campaigns
from chimera.commands.agents import Enrolment, PolicyText
from chimera.commands.decision import NO_CHANGE, Order, Refused
from chimera.commands.keys import KeyTrouble, agent_key, ensure_installation, log_topics
from chimera.commands.service import CommandService
from chimera.eventlog.append import Appender
from chimera.eventlog.read import end_offsets
from chimera.events.records import AgentStatusSet, PolicyInline
from chimera.settings import Settings
from tests.integration.ownlog import installed, own_log

POLICY = PolicyText("digest", "rules", PolicyInline(approvers={"publish": ["kim", "lee"]}))
BRIEF = {"name": "Autumn", "goal": "be read"}


@pytest.fixture
def topic(kafka_bootstrap: str) -> str:
    return own_log(kafka_bootstrap, "commands")


@pytest.fixture
def settings(kafka_bootstrap: str, topic: str, tmp_path: Path) -> Settings:
    return installed(Settings(home=tmp_path / "home", kafka=kafka_bootstrap), topic)


@pytest.fixture
def open_service(kafka_bootstrap: str, settings: Settings, topic: str) -> Iterator[Callable[[], CommandService]]:
    opened: list[CommandService] = []

    def open_() -> CommandService:
        opened.append(CommandService(kafka_bootstrap, settings, topic=topic))
        return opened[-1]

    yield open_
    for service in opened:
        service.close()


def wanted(name: str, **more: object) -> Enrolment:
    made = Enrolment(name, ("north",), "soul", "a soul", POLICY, {"x": f"{name}_x"}, Decimal(5), 3_600_000)
    return Enrolment(**{**made.__dict__, **more})


def key(service: CommandService, name: str) -> str:
    return agent_key(service.keys.installation.installation, "acme", name)


def order(service: CommandService, name: str) -> Order:
    return Order(key(service, name), "acme", "op", agents.enrol(wanted(name), "op"), str(uuid.uuid4()))


def test_setting_up_twice_appends_one_law_per_partition(kafka_bootstrap: str, settings: Settings, topic: str) -> None:
    before = end_offsets(kafka_bootstrap, topic)
    with Appender(kafka_bootstrap, log_topics(topic), "installer") as appender:
        ensure_installation(settings, appender, kafka_bootstrap, topic)
    assert before == end_offsets(kafka_bootstrap, topic) == dict.fromkeys(range(24), 1)


def test_a_log_of_another_installation_is_refused(kafka_bootstrap: str, settings: Settings, topic: str, tmp_path: Path) -> None:
    other = Settings(home=tmp_path / "other", kafka=kafka_bootstrap)
    with (
        Appender(kafka_bootstrap, log_topics(topic), "installer") as appender,
        pytest.raises(KeyTrouble, match="another installation"),
    ):
        ensure_installation(other, appender, kafka_bootstrap, topic)


def test_an_agent_is_enrolled_once_with_all_it_needs(open_service: Callable[[], CommandService]) -> None:
    service = open_service()
    first = service.submit_many([order(service, "ava")])[0]
    again = service.submit_many([order(service, "ava")])[0]
    assert (first.outcome, first.records) == ("applied", 5)
    assert (again.outcome, again.reason, again.position) == ("applied", NO_CHANGE, None)
    agent = service.agent(key(service, "ava"))
    assert agent is not None
    assert (agent.name, agent.accounts, agent.version) == ("ava", {"x": "ava_x"}, first.state_version)
    assert agent.policy is not None
    assert agent.soul is not None


def test_two_services_that_enrol_the_same_agents_at_once_make_each_once(open_service: Callable[[], CommandService]) -> None:
    names = [f"twin{n}" for n in range(10)]
    services = [open_service(), open_service()]
    outcomes: dict[int, list[str]] = {}

    def run(index: int) -> None:
        service = services[index]
        outcomes[index] = [a.outcome for a in service.submit_many([order(service, name) for name in names])]

    threads = [threading.Thread(target=run, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert outcomes == {0: ["applied"] * 10, 1: ["applied"] * 10}
    services[0].catch_up()
    for name in names:
        agent = services[0].agent(key(services[0], name))
        assert agent is not None
        assert (agent.command_no, agent.accounts) == (5, {"x": f"{name}_x"})


def test_the_same_command_id_counts_once_and_is_answered_again(open_service: Callable[[], CommandService]) -> None:
    service = open_service()
    service.submit_many([order(service, "ava")])
    pause = {"key": key(service, "ava"), "tenant": "acme", "actor": "op", "command_id": str(uuid.uuid4())}
    first = service.submit(agents.pause("look"), **pause)
    service.submit(agents.resume(), key=key(service, "ava"), tenant="acme", actor="op")
    retried = open_service().submit(agents.pause("look"), **pause)
    assert first.changed
    assert (retried.outcome, retried.reason) == ("applied", "applied before")
    agent = service.agent(key(service, "ava"))
    assert agent is not None
    assert agent.status == "active"


def test_a_number_that_somebody_else_took_is_decided_again(open_service: Callable[[], CommandService]) -> None:
    mine, other = open_service(), open_service()
    mine.submit_many([order(mine, "ava")])
    raced: list[str] = []

    def decide_slowly(agent: object) -> list[AgentStatusSet]:
        if not raced:
            raced.append(other.submit(agents.pause(), key=key(other, "ava"), tenant="acme", actor="lee").outcome)
        return list(agents.retire("end")(agent))  # type: ignore[arg-type]

    answer = mine.submit(decide_slowly, key=key(mine, "ava"), tenant="acme", actor="op")
    assert raced == ["applied"]
    assert answer.outcome == "applied"
    agent = mine.agent(key(mine, "ava"))
    assert agent is not None
    assert agent.status == "retired"


def test_a_refused_command_appends_nothing(open_service: Callable[[], CommandService], kafka_bootstrap: str, topic: str) -> None:
    service = open_service()
    before = end_offsets(kafka_bootstrap, topic)
    with pytest.raises(Refused, match="no such agent"):
        service.submit(campaigns.start("Autumn", BRIEF), key=key(service, "nobody"), tenant="acme", actor="op")
    assert end_offsets(kafka_bootstrap, topic) == before


def test_a_campaign_is_started_changed_paused_and_cancelled_by_its_name(open_service: Callable[[], CommandService]) -> None:
    service = open_service()
    service.submit_many([order(service, "ava")])

    def submit(decide: object) -> tuple[str, bool]:
        answer = service.submit(decide, key=key(service, "ava"), tenant="acme", actor="op")  # type: ignore[arg-type]
        return answer.outcome, answer.changed

    assert submit(campaigns.start("Autumn Days", BRIEF)) == ("applied", True)
    assert submit(campaigns.start("Autumn Days", BRIEF)) == ("applied", False)
    agent = service.agent(key(service, "ava"))
    assert agent is not None
    before = agent.version
    assert submit(campaigns.change("autumn-days", {**BRIEF, "goal": "be loved"})) == ("applied", True)
    assert agent.version == before + 1
    assert submit(campaigns.pause("autumn-days")) == ("applied", True)
    assert submit(campaigns.pause("autumn-days")) == ("applied", False)
    assert submit(campaigns.cancel("autumn-days")) == ("applied", True)
    with pytest.raises(Refused, match="not open"):
        submit(campaigns.resume("autumn-days"))


def test_a_thousand_agents_are_enrolled_in_bulk(open_service: Callable[[], CommandService]) -> None:
    service = open_service()
    done: list[int] = []
    answers = service.submit_many([order(service, f"a{n}") for n in range(1000)], done.append)
    assert {answer.outcome for answer in answers} == {"applied"}
    assert done == [500, 1000]
    assert len(service.agents) == 1000
