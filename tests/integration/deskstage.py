"""The review desk without a swarm: a command service on its socket, read models brought up when asked, cards put there by hand."""

from __future__ import annotations

import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from chimera.commands import wiring
from chimera.commands.keys import load_installation
from chimera.commands.server import serve
from chimera.commands.wiring import open_service
from chimera.eventlog.read import end_offsets
from chimera.events import records as rec
from chimera.events.envelope import Record
from chimera.events.state import Ruling
from chimera.projections.demo import address
from chimera.projections.engine import Projector, catch_up
from chimera.projections.schema import migrate
from chimera.settings import Settings
from tests.desk import people
from tests.integration.ownlog import installed, own_log
from tests.integration.stage import Stage

APPROVERS = {kind: ["kim", "lee"] for kind in ("publish", "paid", "financial")}
DISHES = ("Squash soup", "Fish stew", "Lentil broth", "Bean chowder", "Leek and potato")


class Desk:
    """A stage with a command service on its socket, read models that are brought up when asked, and the desk before them."""

    def __init__(self, stage: Stage, dsn: str, projector: Projector) -> None:
        self.stage, self.dsn, self.projector = stage, dsn, projector
        self._named = self._cooked = 0

    def agent(self, tasks: int = 1, **policy: Any) -> str:
        """An agent everything of whom is shown to people, with so many tasks; its stream key."""
        self._named += 1
        key = self.stage.enrol(f"a{self._named}", **{"shadow": True, "approvers": APPROVERS, "undo_ms": 30_000, **policy})
        self.stage.plan(key, tasks)
        return key

    def card(self, key: str, ordinal: int = 1, **effect: Any) -> str:
        """A card that waits; its address."""
        costs = effect.get("effect_class") == "paid"
        self._cooked += 1
        words = f"{DISHES[self._cooked % len(DISHES)]} is on at the harbour kitchen, pot number {self._cooked}. Bring a bowl."
        self.stage.approve(key, ordinal, words, becomes="proposed" if costs else "people", **effect)
        if costs:  # the CFO judge is asked besides
            (*_, (_, vote)) = self.said(key, rec.JudgeVerdict)
            self.stage.say(key, vote.model_copy(update={"judge": "cfo"}), "judge")
        return f"{self.stage.agent(key).name}/1.{ordinal}.1"

    def lose(self, key: str) -> None:
        """The approved call of the agent's first task is made, and nobody learns how it ended."""
        self.stage.service.catch_up()
        at = {"campaign": 1, "ordinal": 1, "attempt": 1, "claim": 1, "token": "t"}
        self.stage.say(key, rec.EffectClaimed(**at, effect_hash=self.stage.effect(key, 1).hash, lease_ms=1), "executor")
        self.stage.say(key, rec.EffectUnknown(**at, reason="timeout"), "executor")

    def projected(self) -> None:
        """The read models stand at the log's end."""
        self.stage.service.catch_up()
        catch_up(self.projector, end_offsets(str(self.stage.settings.kafka), self.stage.topic))

    def said(self, key: str, kind: type[rec.Data]) -> list[tuple[str, Any]]:
        """(actor, data) of the applied records of a type."""
        self.stage.service.catch_up()
        return [
            (record.actor, record.data)
            for record, ruling in self.stage.seen
            if record.key == key and ruling.outcome == "applied" and isinstance(record.data, kind)
        ]


@contextmanager
def open_desk(kafka_bootstrap: str, postgres_dsn: str) -> Iterator[Desk]:
    """All of it on a topic and a database of its own."""
    topic, database = own_log(kafka_bootstrap, "desk"), f"desk_{uuid.uuid4().hex[:12]}"
    home = Path(tempfile.mkdtemp(prefix="chimera-test-desk-"))
    with ExitStack() as over:
        over.callback(shutil.rmtree, home, ignore_errors=True)
        over.enter_context(pytest.MonkeyPatch.context()).setattr(wiring, "LOG_TOPIC", topic)
        with psycopg.connect(postgres_dsn, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{database}"'.encode())
        dsn = address(postgres_dsn, database)
        migrate(dsn)
        settings = installed(Settings(home=home, kafka=kafka_bootstrap, postgres=dsn), topic)
        stop, ready = threading.Event(), threading.Event()
        pool = over.enter_context(ThreadPoolExecutor(1))
        ended = pool.submit(serve, settings, stop, ready=ready)
        over.callback(stop.set)
        assert ready.wait(60), ended.exception(0)
        seen: list[tuple[Record, Ruling]] = []
        service = over.enter_context(open_service(settings, observe=lambda record, ruling: seen.append((record, ruling))))
        stage = over.enter_context(closing(Stage(home, settings, service, seen, topic)))
        projector = over.enter_context(closing(Projector(kafka_bootstrap, dsn, load_installation(home).root_public, topic=topic)))
        people(home, "acme", {"kim": ["moderator"], "lee": ["moderator"], "fin": ["finance"], "eye": ["viewer"]})
        yield Desk(stage, dsn, projector)
