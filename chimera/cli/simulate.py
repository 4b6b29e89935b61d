"""`chimera simulate`: a generated fleet with a live campaign each on the running stack, and what that costs.

The rule not to break: it works on the sandbox alone; with a real platform's address in the settings it refuses.
"""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import psycopg
import typer
import yaml
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from chimera.cli import output
from chimera.cli.options import JsonOption
from chimera.cli.quiet import is_quiet, statuses
from chimera.commands import agents as agent_commands
from chimera.commands import campaigns, views
from chimera.commands.decision import Decision, Order
from chimera.commands.feeds import keep_feeds
from chimera.commands.fleet import load_fleet
from chimera.commands.keys import agent_key
from chimera.commands.service import CommandService
from chimera.commands.wiring import open_service
from chimera.errors import ChimeraError
from chimera.events.state import Agent
from chimera.policy.brief import load_brief
from chimera.projections import read
from chimera.settings import Settings
from chimera.stack.addresses import Addresses
from chimera.stack.addresses import load as load_addresses

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TENANT = "simulation"
ACTOR = "simulation"
QUIET_LOOKS = 3


class NotSimulated(ChimeraError):
    """The simulation cannot begin, or did not come to its end."""


class _Peaks:
    """The worst that was seen of each process."""

    def __init__(self) -> None:
        self.lag: dict[str, int] = {}
        self.lag_s: dict[str, float] = {}
        self.rss_mb: dict[str, float] = {}

    def saw(self, told: Iterable[dict[str, Any]]) -> None:
        for status in told:
            name = f"{status['role_set']} {status['pid']}"
            lag = status.get("lag", {})
            self.lag[name] = max(self.lag.get(name, 0), int(lag.get("records", 0)))
            self.lag_s[name] = max(self.lag_s.get(name, 0.0), float(lag.get("seconds", 0.0)))
            self.rss_mb[name] = max(self.rss_mb.get(name, 0.0), float(status.get("rss_mb", 0.0)))


class _Done(NamedTuple):
    keys: list[str]
    campaign: str
    began: float
    records_before: int
    settled_s: float
    quiet_s: float


def command(
    agents: Annotated[int, typer.Option("--agents", min=1, max=20_000, help="How many agents to enrol.")] = 1000,
    formats: Annotated[int, typer.Option("--formats", min=1, max=20, help="Posts that each campaign asks for.")] = 1,
    patience_s: Annotated[float, typer.Option("--timeout", help="Seconds after which to give up.")] = 3600.0,
    as_json: JsonOption = False,
) -> None:
    """Enrol a generated fleet, start a campaign for each agent, wait until the swarm is quiet, and tell what it took.

    Data stay: run it in a home of its own. Example: chimera --home /tmp/sim simulate --agents 1000
    """
    settings = Settings()
    if settings.x_url is not None:
        raise NotSimulated("simulate posts hundreds of texts, and CHIMERA_X_URL names a platform that is not the sandbox: unset it")
    addresses = load_addresses(settings)
    story, peaks = views.Story(), _Peaks()
    with open_service(settings, observe=story) as service, _progress(as_json) as bar:
        done = _simulate(service, story, settings, addresses, peaks, bar, agents, formats, patience_s)
        found = _report(service, story, peaks, done)
    if as_json:
        output.print_json(found)
    else:
        output.console().print(output.pairs(f"{agents} agents, {formats} posts each", _said(found)))
        columns = ("process", "greatest lag", "longest lag", "memory")
        rows = [
            (p["process"], f"{p['lag_records']} records", f"{p['lag_s']:.1f} s", f"{p['rss_mb']:.0f} MB")
            for p in found["processes"]
        ]
        output.console().print(output.table("processes", columns, rows))


def _progress(silent: bool) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    return Progress(*columns, console=output.console(stderr=True), disable=silent)


def _simulate(
    service: CommandService,
    story: views.Story,
    settings: Settings,
    addresses: Addresses,
    peaks: _Peaks,
    bar: Progress,
    count: int,
    formats: int,
    patience_s: float,
) -> _Done:
    run = uuid.uuid4().hex[:6]
    enrolling = bar.add_task("enrol", total=count, note="")
    with tempfile.TemporaryDirectory(prefix="chimera-simulate-") as place:
        wanted = load_fleet(_fleet(Path(place), run, count))
    if wanted.problems:
        raise NotSimulated(f"the generated fleet cannot be read: {wanted.problems[0].message}")
    keys = [agent_key(service.keys.installation.installation, TENANT, each.name) for each in wanted.agents]
    _give(service, keys, [agent_commands.enrol(each, ACTOR) for each in wanted.agents], bar, enrolling)
    before = story.records
    starting = bar.add_task("start campaigns", total=count, note="")
    name, brief = _brief(settings, run, formats)
    began = time.monotonic()
    _give(service, keys, [campaigns.start(name, brief)] * count, bar, starting)
    working = bar.add_task("work", total=count, note="")
    quiet_looks, settled_s, mine = 0, 0.0, set(keys)
    while quiet_looks < QUIET_LOOKS:
        service.follow(0.5)
        told = statuses(settings.home)
        peaks.saw(told)
        open_agents = sum(not _settled(service.agent(key)) for key in keys)
        if not open_agents and not settled_s:
            settled_s = time.monotonic() - began
        lag = max((int(status.get("lag", {}).get("records", 0)) for status in told), default=0)
        posts = sum(row.effects.get(n) == "executed" for row in story.campaigns.values() if row.agent in mine for n in row.effects)
        bar.update(working, completed=count - open_agents, note=f"{posts} posts, lag {lag}")
        quiet_looks = quiet_looks + 1 if not open_agents and _is_quiet(settings, addresses) else 0
        if time.monotonic() - began > patience_s:
            raise NotSimulated(
                f"{open_agents} of {count} agents still work after {patience_s:g} s: see `chimera doctor`, `chimera top`"
            )
    return _Done(keys, name, began, before, settled_s, time.monotonic() - began)


def _fleet(place: Path, run: str, count: int) -> Path:
    """A fleet file: the example's personas in turn, each under a name and an account of its own."""
    souls = sorted((EXAMPLES / "souls").glob("*.md"))
    rows = []
    for n in range(count):
        soul, name = souls[n % len(souls)], f"sim-{run}-{n}"
        text = soul.read_text().replace(f"name: {soul.stem}\n", f"name: {name}\n", 1)
        (place / f"{name}.md").write_text(text)
        rows.append({"name": name, "soul": f"{name}.md", "accounts": {"x": f"s{run}_{n}"}})
    policy = (EXAMPLES / "AGENTS.md").read_text().replace("boardkit: 1\n", "boardkit: 1\ndistinct_across_tenant: false\n", 1)
    (place / "AGENTS.md").write_text(policy)  # one short feed holds too little for a thousand agents to say different things
    file = place / "fleet.yaml"
    file.write_text(yaml.safe_dump({"tenant": TENANT, "policy": "AGENTS.md", "agents": rows}))
    return file


def _brief(settings: Settings, run: str, formats: int) -> tuple[str, dict[str, Any]]:
    """The example's brief under a name of its own, with so many posts from its first feed."""
    brief = load_brief(EXAMPLES / "briefs" / "autumn.yaml")
    body = keep_feeds(brief.model_copy(update={"feeds": brief.feeds[:1]}), settings.home).model_dump(mode="json")
    forms = [{"platform": "x", "format": f"form{n}", "max_chars": 280} for n in range(formats)]
    return f"simulation {run}", body | {"formats": forms, "name": f"simulation {run}"}


def _give(service: CommandService, keys: Sequence[str], decisions: Sequence[Decision], bar: Progress, task: Any) -> None:
    orders = [Order(key, TENANT, ACTOR, decide, str(uuid.uuid4())) for key, decide in zip(keys, decisions, strict=True)]
    answers = service.submit_many(orders, lambda done: bar.update(task, completed=done))
    wrong = [answer for answer in answers if answer.outcome != "applied"]
    if wrong:
        raise NotSimulated(f"{len(wrong)} commands did not count, the first: {wrong[0].outcome} ({wrong[0].reason})")


def _settled(agent: Agent | None) -> bool:
    """All is planned, and every task that is not over waits for people."""
    return agent is not None and all(
        campaign.planned_edition == campaign.brief_edition
        and all(task.effect is not None and task.effect.status == "people" for task in campaign.tasks.values())
        for campaign in agent.campaigns.values()
    )


def _is_quiet(settings: Settings, addresses: Addresses) -> bool:
    try:
        lag = read.lag(addresses.postgres, addresses.kafka)
    except psycopg.Error:
        return False  # the projector makes its tables, or Postgres is away: not quiet yet
    return is_quiet(addresses.kafka, settings.home, lag).is_quiet


def _report(service: CommandService, story: views.Story, peaks: _Peaks, done: _Done) -> dict[str, Any]:
    mine = set(done.keys)
    rows = [row for row in story.campaigns.values() if row.agent in mine]
    tasks: dict[str, int] = {}
    for row in rows:
        for status in row.tasks.values():
            tasks[status] = tasks.get(status, 0) + 1
    records = story.records - done.records_before
    cards = sum(
        task.effect is not None and task.effect.status == "people"
        for key in done.keys
        if (agent := service.agent(key)) is not None
        for campaign in agent.campaigns.values()
        for task in campaign.tasks.values()
    )
    return {
        "agents": len(done.keys),
        "campaign": done.campaign,
        "settled_s": round(done.settled_s, 1),
        "quiet_s": round(done.quiet_s, 1),
        "records": records,
        "records_per_s": round(records / done.settled_s, 1),
        "tasks": tasks,
        "tasks_per_s": round(sum(tasks.values()) / done.settled_s, 1),
        "posts": sum(status == "executed" for row in rows for status in row.effects.values()),
        "cards": cards,
        "rulings": dict(story.rulings),
        "processes": [
            {"process": name, "lag_records": peaks.lag[name], "lag_s": peaks.lag_s[name], "rss_mb": peaks.rss_mb[name]}
            for name in sorted(peaks.lag)
        ],
    }


def _said(found: dict[str, Any]) -> dict[str, object]:
    counted = ", ".join(f"{n} {word}" for word, n in found["tasks"].items())
    return {
        "settled after": f"{found['settled_s']} s",
        "quiet after": f"{found['quiet_s']} s (every record folded and projected)",
        "tasks": f"{counted}; {found['tasks_per_s']}/s",
        "records": f"{found['records']}, {found['records_per_s']}/s",
        "posts": found["posts"],
        "cards": f"{found['cards']} wait for people",
        "rulings of this log": ", ".join(f"{n} {word}" for word, n in found["rulings"].items()),
    }
