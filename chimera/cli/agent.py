"""`chimera agent`: enrol a fleet, look at agents, pause, resume, retire, release them.

The rule not to break: enrolling again is harmless: who is enrolled is skipped, whatever cut the first run short.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from chimera.cli import output
from chimera.cli.folding import open_desk
from chimera.cli.options import ActorOption, DryRunOption, JsonOption, NamesArgument, ReasonOption, WaitOption, YesOption
from chimera.cli.wait import invisible
from chimera.commands import verbs
from chimera.commands.decision import Answer
from chimera.commands.telling import shadow
from chimera.commands.wiring import OpenDesk
from chimera.settings import Settings

if TYPE_CHECKING:
    from chimera.commands.fleet import Fleet, Problem

app = typer.Typer(help="Agents: enrol, look, pause, resume, retire, release.", no_args_is_help=True)


@app.command()
def enrol(
    file: Annotated[Path, typer.Option("-f", "--file", help="fleet.yaml, or CSV with the columns name,soul,groups,policy,x.")],
    tenant: Annotated[str, typer.Option(help="Tenant, for CSV files, which name none.")] = "default",
    update: Annotated[bool, typer.Option("--update", help="Also bring enrolled agents to what the file says now.")] = False,
    dry_run: DryRunOption = False,
    actor: ActorOption = None,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Enrol the agents of a fleet with persona, policy, accounts and allowance. Repeating it appends only what is missing.

    Example: chimera agent enrol -f examples/fleet.yaml --dry-run
    """
    # Here and not above: reading a fleet takes imports that pausing one should not wait for.
    from chimera.commands import agents
    from chimera.commands.fleet import Problem, load_fleet

    settings = Settings()
    fleet = load_fleet(file, tenant)
    who = actor or settings.actor
    if dry_run and not (settings.home / "installation.json").exists():
        fresh = {wanted.name: [data.TYPE for data in agents.enrol(wanted, "")(None)] for wanted in fleet.agents}
        _print_dry_run(fresh, fleet, as_json)
        return
    with open_desk(settings, set_up=not dry_run) as desk:
        wishes = _wishes(fleet, who, update, dry_run)
        if dry_run:
            replies = [desk.ask(wish) for wish in wishes]
            plan = {row["agent"]: row["would_append"] for reply in replies for row in reply["plan"]}
            taken = [Problem(row["agent"], row["why"]) for reply in replies for row in reply["refused"]]
            _print_dry_run(plan, fleet._replace(problems=(*fleet.problems, *taken)), as_json)
            return
        answers = _submit(desk, wishes, as_json)
    _finish_enrol(answers, fleet.problems, as_json, _unseen(answers, wait, settings))


@app.command("list")
def list_(
    tenant: Annotated[str | None, typer.Option(help="Only agents of this tenant.")] = None,
    as_json: JsonOption = False,
) -> None:
    """All agents: status, accounts, open campaigns, tasks, cards waiting."""
    with open_desk(Settings()) as desk:
        rows = desk.ask(verbs.AgentList(tenant=tenant))["agents"]
    if as_json:
        output.print_json({"agents": rows})
        return
    columns = ("name", "status", "accounts", "campaigns", "tasks", "cards", "version", "tenant")
    cells = [
        (
            row["name"],
            row["status"] + (", in shadow" if row["in_shadow"] else ""),
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
    with open_desk(Settings()) as desk:
        detail = desk.ask(verbs.AgentShow(name=name))
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
                "shadow": shadow(detail["shadow"]),
                "allowance": f"{allowance['used_usd']} of {allowance['limit_usd']} USD per {allowance['window_s']} s"
                if allowance
                else "-",
                "persona": f"record {detail['soul']}" if detail["soul"] else "none adopted",
                "refused by people": ", ".join(f"record {place}" for place in detail["refused"]) or "-",
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
                _waits(t),
            )
            for t in campaign["tasks"]
        ]
        title = (
            f"campaign {campaign['campaign_id']} ({campaign['status']}): {campaign['done']} done, {len(campaign['closed'])} closed"
        )
        out.print(output.table(title, columns, cells))


def _waits(task: Mapping[str, Any]) -> str:
    """Why a task is not worked on, and until when at the least."""
    later = task["not_before_ts"] if task["status"] == "planned" and task["not_before_ts"] > time.time() * 1000 else 0
    until = f"not before {output.when(later)} UTC" if later else ""
    return ", ".join(part for part in (task["waits_because"], until) if part) or "-"


Status = Literal["agent.pause", "agent.resume", "agent.retire", "agent.release"]
_HELD: Mapping[Status, str] = {
    "agent.pause": "Hold an agent's work at once. Nothing is lost; its cards do not age meanwhile.",
    "agent.resume": "Let a paused agent go on.",
    "agent.release": "End an agent's quarantine after its broken record was looked at (`chimera agent show NAME` names it).",
}
"""What can be undone, and so asks nobody."""


def _held(verb: Status) -> Callable[..., None]:
    def command(
        names: NamesArgument,
        reason: ReasonOption = "",
        actor: ActorOption = None,
        wait: WaitOption = None,
        as_json: JsonOption = False,
    ) -> None:
        _set_status(verb, names, reason, actor, wait, as_json)

    return command


for _verb, _help in _HELD.items():
    app.command(_verb.removeprefix("agent."), help=_help)(_held(_verb))


@app.command()
def retire(
    names: NamesArgument,
    reason: ReasonOption = "",
    yes: YesOption = False,
    actor: ActorOption = None,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    """End an agent for good; what is open closes, what is claimed runs to its end."""
    output.sure(f"retire {', '.join(names)} for good?", yes, as_json)
    _set_status("agent.retire", names, reason, actor, wait, as_json)


def _set_status(verb: Status, names: list[str], reason: str, actor: str | None, wait: str | None, as_json: bool) -> None:
    settings = Settings()
    wish = verbs.wish(verbs.AgentStatus, actor or settings.actor, verb=verb, names=tuple(names), reason=reason)
    with open_desk(settings) as desk:
        answers = verbs.answers_of(desk.ask(wish))
    output.finish(answers, as_json, verb.replace(".", " "), _unseen(answers, wait, settings))


def _unseen(answers: Sequence[tuple[str, Answer]], wait: str | None, settings: Settings) -> str | None:
    return invisible((answer for _, answer in answers), settings) if wait else None


def _wishes(fleet: Fleet, who: str, update: bool, dry_run: bool) -> list[verbs.Enrol]:
    """The fleet as verbs, so many agents in each as one may carry. A policy travels once per verb."""
    made = []
    for start in range(0, len(fleet.agents), verbs.MOST_AGENTS):
        some = fleet.agents[start : start + verbs.MOST_AGENTS]
        texts = list(dict.fromkeys(wanted.policy.text for wanted in some))
        made.append(
            verbs.wish(
                verbs.Enrol,
                who,
                tenant=fleet.tenant,
                policies=tuple(texts),
                agents=tuple(
                    verbs.NewAgent(
                        name=wanted.name,
                        groups=wanted.groups,
                        soul=wanted.soul,
                        policy=texts.index(wanted.policy.text),
                        accounts=wanted.accounts,
                        limit_usd=wanted.limit_usd,
                        window_ms=wanted.window_ms,
                    )
                    for wanted in some
                ),
                update=update,
                dry_run=dry_run,
            )
        )
    return made


def _submit(desk: OpenDesk, wishes: Sequence[verbs.Enrol], as_json: bool) -> list[tuple[str, Answer]]:
    if as_json:
        return [pair for wish in wishes for pair in verbs.answers_of(desk.ask(wish))]
    columns = (TextColumn("enrolling"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    answers: list[tuple[str, Answer]] = []
    with Progress(*columns, console=output.console(stderr=True), transient=True) as progress:
        task = progress.add_task("enrol", total=sum(len(wish.agents) for wish in wishes))
        for wish in wishes:
            answers += verbs.answers_of(desk.ask(wish))
            progress.update(task, completed=len(answers))
    return answers


def _print_dry_run(would: Mapping[str, Sequence[str]], fleet: Fleet, as_json: bool) -> None:
    places = {wanted.name: wanted.place for wanted in fleet.agents}
    plan = [{"agent": name, "place": places.get(name, ""), "would_append": types} for name, types in would.items()]
    if as_json:
        output.print_json({"tenant": fleet.tenant, "plan": plan, "problems": [problem._asdict() for problem in fleet.problems]})
    else:
        cells = [(str(row["agent"]), ", ".join(row["would_append"]) or "nothing: enrolled already", row["place"]) for row in plan]
        output.console().print(output.table(f"dry run for tenant {fleet.tenant}", ("agent", "would append", "from"), cells))
        _print_problems(fleet.problems)
    if fleet.problems:
        raise typer.Exit(output.NOT_COUNTED)


def _finish_enrol(answers: list[tuple[str, Answer]], problems: tuple[Problem, ...], as_json: bool, unseen: str | None) -> None:
    if as_json:
        rows = [output.answer_json(answer, agent=name) for name, answer in answers]
        rows += [{"agent": p.name, "outcome": "refused", "reason": p.message, "changed": False} for p in problems]
        output.print_json({"command": "agent enrol", "answers": rows} | ({"unseen": unseen} if unseen else {}))
    else:
        # A thousand lines of success hide the one that failed.
        shown = answers if len(answers) <= 50 else [(n, a) for n, a in answers if a.outcome != "applied"]
        if shown:
            output.print_answers(shown, "agent enrol")
        if len(shown) != len(answers):
            output.console().print(output.summary(answers))
        _print_problems(problems)
    output.leave([answer.outcome for _, answer in answers] + ["refused" for _ in problems], unseen)


def _print_problems(problems: tuple[Problem, ...]) -> None:
    if problems:
        cells = [(problem.name or "-", problem.message) for problem in problems]
        output.console(stderr=True).print(output.table(f"{len(problems)} not enrolled", ("agent", "why"), cells))
