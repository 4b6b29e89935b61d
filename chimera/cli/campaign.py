"""`chimera campaign`: start a brief for some agents, look at it, change, pause, resume, cancel it.

The rule not to break: a campaign over many agents is one command to each; the answer names each agent's outcome.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from chimera.cli import output
from chimera.cli.output import ActorOption, DryRunOption, JsonOption, ReasonOption
from chimera.commands import agents, campaigns, views
from chimera.commands.decision import Decision, Order
from chimera.commands.feeds import keep_feeds
from chimera.commands.service import CommandService
from chimera.commands.wiring import open_service
from chimera.events.envelope import Record
from chimera.events.records import AgentEnrolled, BriefChanged, CampaignStarted
from chimera.events.state import Agent, Ref, Ruling
from chimera.policy.brief import Brief, load_brief
from chimera.settings import Settings

app = typer.Typer(help="Campaigns: start, look, change, pause, resume, cancel.", no_args_is_help=True)

IdArgument = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="Campaign id, as `campaign list` shows it.")]
FileOption = Annotated[Path, typer.Option("-f", "--file", help="The brief (YAML).")]
AgentsOption = Annotated[str | None, typer.Option("--agents", metavar="A,B", help="Only these agents, by name.")]


class _Seen:
    """Observer: the campaigns' story and who belongs to which group."""

    def __init__(self) -> None:
        self.story = views.Story()
        self.groups: dict[str, list[str]] = {}

    def __call__(self, record: Record, ruling: Ruling) -> None:
        self.story(record, ruling)
        if ruling.outcome == "applied" and isinstance(record.data, AgentEnrolled):
            self.groups[record.key] = record.data.groups


@app.command()
def start(
    file: FileOption,
    names: AgentsOption = None,
    group: Annotated[str | None, typer.Option("--group", help="The agents of this group.")] = None,
    everyone: Annotated[bool, typer.Option("--all", help="All agents that are not retired.")] = False,
    dry_run: DryRunOption = False,
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start a campaign for agents. Those in which it is open already are left as they are."""
    settings = Settings()
    brief = load_brief(file)
    seen = _Seen()
    with open_service(settings, observe=seen) as service:
        chosen = _chosen(service, seen, names, group, everyone)
        if dry_run:
            _print_dry_run(brief, chosen, as_json)
            return
        decide = campaigns.start(brief.name, keep_feeds(brief, settings.home).model_dump(mode="json"))
        orders = [Order(a.key, a.tenant, actor or settings.actor, decide, str(uuid.uuid4())) for a in chosen]
        answers = service.submit_many(orders)
    title = f"campaign start {campaigns.campaign_id(brief.name)}"
    output.finish([(a.name, answer) for a, answer in zip(chosen, answers, strict=True)], as_json, title)


@app.command()
def change(
    id_: IdArgument, file: FileOption, names: AgentsOption = None, actor: ActorOption = None, as_json: JsonOption = False
) -> None:
    """Give a campaign another brief: what read the old one is planned again, with that as the reason."""
    body = keep_feeds(load_brief(file), Settings().home).model_dump(mode="json")

    def decide_for(service: CommandService, agent: Agent) -> Decision:
        campaign = campaigns.open_campaign(agent, id_)
        return campaigns.change(id_, body, _brief_hash(service, campaign.brief) if campaign is not None else None)

    _command(id_, names, decide_for, "campaign change", actor, as_json)


@app.command()
def pause(
    id_: IdArgument, names: AgentsOption = None, reason: ReasonOption = "", actor: ActorOption = None, as_json: JsonOption = False
) -> None:
    """Hold a campaign's work. Nothing is lost."""
    _command(id_, names, lambda _, __: campaigns.pause(id_, reason), "campaign pause", actor, as_json)


@app.command()
def resume(
    id_: IdArgument, names: AgentsOption = None, reason: ReasonOption = "", actor: ActorOption = None, as_json: JsonOption = False
) -> None:
    """Let a paused campaign go on."""
    _command(id_, names, lambda _, __: campaigns.resume(id_, reason), "campaign resume", actor, as_json)


@app.command()
def cancel(
    id_: IdArgument, names: AgentsOption = None, reason: ReasonOption = "", actor: ActorOption = None, as_json: JsonOption = False
) -> None:
    """Close a campaign: what is open closes, what is claimed runs to its end."""
    _command(id_, names, lambda _, __: campaigns.cancel(id_, reason), "campaign cancel", actor, as_json)


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """All campaigns, open and closed, newest first."""
    story = views.Story()
    with open_service(Settings(), observe=story) as service:
        rows = views.campaign_rows(story, service.agents)
    if as_json:
        output.print_json({"campaigns": rows})
        return
    columns = ("campaign", "status", "agents", "tasks", "posts", "cards", "brief", "started (UTC)", "by")
    cells = [
        (
            row["campaign_id"],
            _counts(row["status"]),
            len(row["agents"]),
            _counts(row["tasks"]),
            row["posts"],
            row["cards_waiting"],
            f"edition {row['brief_edition']}",
            output.when(row["started_ts"]),
            row["by"],
        )
        for row in rows
    ]
    output.console().print(output.table(f"{len(rows)} campaigns", columns, cells))


@app.command()
def show(id_: IdArgument, as_json: JsonOption = False) -> None:
    """One campaign: its brief, and its tasks agent by agent."""
    story = views.Story()
    with open_service(Settings(), observe=story) as service:
        names = {key: agent.name for key, agent in service.agents.items()}
    rows = [row for row in story.campaigns.values() if row.campaign_id == id_]
    if not rows:
        way_out = (
            agents.near(id_, {row.campaign_id for row in story.campaigns.values()}) if story.campaigns else ": none was started"
        )
        raise campaigns.UnknownCampaign(f"no campaign is called '{id_}'{way_out}")
    if as_json:
        output.print_json({"campaign_id": id_, "agents": [_row_json(row, names) for row in rows]})
        return
    latest = max(rows, key=lambda row: (row.brief_edition, row.started_ts))
    out = output.console()
    out.print(
        output.pairs(
            f"campaign {id_}",
            {
                "name": latest.name,
                "started": f"{output.when(min(row.started_ts for row in rows))} UTC by {latest.actor}",
                "goal": latest.brief.get("goal", "-"),
                "audience": latest.brief.get("audience", "-"),
                "feeds": ", ".join(latest.brief.get("feeds", [])) or "-",
            },
        )
    )
    columns = ("agent", "no", "status", "brief", "tasks", "effects", "ended (UTC)")
    cells = [
        (
            names.get(row.agent, row.agent),
            row.number,
            row.status,
            f"edition {row.brief_edition}",
            _counts(_count(row.tasks)),
            _counts(_count(row.effects)),
            output.when(row.ended_ts),
        )
        for row in rows
    ]
    out.print(output.table("agents", columns, cells))


# --- parts -----------------------------------------------------------------------------------------------------------


def _command(
    id_: str,
    names: str | None,
    decide_for: Callable[[CommandService, Agent], Decision],
    what: str,
    actor: str | None,
    as_json: bool,
) -> None:
    settings = Settings()
    with open_service(settings) as service:
        if names is None:
            found = campaigns.agents_with(service.agents.values(), id_)
        else:
            found = [agents.find(service.agents.values(), name) for name in _split(names)]
        orders = [
            Order(a.key, a.tenant, actor or settings.actor, decide_for(service, a), str(uuid.uuid4()), correlation=id_)
            for a in found
        ]
        answers = service.submit_many(orders)
    output.finish([(a.name, answer) for a, answer in zip(found, answers, strict=True)], as_json, f"{what} {id_}")


def _chosen(service: CommandService, seen: _Seen, names: str | None, group: str | None, everyone: bool) -> list[Agent]:
    if sum((names is not None, group is not None, everyone)) != 1:
        raise output.usage("say for whom: one of --agents a,b, --group g, --all")
    known = service.agents
    if names is not None:
        return [agents.find(known.values(), name) for name in _split(names)]
    if group is not None:
        members = [known[key] for key, groups in seen.groups.items() if group in groups and key in known]
        if not members:
            raise agents.UnknownAgent(
                f"group '{group}' has no agents{agents.near(group, {g for gs in seen.groups.values() for g in gs})}"
            )
        return members
    if not known:
        raise agents.UnknownAgent("no agent is enrolled yet: use `chimera agent enrol -f fleet.yaml`")
    return [agent for agent in known.values() if agent.status != "retired"]


def _split(names: str) -> list[str]:
    found = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    if not found:
        raise output.usage("--agents names nobody: write it as --agents ava,ben")
    return found


def _brief_hash(service: CommandService, ref: Ref) -> str | None:
    data = service.read_data(ref)
    return data.brief_hash if isinstance(data, CampaignStarted | BriefChanged) else None


def _print_dry_run(brief: Brief, chosen: list[Agent], as_json: bool) -> None:
    id_ = campaigns.campaign_id(brief.name)
    plan = {
        agent.name: "nothing: open already" if campaigns.open_campaign(agent, id_) is not None else "CampaignStarted"
        for agent in chosen
    }
    if as_json:
        output.print_json({"campaign_id": id_, "brief": brief.model_dump(mode="json"), "plan": plan})
    else:
        title = f"dry run: campaign {id_}, {len(brief.feeds)} feeds, {len(brief.formats)} formats"
        output.console().print(output.table(title, ("agent", "would append"), plan.items()))


def _row_json(row: views.CampaignRow, names: dict[str, str]) -> dict[str, Any]:
    return {
        "agent": names.get(row.agent, row.agent),
        "stream": row.agent,
        "number": row.number,
        "status": row.status,
        "brief_edition": row.brief_edition,
        "brief": row.brief,
        "tasks": {str(k): {"status": v, "reason": row.reasons.get(k, "")} for k, v in row.tasks.items()},
        "effects": {str(k): v for k, v in row.effects.items()},
        "started_ts": row.started_ts,
        "ended_ts": row.ended_ts,
        "by": row.actor,
    }


def _count(statuses: dict[int, str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for status in statuses.values():
        counts[status] = counts.get(status, 0) + 1
    return counts


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {word}" for word, n in counts.items()) or "-"
