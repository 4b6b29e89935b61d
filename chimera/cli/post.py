"""`chimera post`: what agents have published, taking a post down, and boosting one for money.

The rule not to break: both go the way of every effect, so what is printed here is that it was begun, not that it is done.
"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from chimera.cli import output
from chimera.cli.folding import open_desk
from chimera.cli.giving import begin
from chimera.cli.options import ActorOption, DryRunOption, JsonOption, ReasonOption, WaitOption
from chimera.commands import verbs
from chimera.settings import Settings

app = typer.Typer(help="What was published: list, take down, boost.", no_args_is_help=True)
_SHOWN_CHARS = 100

AgentArgument = Annotated[str, typer.Argument(metavar="AGENT", help="Whose post it is, by name.")]
PostArgument = Annotated[str, typer.Argument(metavar="POST", help="Its id on the platform, or its address.")]
PlatformOption = Annotated[
    str | None, typer.Option("--platform", help="Where it is; with this also a post that is not known here.")
]


@app.command("list")
def list_(
    agent: Annotated[str | None, typer.Option("--agent", help="Only this agent's, by name.")] = None,
    standing: Annotated[bool, typer.Option("--standing", help="Leave out what was taken down.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=verbs.MOST_POSTS, help="At most so many.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Posts and replies that agents have published, newest first."""
    with open_desk(Settings()) as desk:
        reply = desk.ask(verbs.PostList(agent=agent, standing=standing, limit=limit))
    if as_json:
        output.print_json(reply)
        return
    rows = reply["posts"]
    cells = [
        (
            row["platform_id"],
            row["agent"],
            f"{row['platform']}/@{row['account']}",
            output.when(row["published_ts"]),
            f"taken down {output.when(row['taken_down_ts'])}" if row["taken_down_ts"] else "stands",
            _short(row["text"]),
        )
        for row in rows
    ]
    columns = ("post", "agent", "account", "published (UTC)", "is", "text")
    output.console().print(output.table(f"{len(rows)} posts", columns, cells))
    output.incomplete(reply)


@app.command()
def takedown(
    agent: AgentArgument,
    post: PostArgument,
    reason: ReasonOption,
    platform: PlatformOption = None,
    dry_run: DryRunOption = False,
    actor: ActorOption = None,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a post down, by the way of every effect. Giving it twice does nothing more.

    Example: chimera post takedown ava 1840000000000000000 --reason 'the shop has closed'
    """
    settings = Settings()
    wish = verbs.wish(
        verbs.PostTakedown,
        actor or settings.actor,
        agent=agent,
        post=post,
        platform=platform,
        reason=reason,
        dry_run=dry_run,
    )
    begin(wish, "post takedown", settings, wait=wait, as_json=as_json, dry=lambda reply: _print_dry_run(reply, as_json))


@app.command()
def boost(
    agent: AgentArgument,
    post: PostArgument,
    tier: Annotated[str, typer.Option("--tier", help="How many people see it, by the ads profile's table of tiers.")],
    reason: ReasonOption,
    days: Annotated[int, typer.Option("--days", min=1, max=366, help="For how long.")] = 1,
    platform: PlatformOption = None,
    dry_run: DryRunOption = False,
    actor: ActorOption = None,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a post to more people, for money: funds are asked for, judges and where policy says so people decide, then it is bought.

    Example: chimera post boost ava 1840000000000000000 --tier small --days 3 --reason 'the best one this week'
    """
    settings = Settings()
    _known_tier(platform or "x", tier, days)
    said = {"agent": agent, "post": post, "platform": platform, "tier": tier, "days": days, "reason": reason, "dry_run": dry_run}
    wish = verbs.wish(verbs.PostBoost, actor or settings.actor, **said)
    begin(wish, "post boost", settings, wait=wait, as_json=as_json, dry=lambda reply: _print_dry_run(reply, as_json))


def _known_tier(platform: str, tier: str, days: int) -> None:
    """Say at once that a tier has no price; the worker would refuse it as well, later."""
    from chimera.mcp.profiles import BadArguments, load_profiles  # only this verb looks at prices

    try:
        load_profiles().render("ads.boost", {"post_id": "1", "tier": tier, "days": days}, platform=platform)
    except BadArguments as unknown:
        raise output.usage(str(unknown)) from None


def _print_dry_run(reply: verbs.Reply, as_json: bool) -> None:
    if as_json:
        output.print_json(reply)
        return
    out = output.console()
    out.print(output.table(f"dry run: campaign {reply['campaign_id']}", ("agent", "would append"), reply["plan"].items()))
    if reply["post"].get("text"):
        out.print(Text(output.visible(reply["post"]["text"])))


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _SHOWN_CHARS else flat[: _SHOWN_CHARS - 1] + "…"
