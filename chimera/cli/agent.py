"""`chimera agent`: enrol a fleet, look at agents, pause, resume, retire, release them.

The rule not to break: enrolling again is harmless: who is enrolled is skipped, whatever cut the first run short.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from chimera.cli import output
from chimera.cli.output import ActorOption, DryRunOption, JsonOption, ReasonOption
from chimera.commands import agents, views
from chimera.commands.decision import Answer, Decision, Order
from chimera.commands.fleet import Fleet, Problem, load_fleet
from chimera.commands.keys import agent_key
from chimera.commands.service import CommandService
from chimera.commands.wiring import open_service
from chimera.events.records import Data, SoulAdopted
from chimera.settings import Settings

app = typer.Typer(help="Agents: enrol, look, pause, resume, retire, release.", no_args_is_help=True)

NamesArgument = Annotated[list[str], typer.Argument(metavar="NAME...", help="Agents by name or stream key.")]


@app.command()
def enrol(
    file: Annotated[Path, typer.Option("-f", "--file", help="fleet.yaml, or CSV with the columns name,soul,groups,policy,x.")],
    tenant: Annotated[str, typer.Option(help="Tenant, for CSV files, which name none.")] = "default",
    update: Annotated[bool, typer.Option("--update", help="Also bring enrolled agents to what the file says now.")] = False,
    dry_run: DryRunOption = False,
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Enrol the agents of a fleet with persona, policy, accounts and allowance. Repeating it appends only what is missing."""
    settings = Settings()
    fleet = load_fleet(file, tenant)
    if dry_run and not (settings.home / "installation.json").exists():
        _print_dry_run([(wanted, agents.enrol(wanted, "")(None)) for wanted in fleet.agents], fleet, as_json)
        return
    with open_service(settings, set_up=not dry_run) as service:
        installation = service.keys.installation.installation
        who = actor or settings.actor
        orders = [
            Order(
                key=(key := agent_key(installation, fleet.tenant, wanted.name)),
                tenant=fleet.tenant,
                actor=who,
                decide=agents.enrol(wanted, who, _adopted_soul(service, key) if update else None, update),
                id=str(uuid.uuid4()),
            )
            for wanted in fleet.agents
        ]
        if dry_run:
            would = [order.decide(service.agent(order.key)) for order in orders]
            _print_dry_run(list(zip(fleet.agents, would, strict=True)), fleet, as_json)
            return
        answers = _submit(service, orders, as_json)
    names = [wanted.name for wanted in fleet.agents]
    _finish_enrol(list(zip(names, answers, strict=True)), fleet.problems, as_json)


@app.command("list")
def list_(
    tenant: Annotated[str | None, typer.Option(help="Only agents of this tenant.")] = None,
    as_json: JsonOption = False,
) -> None:
    """All agents: status, accounts, open campaigns, tasks, cards waiting."""
    with open_service(Settings()) as service:
        rows = [views.agent_row(agent) for agent in service.agents.values() if tenant in (None, agent.tenant)]
    rows.sort(key=lambda row: (row["tenant"], row["name"]))
    if as_json:
        output.print_json({"agents": rows})
        return
    columns = ("name", "status", "accounts", "campaigns", "tasks", "cards", "version", "tenant")
    cells = [
        (
            row["name"],
            row["status"],
            ", ".join(f"{p}: @{a}" for p, a in row["accounts"].items()) or "-",
            ", ".join(row["campaigns"]) or "-",
            ", ".join(f"{n} {status}" for status, n in row["tasks"].items()) or "-",
            row["cards_waiting"] or "-",
            row["state_version"],
            row["tenant"],
        )
        for row in rows
    ]
    output.console().print(output.table(f"{len(rows)} agents", columns, cells))


@app.command()
def show(name: Annotated[str, typer.Argument(help="Agent by name or stream key.")], as_json: JsonOption = False) -> None:
    """Everything the state knows of one agent."""
    with open_service(Settings()) as service:
        detail = views.agent_detail(agents.find(service.agents.values(), name))
    if as_json:
        output.print_json(detail)
        return
    policy, allowance = detail["policy"], detail["allowance"]
    out = output.console()
    out.print(
        output.pairs(
            f"agent {detail['name']}",
            {
                "status": detail["status"] + (f" by the record {detail['quarantine']}" if detail["quarantine"] else ""),
                "tenant": detail["tenant"],
                "stream": detail["stream"],
                "state_version": detail["state_version"],
                "accounts": ", ".join(f"{p}: @{a}" for p, a in detail["accounts"].items()) or "-",
                "policy": f"edition {policy['edition']} by {policy['editor']}, record {policy['record']}"
                if policy
                else "none adopted",
                "approvers": ", ".join(f"{c}: {' '.join(w)}" for c, w in policy["approvers"].items()) if policy else "-",
                "allowance": f"{allowance['used_usd']} of {allowance['limit_usd']} USD per {allowance['window_s']} s"
                if allowance
                else "-",
                "persona": f"record {detail['soul']}" if detail["soul"] else "none adopted",
            },
        )
    )
    for campaign in detail["open_campaigns"]:
        columns = ("task", "kind", "status", "attempt", "failures", "effect", "waits because")
        cells = [
            (
                f"{campaign['number']}.{t['ordinal']}",
                t["kind"],
                t["status"],
                t["attempt"],
                t["failures"],
                t["effect"] or "-",
                t["waits_because"] or "-",
            )
            for t in campaign["tasks"]
        ]
        title = (
            f"campaign {campaign['campaign_id']} ({campaign['status']}): {campaign['done']} done, {len(campaign['closed'])} closed"
        )
        out.print(output.table(title, columns, cells))


@app.command()
def pause(names: NamesArgument, reason: ReasonOption = "", actor: ActorOption = None, as_json: JsonOption = False) -> None:
    """Hold an agent's work at once. Nothing is lost; its cards do not age meanwhile."""
    _command(names, agents.pause(reason), "agent pause", actor, as_json)


@app.command()
def resume(names: NamesArgument, reason: ReasonOption = "", actor: ActorOption = None, as_json: JsonOption = False) -> None:
    """Let a paused agent go on."""
    _command(names, agents.resume(reason), "agent resume", actor, as_json)


@app.command()
def retire(names: NamesArgument, reason: ReasonOption = "", actor: ActorOption = None, as_json: JsonOption = False) -> None:
    """End an agent for good; what is open closes, what is claimed runs to its end."""
    _command(names, agents.retire(reason), "agent retire", actor, as_json)


@app.command()
def release(names: NamesArgument, reason: ReasonOption = "", actor: ActorOption = None, as_json: JsonOption = False) -> None:
    """End an agent's quarantine after its broken record was looked at (`chimera agent show NAME` names it)."""
    _command(names, agents.release(reason), "agent release", actor, as_json)


def _command(names: list[str], decide: Decision, what: str, actor: str | None, as_json: bool) -> None:
    settings = Settings()
    with open_service(settings) as service:
        found = list({agent.key: agent for agent in (agents.find(service.agents.values(), name) for name in names)}.values())
        orders = [Order(agent.key, agent.tenant, actor or settings.actor, decide, str(uuid.uuid4())) for agent in found]
        answers = service.submit_many(orders)
    output.finish([(agent.name, answer) for agent, answer in zip(found, answers, strict=True)], as_json, what)


def _adopted_soul(service: CommandService, key: str) -> str | None:
    agent = service.agent(key)
    if agent is None or agent.soul is None:
        return None
    data = service.read_data(agent.soul)
    return data.digest if isinstance(data, SoulAdopted) else None


def _submit(service: CommandService, orders: list[Order], as_json: bool) -> list[Answer]:
    if as_json:
        return service.submit_many(orders)
    columns = (TextColumn("enrolling"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=output.console(stderr=True), transient=True) as progress:
        task = progress.add_task("enrol", total=len(orders))
        return service.submit_many(orders, lambda done: progress.update(task, completed=done))


def _print_dry_run(would: Sequence[tuple[agents.Enrolment, Sequence[Data]]], fleet: Fleet, as_json: bool) -> None:
    plan = [
        {"agent": wanted.name, "place": wanted.place, "would_append": [data.TYPE for data in records]} for wanted, records in would
    ]
    if as_json:
        output.print_json({"tenant": fleet.tenant, "plan": plan, "problems": [problem._asdict() for problem in fleet.problems]})
    else:
        cells = [(str(row["agent"]), ", ".join(row["would_append"]) or "nothing: enrolled already", row["place"]) for row in plan]
        output.console().print(output.table(f"dry run for tenant {fleet.tenant}", ("agent", "would append", "from"), cells))
        _print_problems(fleet.problems)
    if fleet.problems:
        raise typer.Exit(output.NOT_COUNTED)


def _finish_enrol(answers: list[tuple[str, Answer]], problems: tuple[Problem, ...], as_json: bool) -> None:
    if as_json:
        rows = [output.answer_json(answer, agent=name) for name, answer in answers]
        rows += [{"agent": p.name, "outcome": "refused", "reason": p.message, "changed": False} for p in problems]
        output.print_json({"command": "agent enrol", "answers": rows})
    else:
        # A thousand lines of success hide the one that failed.
        shown = answers if len(answers) <= 50 else [(n, a) for n, a in answers if a.outcome != "applied"]
        if shown:
            output.print_answers(shown, "agent enrol")
        if len(shown) != len(answers):
            output.console().print(output.summary(answers))
        _print_problems(problems)
    code = output.exit_code([answer.outcome for _, answer in answers] + ["refused" for _ in problems])
    if code:
        raise typer.Exit(code)


def _print_problems(problems: tuple[Problem, ...]) -> None:
    if problems:
        cells = [(problem.name or "-", problem.message) for problem in problems]
        output.console(stderr=True).print(output.table(f"{len(problems)} not enrolled", ("agent", "why"), cells))
