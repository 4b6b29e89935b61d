"""`chimera post`: what agents have published, and taking a post down.

The rule not to break: a takedown goes the way of every effect, so what is printed here is that it was begun, not that it is done.
"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from chimera.cli import output
from chimera.cli.folding import open_desk
from chimera.cli.options import ActorOption, DryRunOption, JsonOption, WaitOption
from chimera.cli.wait import invisible
from chimera.commands import verbs
from chimera.commands.decision import Refused
from chimera.settings import Settings

app = typer.Typer(help="What was published: list, take down.", no_args_is_help=True)
_SHOWN_CHARS = 100


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
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="Whose post it is, by name.")],
    post: Annotated[str, typer.Argument(metavar="POST", help="Its id on the platform, or its address.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the record.")],
    platform: Annotated[
        str | None, typer.Option("--platform", help="Where it is; with this also a post that is not known here.")
    ] = None,
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
    try:
        with open_desk(settings) as desk:
            reply = desk.ask(wish)
    except Refused as refusal:
        raise output.refused(refusal, as_json) from None
    if dry_run:
        _print_dry_run(reply, as_json)
        return
    answers = verbs.answers_of(reply)
    unseen = invisible((answer for _, answer in answers), settings) if wait else None
    output.finish(answers, as_json, f"post takedown {reply['campaign_id']}", unseen)


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
