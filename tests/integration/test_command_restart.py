"""A command service that was killed: what it starts from, what it still knows, and that no command counts twice."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from chimera.commands import verbs, wiring
from chimera.commands.client import SOCKET, Client, CommandFailed, NoService, answers
from chimera.commands.room import order_id
from chimera.commands.wiring import open_desk
from chimera.events.envelope import Record
from chimera.events.state import Ruling
from chimera.projections.schema import migrate
from chimera.settings import Settings
from tests.integration.commanding import Kept, enrol, one, process, status, until
from tests.integration.ownlog import NO_DATABASE, installed, own_log


@pytest.fixture
def topic(kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> str:
    name = own_log(kafka_bootstrap, "restarted")
    monkeypatch.setattr(wiring, "LOG_TOPIC", name)
    return name


@pytest.fixture
def settings(kafka_bootstrap: str, topic: str, tmp_path: Path) -> Settings:
    # Nobody listens at this database: what names no other has to do without it.
    return installed(Settings(home=tmp_path / "home", kafka=kafka_bootstrap, postgres=NO_DATABASE), topic)


@pytest.fixture
def kept(settings: Settings, topic: str, make_database: Callable[[], str]) -> Iterator[Kept]:
    dsn = make_database()
    migrate(dsn)
    with contextlib.closing(Kept(settings.home, settings.kafka or "", topic, dsn)) as made:
        yield made


def test_an_agent_is_paused_while_the_database_is_down_and_after_the_service_was_killed(settings: Settings, topic: str) -> None:
    with process(settings, topic) as first, open_desk(settings) as desk:
        assert desk.served
        desk.ask(enrol("ava"))
        assert one(desk.ask(status("agent.pause", "ava"))).outcome == "applied"
        first.send_signal(signal.SIGHUP)
        assert desk.ask(verbs.AgentShow(name="ava"))["status"] == "paused"
        first.kill()
        first.wait()
        assert one(desk.ask(status("agent.resume", "ava"))).outcome == "applied"
        assert not desk.served
    assert (settings.home / SOCKET).exists()  # kill -9 leaves it behind, and the next one takes its place
    with process(settings, topic) as second, open_desk(settings) as desk:
        assert desk.served
        assert desk.ask(verbs.AgentShow(name="ava"))["status"] == "active"
        second.send_signal(signal.SIGTERM)
        assert second.wait(30) == 0
    assert not (settings.home / SOCKET).exists()


def test_a_service_that_begins_at_snapshots_knows_old_commands_and_says_what_it_lacks_without_the_database(
    settings: Settings, topic: str, kept: Kept
) -> None:
    database = settings.model_copy(update={"postgres": kept.dsn})
    pause = status("agent.pause", "ava")
    with process(settings, topic), Client(settings.home / SOCKET) as client:
        assert not client.health()["from_snapshots"]
        client.ask(enrol("ava", "ben"))
        first = one(client.ask(pause))
        kept()
    with process(database, topic), Client(settings.home / SOCKET) as client:
        assert client.health()["from_snapshots"]
        again = one(client.ask(pause))
        assert (again.outcome, again.reason, again.state_version) == ("applied", "applied before", first.state_version)
        assert [row["status"] for row in client.ask(verbs.AgentList())["agents"]] == ["paused", "active"]
        look = client.ask(verbs.FleetStatus())
        assert "incomplete" not in look
        assert look["rulings"]["applied"] == look["records"]
        with psycopg.connect(kept.dsn, autocommit=True) as connection:
            connection.execute("DROP SCHEMA core CASCADE")
        assert one(client.ask(status("agent.resume", "ava"))).outcome == "applied"
        look = client.ask(verbs.FleetStatus())
        assert look["agents"] == {"active": 2}
        assert "do not answer" in look["incomplete"]
        brief = {
            "name": "Soup",
            "goal": "people cook soup at home",
            "audience": "people with a pot",
            "key_messages": ["soup warms"],
            "formats": [{"platform": "x", "format": "post"}],
        }
        brief["feeds"] = ["https://example.org/feed.xml"]
        with pytest.raises(CommandFailed, match="who is in which group is not known now"):
            client.ask(verbs.wish(verbs.CampaignStart, "op", brief=brief, group="north"))


def test_two_hundred_commands_count_once_each_although_the_service_is_killed_among_them(
    settings: Settings, topic: str, kept: Kept
) -> None:
    database = settings.model_copy(update={"postgres": kept.dsn})
    names = [f"agent{n}" for n in range(20)]
    with process(settings, topic), Client(settings.home / SOCKET) as client:
        client.ask(enrol(*names))
    kept()
    wishes = {name: [status(f"agent.{('pause', 'resume')[n % 2]}", name) for n in range(10)] for name in names}
    said: list[str] = []
    broken: list[str] = []
    quarter, saved = threading.Event(), threading.Event()

    def give(name: str, first: subprocess.Popen[bytes]) -> None:
        for wish in wishes[name]:
            said.append(one(insisting(settings, wish, broken)).outcome)
            if len(said) >= 50:  # all wait until snapshots are taken of the middle
                quarter.set()
                assert saved.wait(120)
            if len(said) >= 100:
                first.kill()  # right here, while others have commands under way

    with ThreadPoolExecutor(len(names)) as pool:
        with process(database, topic) as first:
            given = [pool.submit(give, name, first) for name in names]
            assert quarter.wait(120)
            kept()
            saved.set()
            first.wait(120)
        with process(database, topic):
            for each in given:
                each.result(120)
    assert Counter(said) == {"applied": 200}
    assert broken, "nobody was cut off: the kill came too late to show anything"
    applied = Counter(record.id for record, ruling in everything(settings, topic) if ruling.outcome == "applied")
    keys = {record.data.name: record.key for record, _ in everything(settings, topic) if record.type == "AgentEnrolled"}  # type: ignore[union-attr]
    assert {applied[order_id(wish, keys[name])] for name in names for wish in wishes[name]} == {1}


def insisting(settings: Settings, wish: verbs.AgentStatus, broken: list[str]) -> verbs.Reply:
    """Give the same verb until a service answers it; what broke off is noted."""
    found: list[verbs.Reply] = []

    def ask() -> bool:
        try:
            with Client(settings.home / SOCKET) as client:
                found.append(client.ask(wish))
        except (NoService, CommandFailed) as error:
            broken.append(str(error))
            until(lambda: answers(settings.home))
        return bool(found)

    until(ask, 120)
    return found[0]


def everything(settings: Settings, topic: str) -> list[tuple[Record, Ruling]]:
    seen: list[tuple[Record, Ruling]] = []
    with wiring.open_service(settings, observe=lambda record, ruling: seen.append((record, ruling)), topic=topic):
        return seen
