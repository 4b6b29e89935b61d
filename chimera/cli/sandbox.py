"""`chimera sandbox`: make the local MCP servers go wrong, look at what is still to go wrong, and stop it.

The rule not to break: this reaches the sandbox servers of this home and nothing else; no profile has a live server here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from chimera.cli import output
from chimera.cli.options import JsonOption
from chimera.errors import ChimeraError
from chimera.mcp.sandbox.faults import KINDS, BadWish, FaultBook, read_wish
from chimera.settings import Settings
from chimera.stack.addresses import mcp_overrides
from chimera.stack.children import SERVERS

app = typer.Typer(help="The local MCP servers: make them go wrong on demand.", no_args_is_help=True)
ServerArgument = Annotated[str, typer.Argument(metavar="SERVER", help=f"One of {', '.join(SERVERS)}.")]
_KINDS = " ".join(f"\n\n{kind}: {what}." for kind, what in KINDS.items())


@app.command(
    help="Let calls to SERVER go wrong, in the order asked for. A fault is [tool:]kind[(seconds)][=calls][@chance].\n\n"
    f"Example: chimera sandbox fault x createPosts:429=3 'getUsersMentions:slow(2.5)=10@0.5'\n\nKinds:{_KINDS}"
)
def fault(
    server: ServerArgument,
    wishes: Annotated[list[str], typer.Argument(metavar="FAULT...", help="What goes wrong, and how often.")],
    seed: Annotated[int, typer.Option("--seed", help="What chances are drawn with.")] = 0,
    as_json: JsonOption = False,
) -> None:
    with _book(server) as book:
        try:
            asked = [read_wish(wish, _tools(server)) for wish in wishes]
        except BadWish as error:
            raise output.usage(str(error)) from None
        for wish in asked:
            book.ask(wish, seed)
    _print_left([server], as_json)


@app.command()
def faults(as_json: JsonOption = False) -> None:
    """What is still to go wrong, in the order in which calls run into it."""
    _print_left(SERVERS, as_json)


@app.command()
def clear(
    server: Annotated[str | None, typer.Argument(metavar="[SERVER]", help="Only this one.")] = None, as_json: JsonOption = False
) -> None:
    """Let nothing go wrong any more. Calls that hang already go on hanging until they time out."""
    spared = {}
    for name in [server] if server is not None else _here():
        with _book(name) as book:
            spared[name] = book.clear()
    if as_json:
        output.print_json({"spared": spared})
        return
    output.console().print(
        ", ".join(f"{name}: {calls} faults taken back" for name, calls in spared.items()) or "no server ran here"
    )


@app.command()
def show(
    server: ServerArgument,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=1000, help="How many, newest first.")] = 20,
    account: Annotated[str | None, typer.Option("--account", help="Only this account's.")] = None,
    as_json: JsonOption = False,
) -> None:
    """What a sandbox keeps: its timeline, or the jobs that were ordered from it. Reads its files; the server need not run.

    Example: chimera sandbox show instagram --json
    """
    from chimera.cli.played import kept

    with _book(server):
        rows = kept(server, _directory(server), limit, account)
    if as_json:
        output.print_json({"server": server, "rows": rows})
        return
    columns = tuple(rows[0]) if rows else ("nothing",)
    cells = [tuple(row.values()) for row in rows]
    output.console().print(output.table(f"{len(rows)} kept by {server}", columns, cells))


def _print_left(servers: list[str] | tuple[str, ...], as_json: bool) -> None:
    rows = []
    for name in [name for name in servers if name in _here()]:
        with _book(name) as book:
            rows += [(name, wish) for wish in book.left()]
    if as_json:
        kept = [
            {"server": name, "tool": w.tool, "kind": w.kind, "calls": w.calls, "chance": w.chance, "seconds": w.seconds}
            for name, w in rows
        ]
        output.print_json({"faults": kept})
        return
    cells = [(name, wish.tool or "any", wish.kind, wish.calls, wish.chance, KINDS[wish.kind]) for name, wish in rows]
    columns = ("server", "tool", "fault", "calls left", "chance", "is")
    output.console().print(output.table(f"{sum(wish.calls for _, wish in rows)} faults left", columns, cells))


def _here() -> list[str]:
    return [name for name in SERVERS if _directory(name).is_dir()]


def _directory(server: str) -> Path:
    return Settings().home / "mcp" / server


@contextmanager
def _book(server: str) -> Iterator[FaultBook]:
    """The server's book. Raises a usage error for a server that is none, ChimeraError for one that does not run here."""
    if server not in SERVERS:
        raise output.usage(f"there is no sandbox server '{server}': use one of {', '.join(SERVERS)}")
    elsewhere = mcp_overrides(Settings()).get(server)
    if elsewhere is not None:
        raise ChimeraError(f"server {server} is elsewhere ({elsewhere}), where nothing goes wrong on demand: unset its address")
    if not _directory(server).is_dir():
        raise ChimeraError(f"no server {server} has run in this home: `chimera up` starts it")
    with closing(FaultBook(_directory(server))) as book:
        yield book


def _tools(server: str) -> list[str]:
    """The names of a server's tools, by its profile's own servers. Imported here: listing faults should not wait for that."""
    from chimera.mcp.sandbox import feeds, ideogram, instagram, luma, midjourney, runway, search, x_tools
    from chimera.mcp.sandbox.writer.server import COMPLETE

    tools = {
        "x": x_tools.TOOLS,
        "feeds": (feeds.READ_FEED,),
        "writer": (COMPLETE,),
        "ideogram": ideogram.TOOLS,
        "midjourney": midjourney.TOOLS,
        "runway": runway.TOOLS,
        "luma": luma.TOOLS,
        "instagram": instagram.TOOLS,
        "brave": search.BRAVE_TOOLS,
        "tavily": search.TAVILY_TOOLS,
    }
    return [tool.name for tool in tools[server]]
