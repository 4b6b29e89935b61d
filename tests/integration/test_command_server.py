"""The running command service: who may come in, what may be asked, and that nothing counts twice or gets lost."""

from __future__ import annotations

import contextlib
import http.client
import secrets
import socket
import stat
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest

from chimera.cli import wait
from chimera.commands import verbs, wiring
from chimera.commands.client import SOCKET, Client, CommandFailed, NoService, answers
from chimera.commands.decision import Refused
from chimera.commands.keys import KeyTrouble, load_keys, log_topics
from chimera.commands.rotation import drop, rotate
from chimera.commands.server import AlreadyServed, serve
from chimera.commands.service import CommandService
from chimera.commands.wiring import open_desk
from chimera.eventlog.append import Appender
from chimera.eventlog.cluster import apply
from chimera.eventlog.read import end_offsets, read_until
from chimera.eventlog.topics import load_topics
from chimera.events.envelope import NewRecord, SigningKey, encode
from chimera.events.headers import signature
from chimera.events.records import AgentStatusSet
from chimera.events.security import TOPIC, security_of
from chimera.events.state import Ruling
from chimera.projections.engine import MODEL_SET
from chimera.projections.schema import migrate
from chimera.settings import Settings
from tests.integration.commanding import enrol, one, status, until
from tests.integration.ownlog import NO_DATABASE, installed, own_log


@pytest.fixture
def topic(kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> str:
    name = own_log(kafka_bootstrap, "served")
    monkeypatch.setattr(wiring, "LOG_TOPIC", name)
    return name


@pytest.fixture
def settings(kafka_bootstrap: str, topic: str, tmp_path: Path) -> Settings:
    # Nobody listens at this database: all that follows has to do without it.
    return installed(Settings(home=tmp_path / "home", kafka=kafka_bootstrap, postgres=NO_DATABASE), topic)


@contextlib.contextmanager
def serving(settings: Settings) -> Iterator[Callable[[], None]]:
    """A command service in a thread; calling what is yielded ends it."""
    stop, ready = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        ended: Future[None] = pool.submit(serve, settings, stop, ready=ready)
        while not ready.wait(0.05):
            if ended.done():
                ended.result()

        def end() -> None:
            stop.set()
            ended.result(30)

        try:
            yield end
        finally:
            end()


@pytest.fixture
def served(settings: Settings) -> Iterator[Settings]:
    with serving(settings):
        yield settings


@pytest.fixture
def client(served: Settings) -> Iterator[Client]:
    with Client(served.home / SOCKET) as made:
        yield made


# --- who may come in -------------------------------------------------------------------------------------------------


def test_the_socket_is_its_owners_alone_and_goes_with_the_service(settings: Settings) -> None:
    path = settings.home / SOCKET
    with serving(settings):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert answers(settings.home)
    assert not path.exists()
    assert not answers(settings.home)


def test_a_home_so_deep_that_no_socket_address_holds_it_is_served_all_the_same(settings: Settings, tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 90) / "home"
    deep.parent.mkdir()
    settings.home.rename(deep)
    with serving(settings.model_copy(update={"home": deep})):
        assert answers(deep)


def test_one_home_has_one_command_service(served: Settings) -> None:
    with pytest.raises(AlreadyServed, match="already runs"):
        serve(served, threading.Event())
    assert answers(served.home)


def with_tokens(settings: Settings, text: str, mode: int = 0o600) -> tuple[Settings, Path]:
    path = settings.home / "keys" / "tokens"
    path.write_text(text)
    path.chmod(mode)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return settings.model_copy(update={"command_listen": f"127.0.0.1:{port}"}), path


def test_over_tcp_a_token_speaks_for_its_name_only_and_a_wrong_one_learns_nothing(settings: Settings, topic: str) -> None:
    stream = topic.removesuffix("chimera.log") + TOPIC
    apply(settings.kafka or "", load_topics().only(TOPIC).with_prefix(stream.removesuffix(TOPIC)))
    token = secrets.token_hex(32)
    listening, path = with_tokens(settings, f"# operators\nkim {token}\n")
    address = f"http://{listening.command_listen}"
    with serving(listening):
        with Client(listening.home / SOCKET) as local:
            local.ask(enrol("ava"))
        with Client(address, token=token) as kim:
            assert one(kim.ask(status("agent.pause", "ava", actor="kim"))).outcome == "applied"
            with pytest.raises(Refused, match="gives commands as 'kim' only"):
                kim.ask(status("agent.resume", "ava", actor="lee"))
        bodies = set()
        for headers in ({}, {"Authorization": "Bearer " + "0" * 64}, {"Authorization": f"Basic {token}"}):
            connection = http.client.HTTPConnection(listening.command_listen or "")
            connection.request("POST", "/v1/verbs", verbs.AgentList().model_dump_json(), headers)
            answer = connection.getresponse()
            assert answer.status == 401
            bodies.add(answer.read())
            connection.close()
        assert bodies == {b'{"kind":"unauthorized","error":"unauthorized"}'}
        path.write_text("# nobody any more\n")
        with Client(address, token=token) as kim, pytest.raises(CommandFailed, match="unauthorized"):
            kim.ask(verbs.AgentList())
    # The service has ended, and has sent what it noted: nothing of what was shown at the door stands there.
    raws = [raw for batch in read_until(settings.kafka or "", stream, [0]) for raw in batch]
    told = [said for raw in raws if (said := security_of(raw)) is not None]
    seen = Counter[tuple[str, str, str]]()
    for said in told:
        seen[said.what, said.who, said.reason] += said.count
    assert seen == {
        ("command_refused", "kim", "not_their_name"): 1,
        ("token_refused", "unknown", "no_token"): 1,
        ("token_refused", "unknown", "no_such_token"): 3,
    }
    assert {(said.origin, said.outcome) for said in told if said.what == "token_refused"} == {("127.0.0.1", "refused")}
    assert not any(token.encode() in (raw.value or b"") for raw in raws)


@pytest.mark.parametrize(
    ("text", "mode", "why"), [("kim " + "a" * 64, 0o644, "chmod 600"), ("kim short", 0o600, "line 1"), ("kim", 0o600, "line 1")]
)
def test_a_token_file_that_is_open_or_weak_is_refused_at_the_start(settings: Settings, text: str, mode: int, why: str) -> None:
    listening, _ = with_tokens(settings, text, mode)
    with pytest.raises(KeyTrouble, match=why):
        serve(listening, threading.Event())


# --- what may be asked -----------------------------------------------------------------------------------------------


def raw(settings: Settings, body: bytes) -> tuple[int, dict[str, str]]:
    with Client(settings.home / SOCKET) as made:
        code, answer = made._request("POST", "/v1/verbs", body)
    return code, orjson.loads(answer)


def test_what_is_no_known_verb_is_refused_without_repeating_it(served: Settings) -> None:
    for body in (b"", b"[]", b'{"verb":"agent.delete"}', b'{"verb":"agent.list","secret-sauce":1}', b"\x80pickle"):
        code, answer = raw(served, body)
        assert code == 400
        assert "secret-sauce" not in answer["error"] or "Extra inputs" in answer["error"]
    bad_actor = status("agent.pause", "ava").model_dump() | {"actor": "kim\nroot"}
    assert raw(served, orjson.dumps(bad_actor))[0] == 400


def test_a_brief_may_not_name_files_that_the_installation_does_not_keep(client: Client) -> None:
    client.ask(enrol("ava"))
    brief = {
        "name": "Leak",
        "goal": "read other files",
        "audience": "nobody",
        "key_messages": ["x"],
        "feeds": ["/etc/passwd"],
        "formats": [{"platform": "x", "format": "post"}],
    }
    with pytest.raises(Refused, match="does not keep"):
        client.ask(verbs.wish(verbs.CampaignStart, "op", brief=brief, everyone=True))


def test_a_writer_reads_its_own_writes_by_position(client: Client, settings: Settings) -> None:
    client.ask(enrol("ava"))
    answer = one(client.ask(status("agent.pause", "ava")))
    assert answer.position is not None
    assert client.ask(verbs.AgentShow(name="ava", after=(answer.position,)))["status"] == "paused"
    with open_desk(settings) as desk:
        assert desk.served
        assert desk.ask(verbs.AgentShow(name="ava"))["state_version"] == answer.state_version


# --- nothing twice, nothing lost -------------------------------------------------------------------------------------


def test_a_verb_sent_again_is_answered_as_before_by_this_service_and_by_another(client: Client, settings: Settings) -> None:
    client.ask(enrol("ava"))
    pause = status("agent.pause", "ava")
    first = one(client.ask(pause))
    client.ask(status("agent.resume", "ava"))
    for again in (client.ask(pause), _asked_embedded(settings, pause)):
        answer = one(again)
        assert (answer.outcome, answer.reason, answer.position) == ("applied", "applied before", first.position)
    assert client.ask(verbs.AgentShow(name="ava"))["status"] == "active"


def _asked_embedded(settings: Settings, verb: verbs.Verb) -> verbs.Reply:
    from chimera.commands.desk import Desk
    from chimera.commands.room import Seen

    seen = Seen()
    with wiring.open_service(settings, observe=seen) as service:
        return Desk(service, seen, settings.home).perform(verb)


def test_an_answer_that_breaks_off_is_asked_for_again_and_counts_once(
    served: Settings, kafka_bootstrap: str, topic: str, tmp_path: Path
) -> None:
    with Client(served.home / SOCKET) as direct:
        direct.ask(enrol("ava"))
    before = sum(end_offsets(kafka_bootstrap, topic).values())
    with _breaking_off(served.home / SOCKET, tmp_path / "p.sock") as requests, Client(tmp_path / "p.sock") as shaky:
        answer = one(shaky.ask(status("agent.pause", "ava")))
    assert (answer.outcome, answer.reason) == ("applied", "applied before")
    assert len(requests) == 2
    assert sum(end_offsets(kafka_bootstrap, topic).values()) == before + 1


@contextlib.contextmanager
def _breaking_off(real: Path, path: Path) -> Iterator[list[bytes]]:
    """A door in front of the service that hands the first request on, waits until it was answered, and then hangs up."""
    door = socket.socket(socket.AF_UNIX)
    door.bind(str(path))
    door.listen()
    requests: list[bytes] = []

    def hand_on() -> None:
        for number in range(2):
            with door.accept()[0] as near, socket.socket(socket.AF_UNIX) as far:
                far.connect(str(real))
                requests.append(_whole(near))
                far.sendall(requests[-1])
                answer = _whole(far)
                if number:
                    near.sendall(answer)

    worker = threading.Thread(target=hand_on)
    worker.start()
    yield requests
    worker.join(30)
    door.close()


def _whole(connection: socket.socket) -> bytes:
    """One HTTP message with a JSON object in it."""
    message = b""
    while b"\r\n\r\n" not in message or not message.endswith(b"}"):
        message += connection.recv(65536)
    return message


def test_who_waits_on_a_service_that_ends_goes_on_without_it(settings: Settings) -> None:
    with serving(settings) as end, open_desk(settings) as desk:
        desk.ask(enrol("ava"))
        pause = status("agent.pause", "ava")
        assert desk.served
        first = one(desk.ask(pause))
        end()
        again = one(desk.ask(pause))
        assert not desk.served
        assert (again.outcome, again.position) == ("applied", first.position)


def test_many_commands_at_once_are_all_answered_each_for_itself(served: Settings) -> None:
    names = [f"a{n}" for n in range(12)]
    with Client(served.home / SOCKET) as client:
        client.ask(enrol(*names))

    def flip(number: int) -> list[str]:
        with Client(served.home / SOCKET) as mine:
            # Every name is commanded by two at once: they race for the command number, and both are answered.
            name, verb = names[number % 12], ("agent.pause", "agent.resume")
            return [one(mine.ask(status(verb[turn % 2], name))).outcome for turn in range(6)] + _refusal(mine)

    with ThreadPoolExecutor(24) as pool:
        outcomes = list(pool.map(flip, range(24)))
    assert {outcome for each in outcomes for outcome in each} == {"applied", "said no"}


def _refusal(client: Client) -> list[str]:
    with pytest.raises(CommandFailed, match="no agent is called"):
        client.ask(status("agent.pause", "nobody"))
    return ["said no"]


# --- keys ------------------------------------------------------------------------------------------------------------


def test_rotating_the_key_under_load_loses_no_command_and_a_dropped_key_counts_no_more(
    served: Settings, kafka_bootstrap: str, topic: str
) -> None:
    names = [f"a{n}" for n in range(6)]
    old = load_keys(served.home).command
    with Client(served.home / SOCKET) as client:
        client.ask(enrol(*names))
    over = threading.Event()

    def flip(name: str) -> list[tuple[str, str]]:
        given: list[Any] = []
        with Client(served.home / SOCKET) as mine:
            while not over.is_set() or len(given) < 4:
                answer = one(mine.ask(status(("agent.pause", "agent.resume")[len(given) % 2], name)))
                given.append((answer.outcome, answer.reason))
        return given

    with ThreadPoolExecutor(6) as pool:
        flips = [pool.submit(flip, name) for name in names]
        with CommandService(kafka_bootstrap, served, topic=topic) as own:
            rotated = rotate(served.home, own, kafka_bootstrap)
            until(lambda: len(_signers(kafka_bootstrap, topic)) == 2)
            dropped = drop(served.home, rotated.old, own, kafka_bootstrap)
        over.set()
        given = [pair for each in flips for pair in each.result(60)]
    assert (rotated.old, rotated.partitions, dropped.partitions) == (old.id, 24, 24)
    assert set(given) == {("applied", "")}

    with Client(served.home / SOCKET) as client:
        law = client.ask(verbs.LawShow())
        (edition,) = law["editions"]
        assert (law["signing"], edition["edition"]) == (rotated.new, 3)
        assert edition["keys"] == {"command": [{"id": rotated.new, "signs": True}]}

    rulings = _with_forged(kafka_bootstrap, served, topic, old)
    *before, forged = rulings
    assert (forged.outcome, forged.reason) == ("void", "forged")
    # Old records keep counting: refolding the log with three editions in it finds nothing else that is void.
    assert {ruling.outcome for ruling in before} == {"applied"}


def _signers(bootstrap: str, topic: str) -> set[str]:
    records = [raw for batch in read_until(bootstrap, topic, range(24)) for raw in batch]
    found = (signature(raw) for raw in records if not (raw.key or b"").startswith(b"law/"))
    return {claimed[0] for claimed in found if claimed is not None}


def _with_forged(bootstrap: str, settings: Settings, topic: str, old: SigningKey) -> list[Ruling]:
    """All rulings on the agents' records, the last one that of a record signed with the old key just now."""
    rulings: list[Ruling] = []

    def observe(record: object, ruling: Ruling) -> None:
        if str(getattr(record, "key", "")).startswith("agent/"):
            rulings.append(ruling)

    with CommandService(bootstrap, settings, topic=topic, observe=observe) as service:
        service.catch_up()
        agent = next(iter(service.agents.values()))
        data = AgentStatusSet(status="retired", command_no=agent.command_no + 1)
        wire = encode(NewRecord(agent.key, data, "acme", "op", "2026-11-22T00:00:00Z", str(uuid.uuid4())), old)
        with Appender(bootstrap, log_topics(topic), "thief") as appender:
            appender.append_blocking(topic, wire.key, wire.value, wire.headers)
        service.catch_up()
        assert agent.status != "retired"
    return rulings


def test_a_rotation_that_was_cut_short_is_finished_by_running_it_again(
    settings: Settings, kafka_bootstrap: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = load_keys(settings.home).command.id
    with CommandService(kafka_bootstrap, settings, topic=topic) as service:
        monkeypatch.setattr(Path, "replace", _power_cut)
        with pytest.raises(OSError, match="power cut"):
            rotate(settings.home, service, kafka_bootstrap)
        monkeypatch.undo()
        assert load_keys(settings.home).command.id == old
        made = rotate(settings.home, service, kafka_bootstrap)
        assert (made.old, made.partitions) == (old, 0)
        assert load_keys(settings.home).command.id == made.new
        assert {law.edition for law in service.laws.values()} == {2}
        with pytest.raises(KeyTrouble, match="signs commands now"):
            drop(settings.home, made.new, service, kafka_bootstrap)
        with pytest.raises(KeyTrouble, match="no partition lists"):
            drop(settings.home, "0123456789abcdef", service, kafka_bootstrap)


def _power_cut(self: Path, target: object) -> Path:
    raise OSError("power cut")


# --- visible ---------------------------------------------------------------------------------------------------------


def test_waiting_until_a_command_is_visible_ends_with_the_projectors_checkpoint(
    client: Client, settings: Settings, make_database: Callable[[], str], topic: str
) -> None:
    client.ask(enrol("ava"))
    answer = one(client.ask(status("agent.pause", "ava")))
    assert answer.position is not None
    said = wait.invisible([answer], settings, 0.2)
    assert said is not None
    assert "counted, but was not visible within 0.2 s: PostgreSQL does not tell" in said

    database = settings.model_copy(update={"postgres": make_database()})
    assert "UndefinedTable" not in (wait.invisible([answer], database, 0.2) or "")
    migrate(database.postgres or "")
    said = wait.invisible([answer], database, 0.2)
    assert "records behind it" in (said or "")
    partition, offset = answer.position
    with ThreadPoolExecutor(1) as pool, psycopg.connect(database.postgres or "", autocommit=True) as connection:
        waiting = pool.submit(wait.invisible, [answer], database, 30)
        connection.execute(
            "INSERT INTO core.checkpoints (model_set, topic, partition, next_offset, law) VALUES (%s, %s, %s, %s, 1)",
            (MODEL_SET, topic, partition, offset + 1),
        )
        assert waiting.result(30) is None
    assert wait.invisible([verbs.nothing_to_do(answer.key, 1)], database, 0.2) is None


def test_without_any_service_a_client_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoService, match="no command service answers"):
        Client(tmp_path / "none.sock")
