"""`chimera campaign`: start a brief for some agents, look at it, change, pause, resume, cancel it.

The rule not to break: a campaign over many agents is one command to each; the answer names each agent's outcome.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from chimera.cli import output
from chimera.cli.folding import open_desk
from chimera.cli.options import (
    ActorOption,
    AgentsOption,
    BriefOption,
    CampaignArgument,
    DryRunOption,
    JsonOption,
    ReasonOption,
    WaitOption,
    YesOption,
)
from chimera.cli.wait import invisible
from chimera.commands import verbs
from chimera.commands.decision import Refused
from chimera.commands.verbs import Reply
from chimera.settings import Settings

if TYPE_CHECKING:
    from chimera.policy.brief import Brief

MOST_LAGGARDS = 20
"""So many are listed by name on a terminal; `--json` has all."""
TenantOption = Annotated[str | None, typer.Option("--tenant", metavar="TENANT", help="The tenant whose campaign it is.")]

app = typer.Typer(help="Campaigns: start, look, change, pause, resume, cancel.", no_args_is_help=True)


@app.command()
def start(
    file: BriefOption,
    names: AgentsOption = None,
    group: Annotated[str | None, typer.Option("--group", help="The agents of this group.")] = None,
    everyone: Annotated[bool, typer.Option("--all", help="All agents that are not retired.")] = False,
    tenant: TenantOption = None,
    canary: Annotated[str | None, typer.Option("--canary", metavar="SHARE", help="Of a tenant's members, e.g. 5%.")] = None,
    dry_run: DryRunOption = False,
    actor: ActorOption = None,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start a campaign for agents. Those in which it is open already are left as they are; `--dry-run` shows what each would do.

    With --tenant it is the tenant's: for all its members or a --group of them, also those who join later.
    Example: chimera campaign start -f examples/briefs/first-frost.yaml --group kitchen --dry-run
    """
    if tenant is not None:
        if names is not None:
            raise output.usage("--tenant opens a campaign for members, a --group or a --canary of them: drop --agents")
    elif sum((names is not None, group is not None, everyone)) != 1:
        raise output.usage("say for whom: one of --agents a,b, --group g, --all, --tenant t")
    elif canary is not None:
        raise output.usage("--canary is a share of a tenant's members: name it with --tenant")
    # Here and not above: reading a brief takes imports that pausing a campaign should not wait for.
    from chimera.cli.editions import share_ppm
    from chimera.commands.campaigns import campaign_id
    from chimera.commands.feeds import keep_feeds
    from chimera.policy.brief import load_brief

    settings, share = Settings(), share_ppm(canary)
    brief = load_brief(file)
    wish = verbs.wish(
        verbs.CampaignStart,
        actor or settings.actor,
        brief=(brief if dry_run else keep_feeds(brief, settings.home)).model_dump(mode="json"),
        names=None if names is None else _split(names),
        group=group,
        everyone=everyone,
        tenant=tenant,
        share_ppm=share,
        dry_run=dry_run,
    )
    reply = _ask(wish, as_json)
    if dry_run:
        _print_dry_run(reply, _tasks(brief), as_json)
    else:
        _finish(reply, as_json, f"campaign start {campaign_id(brief.name)}", wait, settings)


@app.command()
def change(
    id_: CampaignArgument,
    file: BriefOption,
    names: AgentsOption = None,
    tenant: TenantOption = None,
    actor: ActorOption = None,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a campaign another brief: what read the old one is planned again, with that as the reason.

    Example: chimera campaign change autumn-spent-well -f autumn.yaml --agents ava,bruno
    """
    from chimera.commands.feeds import keep_feeds
    from chimera.policy.brief import load_brief

    settings = Settings()
    wish = verbs.wish(
        verbs.CampaignChange,
        actor or settings.actor,
        campaign=id_,
        brief=keep_feeds(load_brief(file), settings.home).model_dump(mode="json"),
        names=None if names is None else _split(names),
        tenant=tenant,
    )
    reply = _ask(wish, as_json)
    _finish(reply, as_json, f"campaign change {id_}", wait, settings)


Status = Literal["campaign.pause", "campaign.resume", "campaign.cancel"]
_HELD: Mapping[Status, str] = {
    "campaign.pause": "Hold a campaign's work. Nothing is lost.",
    "campaign.resume": "Let a paused campaign go on.",
}
"""What can be undone, and so asks nobody."""


def _held(verb: Status) -> Callable[..., None]:
    def command(
        id_: CampaignArgument,
        names: AgentsOption = None,
        tenant: TenantOption = None,
        reason: ReasonOption = "",
        actor: ActorOption = None,
        wait: WaitOption = None,
        as_json: JsonOption = False,
    ) -> None:
        _set_status(verb, id_, names, tenant, reason, actor, wait, as_json)

    return command


for _verb, _help in _HELD.items():
    app.command(_verb.removeprefix("campaign."), help=_help)(_held(_verb))


@app.command()
def cancel(
    id_: CampaignArgument,
    names: AgentsOption = None,
    tenant: TenantOption = None,
    reason: ReasonOption = "",
    yes: YesOption = False,
    actor: ActorOption = None,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Close a campaign: what is open closes, what is claimed runs to its end."""
    output.sure(f"cancel {id_} for {names or 'all its agents'}, for good?", yes, as_json)
    _set_status("campaign.cancel", id_, names, tenant, reason, actor, wait, as_json)


def _set_status(
    verb: Status,
    id_: str,
    names: str | None,
    tenant: str | None,
    reason: str,
    actor: str | None,
    wait: str | None,
    as_json: bool,
) -> None:
    settings = Settings()
    chosen = None if names is None else _split(names)
    who = actor or settings.actor
    wish = verbs.wish(verbs.CampaignStatus, who, verb=verb, campaign=id_, names=chosen, tenant=tenant, reason=reason)
    reply = _ask(wish, as_json)
    _finish(reply, as_json, f"{verb.replace('.', ' ')} {id_}", wait, settings)


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """All campaigns, open and closed, newest first."""
    with open_desk(Settings()) as desk:
        reply = desk.ask(verbs.CampaignList())
    rows = reply["campaigns"]
    if as_json:
        output.print_json(reply)
        return
    columns = ("campaign", "status", "agents", "tasks", "posts", "cards", "brief", "started (UTC)", "by")
    cells = [
        (
            row["campaign_id"],
            _counts(row["status"]),
            len(row["agents"]),
            _counts(row["tasks"]),
            "?" if row["posts"] is None else row["posts"],
            row["cards_waiting"],
            row["brief_edition"],
            output.when(row["started_ts"]),
            row["by"],
        )
        for row in rows
    ]
    output.console().print(output.table(f"{len(rows)} campaigns", columns, cells))
    output.incomplete(reply)


@app.command()
def show(id_: CampaignArgument, as_json: JsonOption = False) -> None:
    """One campaign: its brief, and its tasks agent by agent."""
    with open_desk(Settings()) as desk:
        found = desk.ask(verbs.CampaignShow(campaign=id_))
    rows = found["agents"]
    if as_json:
        output.print_json(found)
        return
    out = output.console()
    for told in found["tenants"]:
        _print_told(told)
    if not rows:
        return
    latest = max(rows, key=lambda row: (row["brief_edition"], row["started_ts"]))
    out.print(
        output.pairs(
            f"campaign {id_}",
            {
                "name": found["name"],
                "started": f"{output.when(min(row['started_ts'] for row in rows))} UTC by {latest['by']}",
                "goal": latest["brief"].get("goal", "-"),
                "audience": latest["brief"].get("audience", "-"),
                "feeds": ", ".join(latest["brief"].get("feeds", [])) or "-",
                "follow-ups": follow_ups_of(latest["brief"]),
                "answers people": f"for {replies['days']:g} days" if (replies := latest["brief"].get("replies")) else "nobody",
            },
        )
    )
    columns = ("agent", "no", "status", "brief", "tasks", "effects", "ended (UTC)")
    cells = [
        (
            row["agent"],
            row["number"],
            row["status"],
            f"edition {row['brief_edition']}",
            _counts(Counter(task["status"] for task in row["tasks"].values())),
            _counts(Counter(row["effects"].values())),
            output.when(row["ended_ts"]),
        )
        for row in rows
    ]
    out.print(output.table("agents", columns, cells))
    output.incomplete(found)


def _print_told(told: dict[str, Any]) -> None:
    """Whom a tenant's campaign has reached, and who has not heard of its latest yet."""
    edition = f", brief edition {told['brief_edition']}" if told["brief_edition"] else ""
    group = f" (group {told['group']})" if told["group"] else ""
    out = output.console()
    out.print(
        output.pairs(
            f"of tenant {told['tenant']}{group}",
            {
                "status": told["status"] + edition,
                "delivered": f"to {told['delivered']} of {told['told']} members, {told['owed']} copies owed",
            },
        )
    )
    if told["laggards"]:
        cells = [(row["agent"], ", ".join(row["owed"]), output.when(row["since_ts"])) for row in told["laggards"][:MOST_LAGGARDS]]
        title = f"{len(told['laggards'])} have not heard yet"
        out.print(output.table(title, ("agent", "of", "since (UTC)"), cells))


# --- parts -----------------------------------------------------------------------------------------------------------


def _ask(wish: verbs.CampaignStart | verbs.CampaignChange | verbs.CampaignStatus, as_json: bool) -> Reply:
    try:
        with open_desk(Settings()) as desk:
            return desk.ask(wish)
    except Refused as refusal:
        raise output.refused(refusal, as_json) from None


def _finish(reply: Reply, as_json: bool, what: str, wait: str | None, settings: Settings) -> None:
    answers = verbs.answers_of(reply)
    unseen = invisible((answer for _, answer in answers), settings) if wait else None
    output.finish(answers, as_json, what, unseen)


def _split(names: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    if not found:
        raise output.usage("--agents names nobody: write it as --agents ava,ben")
    return found


def _tasks(brief: Brief) -> list[dict[str, Any]]:
    """What the planner of each agent makes of the brief."""
    from chimera.processors.planner import rows_for

    return [
        {"task": row.ordinal, "kind": row.kind, "title": row.title, "after": row.depends_on, "wait_h": row.wait_ms / 3_600_000}
        for row in rows_for(brief, 1, 1)
    ]


def _print_dry_run(reply: Reply, tasks: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        output.print_json(reply | {"tasks": tasks})
    else:
        brief: dict[str, Any] = reply["brief"]
        title = f"dry run: campaign {reply['campaign_id']}, {len(brief['feeds'])} feeds, {len(brief['formats'])} formats"
        out = output.console()
        out.print(output.table(title, ("agent", "would append"), reply["plan"].items()))
        cells = [
            (
                row["task"],
                row["title"],
                ", ".join(str(ordinal) for ordinal in row["after"]) or "-",
                f"{row['wait_h']:g} h later" if row["wait_h"] else "at once",
            )
            for row in tasks
        ]
        out.print(output.table("what each agent would do", ("task", "what", "after", "when"), cells))


def follow_ups_of(brief: Mapping[str, Any]) -> str:
    """What of a brief is followed up when, in words."""
    told = []
    for form in brief.get("formats", ()):
        wish = form.get("follow_up")
        if wish:
            numbers = ", ".join(f"{least} {name}" for name, least in wish.get("at_least", {}).items())
            until = f" until {wish['until_hours']:g} h" if wish.get("until_hours") else ""
            enough = f", from {numbers} on{until}" if numbers else ""
            told.append(f"{form['platform']}/{form['format']} after {wish['after_hours']:g} h{enough}")
    return "; ".join(told) or "-"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {word}" for word, n in counts.items()) or "-"
