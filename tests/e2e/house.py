"""A whole local stack in a home of its own, and the eyes and hands that tests of the whole path need.

The rule not to break: nothing here waits for time to pass. `until` follows the log and looks at a condition, with a deadline,
and what it says when the deadline is over is enough to see what hangs.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import psycopg
import yaml
from typer.testing import CliRunner

from chimera.cli.main import build
from chimera.cli.stack import start as start_stack
from chimera.commands import cards, reviews, views
from chimera.commands.cards import Card
from chimera.commands.decision import Answer, Refused
from chimera.commands.service import CommandService
from chimera.commands.wiring import open_service
from chimera.errors import ChimeraError
from chimera.eventlog.read import end_offsets
from chimera.events.envelope import Record
from chimera.events.principals import is_machine
from chimera.events.state import Agent, Ruling
from chimera.mcp.sandbox.faults import FaultBook, Wish
from chimera.mcp.sandbox.timeline import Timeline
from chimera.projections.engine import LOG, MODEL_SET, checkpoints
from chimera.projections.history import ReadModels
from chimera.settings import Settings
from chimera.stack.addresses import Addresses
from chimera.stack.addresses import load as load_addresses
from chimera.stack.local import LocalStack, end_of_log
from chimera.stack.supervisor import Child, Phase

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SOULS = ("ava", "bruno", "cleo", "dov", "edda", "femi")


class Seen(NamedTuple):
    """One record as ruled."""

    record: Record
    ruling: Ruling


class Typed(NamedTuple):
    """What a command ended with."""

    code: int
    out: str


class House:
    """The running stack, an observer that folds the log, and the sandbox platform's own books."""

    def __init__(self, home: Path, stack: LocalStack, addresses: Addresses, service: CommandService, story: views.Story) -> None:
        self.home, self.stack, self.addresses = home, stack, addresses
        self.service, self.story = service, story
        self.seen: list[Seen] = []
        self._others: dict[str, subprocess.Popen[bytes]] = {}
        self.acked: list[tuple[int, int, str]] = []
        """(partition, offset, record id) of every command that was acknowledged to a test."""

    # --- what happened -----------------------------------------------------------------------------------------------

    def observe(self, record: Record, ruling: Ruling) -> None:
        """Called by the service with every record that it folds."""
        self.story(record, ruling)
        self.seen.append(Seen(record, ruling))

    def until(self, condition: Callable[[], object], what: str, deadline_s: float = 90.0, *, broker: bool = True) -> None:
        """Follow the log until the condition holds; fails with a picture of the house when it does not in time.

        `broker` False: it may be away then.
        """
        deadline = time.monotonic() + deadline_s
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {deadline_s:g} s: {what}\n{self.picture()}")
            self.service.follow(0.1)
        if broker:
            self.service.catch_up()  # what was seen outside the log is in it by now

    def picture(self) -> str:
        """Enough to see what hangs."""
        look = views.fleet_status(self.service.agents.values(), self.story)
        states = [f"{s.name}: {s.phase} restarts={s.restarts} {s.last_exit or ''}" for s in self.stack.states()]
        for name, process in self._others.items():
            states.append(f"{name}: exit {process.poll()} {' | '.join(end_of_log(self.home, name, 8))}")
        running = [path.read_text() for path in (self.home / "run").glob("*.json")]
        waiting = [
            f"{a.name}/{c.number}.{t.ordinal}.{t.attempt} {t.kind} {t.status} {t.wait_reason} "
            f"{t.effect and (t.effect.status, t.effect.claim, t.effect.wait_reason)}"
            for a in self.service.agents.values()
            for c in a.campaigns.values()
            for t in c.tasks.values()
        ]
        return "\n".join([str(look), *states, *running, *waiting[:30]])

    def agent(self, name: str) -> Agent:
        """The folded state of an agent."""
        return next(agent for agent in self.service.agents.values() if agent.name == name)

    def agents(self, names: Sequence[str]) -> list[Agent]:
        """Those of these names that are enrolled."""
        return [agent for agent in self.service.agents.values() if agent.name in names]

    def records(self, type_: str, names: Sequence[str] | None = None, outcome: str = "applied") -> list[Seen]:
        """Records of a type with a ruling, of some agents or of all."""
        keys = None if names is None else {agent.key for agent in self.agents(names)}
        return [
            seen
            for seen in self.seen
            if seen.record.type == type_ and seen.ruling.outcome == outcome and (keys is None or seen.record.key in keys)
        ]

    def by_people(self) -> list[Seen]:
        """What people appended by their commands. The swarm may append at any time: it looks at what was posted, and listens."""
        return [seen for seen in self.seen if not is_machine(seen.record.actor)]

    def campaigns(self, names: Sequence[str]) -> list[views.CampaignRow]:
        """All campaigns of these agents, open and closed."""
        keys = {agent.key for agent in self.agents(names)}
        return [row for row in self.story.campaigns.values() if row.agent in keys]

    def cards(self, names: Sequence[str], statuses: Sequence[str] = ("people",)) -> list[Card]:
        """Effects of these agents in one of these statuses."""
        return cards.cards_of(self.agents(names), statuses)

    def resting(self, names: Sequence[str]) -> bool:
        """All is planned, and every task that is not over waits for people: no role owes these agents anything now."""
        open_campaigns = [campaign for agent in self.agents(names) for campaign in agent.campaigns.values()]
        return len(self.campaigns(names)) >= len(names) and all(
            campaign.planned_edition == campaign.brief_edition
            and campaign.tasks
            and all(t.effect is not None and t.effect.status == "people" and not t.stale for t in campaign.tasks.values())
            for campaign in open_campaigns
        )

    # --- hands -------------------------------------------------------------------------------------------------------

    def run(self, *words: object) -> Typed:
        """A command as a person types it, in this process."""
        argv = [str(word) for word in words]
        # Wide enough that no sentence is broken, however wide the terminal of the tests is.
        result = CliRunner().invoke(build(argv), argv, env={"CHIMERA_HOME": str(self.home), "COLUMNS": "200"})
        if isinstance(result.exception, ChimeraError):
            return Typed(1, f"error: {result.exception}")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Typed(result.exit_code, result.output)

    def shell(self, *words: object) -> Typed:
        """The same as a process of its own; output is standard output and standard error together."""
        argv = [sys.executable, "-m", "chimera.cli.main", *(str(word) for word in words)]
        env = {**os.environ, **self.stack.environment(), "COLUMNS": "200"}
        ended = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
        return Typed(ended.returncode, ended.stdout + ended.stderr)

    def done(self, *words: object) -> Any:
        """A command that has to succeed, with --json; its answer."""
        argv = [str(word) for word in (*words, "--json")]
        typed = self.run(*argv)
        assert typed.code == 0, f"chimera {' '.join(argv)}: exit code {typed.code}: {typed.out}"
        said = orjson.loads(typed.out)
        for row in said.get("answers", []) if isinstance(said, dict) else []:
            if row["position"] is not None:
                self.acked.append((row["position"]["partition"], row["position"]["offset"], row["command_id"]))
        return said

    def decide(self, card: Card, decision: str = "approve", actor: str = "kim", text: str = "") -> Answer:
        """A reviewer's decision on a card as it is now, through the command service."""
        sight = cards.sight(card, self.service.read_data(card.effect.ref), [])
        at = card.address
        made = {
            "approve": lambda: reviews.approve(at, actor, sight),
            "reject": lambda: reviews.reject(at, "other", sight),
            "edit": lambda: reviews.edit(at, actor, sight, text, uuid.uuid4().hex),
        }[decision]()
        answer = self.service.submit(made, key=card.agent.key, tenant=card.agent.tenant, actor=actor)
        if answer.position is not None:
            self.acked.append((*answer.position, answer.command_id))
        return answer

    def approve_all(self, names: Sequence[str]) -> None:
        """Approve every card that waits now. A card that was planned anew in this very moment is no card any more."""
        for card in self.cards(names):
            try:
                self.decide(card)
            except Refused:
                continue

    def until_completed(self, names: Sequence[str], deadline_s: float = 150.0) -> None:
        """Approve cards as they come until every campaign of these agents has ended."""

        def over() -> bool:
            self.approve_all(names)
            rows = self.campaigns(names)
            return bool(rows) and all(row.status in ("completed", "closed") for row in rows)

        self.until(over, f"the campaigns of {', '.join(names)} complete", deadline_s)

    # --- processes ---------------------------------------------------------------------------------------------------

    def pid(self, name: str) -> int | None:
        """Process id of a child of the stack, while it runs."""
        return next(state.pid for state in self.stack.states() if state.name == name)

    def restarts(self, name: str) -> int:
        """How often the supervisor has started it again."""
        return next(state.restarts for state in self.stack.states() if state.name == name)

    def failures(self, name: str) -> int:
        """How often in a row the supervisor has found it fallen, or could not start it."""
        return next(state.failures for state in self.stack.states() if state.name == name)

    def until_again(self, name: str, restarts: int, deadline_s: float = 120.0) -> None:
        """A child was started more often than `restarts` times, and is ready."""

        def ready() -> bool:
            return any(s.name == name and s.restarts > restarts and s.phase is Phase.READY for s in self.stack.states())

        self.until(ready, f"{name} is there again", deadline_s)

    def kill(self, name: str) -> None:
        """SIGKILL to one child."""
        pid = self.pid(name)
        assert pid is not None, f"{name} does not run"
        os.kill(pid, signal.SIGKILL)

    @contextmanager
    def asleep(self, *roles: str) -> Iterator[None]:
        """These processes stand still meanwhile, so that none of them appends anything; awake and well again afterwards."""
        pids = [state.pid for state in self.stack.states() if state.name in roles and state.pid is not None]
        assert len(pids) == len(roles), f"not all of {', '.join(roles)} run"
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
            self.until_well(150)

    def serving(self, role_set: str) -> list[dict[str, Any]]:
        """Status files of living processes of a role set that serve partitions."""
        found = []
        for path in (self.home / "run").glob(f"{role_set}.*.json"):
            status = json.loads(path.read_text())
            if status.get("partitions", status.get("offsets")) and Path(f"/proc/{status['pid']}").exists():
                found.append(status)
        return found

    def status(self, pid: int) -> dict[str, Any] | None:
        """The status file of one living process that serves partitions."""
        found = [status for role_set in ("brain", "gate", "notary") for status in self.serving(role_set) if status["pid"] == pid]
        return found[0] if found else None

    @contextmanager
    def another(self, role_set: str, group: str | None = None, instance: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """A further process of a role set: a member of the same consumer group, or, under a group of its own, a rival for good.

        `instance` gives it a seat. Its output is in `logs/`, under the name of its group or seat.
        """
        named = [*(["--group", group] if group else []), *(["--instance", instance] if instance else [])]
        argv = [sys.executable, "-m", "chimera.cli.main", "run", role_set, *named]
        name = group or instance or f"{role_set}-2"
        log = (self.home / "logs" / f"{name}.log").open("wb")
        process = subprocess.Popen(
            argv, env={**os.environ, **self.stack.environment()}, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
        self._others[name] = process
        try:
            self.until(lambda: self.status(process.pid), f"one more {role_set} serves partitions", 120)
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
            del self._others[name]
            log.close()

    def seat(self, role: str, name: str) -> None:
        """A further process of a role set, on a seat of its own, kept running by the stack like the first."""
        first = next(child for child in self.stack.role_children() if child.name == role)
        self.stack.add_children([replace(first, name=name, argv=[*first.argv[:-1], name])])
        self.until(lambda: len(self.serving(role)) > 1, f"{name} serves partitions", 180)

    def diagnosis(self) -> dict[str, Any]:
        """What `chimera doctor` says; its exit code is as its page promises."""
        typed = self.run("doctor", "--json")
        found: dict[str, Any] = orjson.loads(typed.out)
        assert typed.code == (0 if found["fine"] else 1), typed
        return found

    def until_well(self, deadline_s: float = 90.0) -> None:
        """The doctor finds nothing wrong: every process lives, tells of itself and gets on."""
        self.until(lambda: self.diagnosis()["fine"], "the doctor finds nothing wrong", deadline_s)

    # --- the platform's books ----------------------------------------------------------------------------------------

    def platform(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of the X sandbox's own file."""
        path = self.home / "mcp" / "x" / "timeline.sqlite3"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as db:
            return db.execute(query, values).fetchall()

    def posts(self, accounts: Sequence[str]) -> list[tuple[str, str]]:
        """(account, text) on the timeline, oldest first."""
        marks = ",".join("?" * len(accounts))
        return self.platform(f"SELECT account, text FROM posts WHERE account IN ({marks}) ORDER BY id", *accounts)

    def calls(self, accounts: Sequence[str]) -> Counter[str]:
        """How often the platform was called with each idempotency key for these accounts."""
        marks = ",".join("?" * len(accounts))
        rows = self.platform(f"SELECT key FROM calls WHERE tool = 'createPosts' AND account IN ({marks})", *accounts)
        return Counter(str(key) for (key,) in rows)

    def ask_fault(self, kind: str, calls: int = 1) -> None:
        """The next `calls` posts go wrong in this way."""
        with closing(FaultBook(self.home / "mcp" / "x")) as book:
            book.ask(Wish(kind, "createPosts", calls))

    def says(self, person: str, text: str, reply_to: int | None = None) -> int:
        """Somebody outside posts on the platform; the post's id."""
        timeline = Timeline(self.home / "mcp" / "x")
        try:
            answer, _ = timeline.once(person, None, "createPosts", {}, lambda: {"id": timeline.post(person, text, reply_to, {}).id})
        finally:
            timeline.close()
        return int(answer["id"])

    def writes(self, person: str, account: str, text: str) -> None:
        """Somebody outside writes to an account in private."""
        timeline = Timeline(self.home / "mcp" / "x")
        try:
            whose = timeline.know(account)
            timeline.once(person, None, "dm", {}, lambda: {"id": timeline.message(person, whose, text).id})
        finally:
            timeline.close()

    def faults_left(self) -> int:
        """Faults that were asked for and have not bitten yet."""
        with closing(FaultBook(self.home / "mcp" / "x")) as book:
            return sum(wish.calls for wish in book.left())

    # --- read models -------------------------------------------------------------------------------------------------

    def sql(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of a read model."""
        with psycopg.connect(self.addresses.postgres) as connection:
            return connection.execute(query, values).fetchall()

    def until_projected(self, deadline_s: float = 60.0) -> None:
        """The read models stand at the end of the log."""
        ends = {p: end for p, end in end_offsets(self.addresses.kafka, LOG).items() if end}

        def there() -> bool:
            with psycopg.connect(self.addresses.postgres) as connection:
                at = checkpoints(connection, "core", MODEL_SET, LOG)
            return all(at.get(p, 0) >= end for p, end in ends.items())

        self.until(there, "the projector is at the end of the log", deadline_s)

    def posts_of_models(self, name: str) -> list[dict[str, Any]]:
        """What an agent published as the read models list it, which answer where a service does not know all of the past."""
        past = ReadModels(self.addresses.postgres, LOG)
        try:
            assert past.missing({}) == 0
            return past.posts(self.agent(name).key, None, 500, False)
        finally:
            past.close()

    def equals_refold(self) -> None:
        """`chimera replay verify` finds no difference."""
        self.until_projected()
        typed = self.run("replay", "verify", "--json")
        assert typed.code == 0, typed.out
        assert orjson.loads(typed.out)["equal"]

    # --- fleets and briefs -------------------------------------------------------------------------------------------

    def enrol(self, prefix: str, agents: int, *, tenant: str = "acme", **policy: Any) -> list[str]:
        """Fresh agents `<prefix>0 ..` with the example's personas and accounts `<name>_x`; returns their names."""
        names = [f"{prefix}{n}" for n in range(agents)]
        where = self.home / "files" / prefix
        (where / "souls").mkdir(parents=True)
        rows = []
        for n, name in enumerate(names):
            soul = SOULS[n % len(SOULS)]
            text = (EXAMPLES / "souls" / f"{soul}.md").read_text().replace(f"name: {soul}\n", f"name: {name}\n", 1)
            (where / "souls" / f"{name}.md").write_text(text)
            rows.append({"name": name, "soul": f"souls/{name}.md", "accounts": {"x": f"{name}_x"}})
        front, prose = (EXAMPLES / "AGENTS.md").read_text().split("---\n")[1:3]
        # A few short feeds hold too little for a large fleet to say different things.
        rules = {**yaml.safe_load(front), "distinct_across_tenant": False, **policy}
        (where / "AGENTS.md").write_text(f"---\n{yaml.safe_dump(rules)}---\n{prose}")
        (where / "fleet.yaml").write_text(
            yaml.safe_dump(
                {"tenant": tenant, "policy": "AGENTS.md", "allowance": {"limit_usd": "1.00", "window_s": 86400}, "agents": rows}
            )
        )
        self.done("agent", "enrol", "-f", where / "fleet.yaml")
        self.service.catch_up()
        return names

    def brief(self, name: str, formats: int = 3, **fields: Any) -> Path:
        """A brief file like the example's with so many formats per agent."""
        body = yaml.safe_load((EXAMPLES / "briefs" / "autumn.yaml").read_text())
        forms = [{"platform": "x", "format": f"form{n}", "max_chars": 280 - 10 * (n % 5)} for n in range(formats)]
        feeds = [str((EXAMPLES / "briefs" / feed).resolve()) for feed in body["feeds"]]
        body = {**body, "name": name, "formats": forms, "feeds": feeds, **fields}
        path = self.home / "files" / f"{name.replace(' ', '-')}-{uuid.uuid4().hex[:6]}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(body))
        return path

    def start(self, brief: Path, names: Sequence[str]) -> str:
        """Start a campaign for these agents; its id."""
        answers = self.done("campaign", "start", "-f", brief, "--agents", ",".join(names), "--as", "dora")
        self.service.catch_up()
        return str(answers["command"].removeprefix("campaign start "))


def accounts(names: Sequence[str]) -> list[str]:
    """The X accounts of agents enrolled by `House.enrol`."""
    return [f"{name}_x" for name in names]


@contextmanager
def open_house(
    kind: str,
    role: Callable[[Child], Child] = lambda child: child,
    *,
    servers: Addresses | None = None,
    eyes: Addresses | None = None,
    furnish: Callable[[Path, ExitStack], None] = lambda _home, _closing: None,
    durable: bool = False,
    **told: Any,
) -> Iterator[House]:
    """Start a stack in a new short home (the database's user must be able to enter it) and leave nothing behind.

    `role` may change the row of each role process before it is started. `servers`: Kafka and Postgres elsewhere, for the stack;
    `eyes`: where the house itself looks at them. `furnish` is told the home before it is made; `told` are further settings.
    """
    home = Path(tempfile.mkdtemp(prefix=f"chimera-test-{kind}-"))
    with ExitStack() as closing_:
        if os.environ.get("CHIMERA_TEST_KEEP") != "1":  # keeps homes to be looked at: logs say why something ended
            closing_.callback(shutil.rmtree, home, ignore_errors=True)
        furnish(home, closing_)
        kafka, postgres = (servers.kafka, servers.postgres) if servers is not None else (None, None)
        nowhere = {"x_url": None, "feeds_url": None, "writer_url": None, "llm_url": None, "sandbox_pace": 0.0}
        settings = Settings(home=home, kafka=kafka, postgres=postgres, **{**nowhere, **told})
        stack = closing_.enter_context(LocalStack(settings, durable=durable))
        start_stack(stack, lambda _: None, servers_only=True)
        stack.add_children([role(child) for child in stack.role_children()])
        stack.announce_ready()
        addresses = eyes or load_addresses(settings)
        settings = settings.model_copy(update={"kafka": addresses.kafka, "postgres": addresses.postgres})
        story = views.Story()
        house: House | None = None

        def observe(record: Record, ruling: Ruling) -> None:
            if house is None:
                early.append(Seen(record, ruling))
            else:
                house.observe(record, ruling)

        early: list[Seen] = []
        service = closing_.enter_context(open_service(settings, observe=observe))
        house = House(home, stack, addresses, service, story)
        for seen in early:
            house.observe(*seen)
        house.until(lambda: house.serving("brain") and house.serving("gate"), "brain and gate serve", 180)
        yield house
