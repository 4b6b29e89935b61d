"""What `chimera demo` prints when the swarm is quiet: eight things, each with the command that goes on from there.

The rule not to break: everything shown was read back from the read models or the log, nothing is remembered from before.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from chimera.commands.verbs import Reply
from chimera.errors import ChimeraError
from chimera.projections import read
from chimera.stack.addresses import Addresses
from chimera.stack.postgres import server_binaries


def summary(addresses: Addresses, home: Path, cards: Sequence[Reply], look: Reply, invitation: tuple[str, str]) -> Group:
    """The eight parts. `cards` as `review.list` gives them, `look` as `fleet.status` does; `invitation`: a person, and the address
    by which Mission Control lets them in."""
    dsn, me = addresses.postgres, program(home)
    posts = read.posts(dsn)
    first = posts[0]["card"] if posts else "RECORD_ID"
    return Group(
        *_part("1  Published", _posts(posts)),
        *_part("2  Waiting for people", *_cards(cards, read.cards(dsn), me)),
        *_part("3  Tried again", _retries(read.retries(dsn))),
        *_part("4  Records that did not count", _uncounted(read.rejections(dsn), read.voids(dsn), look)),
        *_part("5  Ask the read models", f"{_psql()} {shlex.quote(dsn)}", f"{me} ask", f"{me} ask posts"),
        *_part(
            "6  Prove it",
            f"{me} replay verify",
            f"{me} audit export --out {shlex.quote(str(home / 'export'))}",
            f"{me} audit verify {shlex.quote(str(home / 'export'))}",
        ),
        *_part("7  Where things are", *_places(addresses, home, me, invitation)),
        *_part(
            "8  Go on",
            f"{me} fleet status --watch",
            f"{me} events trace {first}",
            f"{me} campaign start -f BRIEF.yaml --all",
            "make run ARGS='--feed https://example.org/feed.xml'",
        ),
    )


def program(home: Path) -> str:
    """How to call this program from where the user stands, on this home."""
    found = shutil.which("chimera")
    here = Path(sys.argv[0])
    if found and Path(found).resolve() == here.resolve():
        called = "chimera"
    else:
        called = str(here.relative_to(Path.cwd())) if here.is_absolute() and here.is_relative_to(Path.cwd()) else str(here)
    return shlex.quote(called) if home == (Path.cwd() / ".chimera") else f"{shlex.quote(called)} --home {shlex.quote(str(home))}"


def _psql() -> str:
    """The system's psql, else the one that came with the local PostgreSQL."""
    if shutil.which("psql"):
        return "psql"
    try:
        return shlex.quote(str(server_binaries() / "psql"))
    except ChimeraError:
        return "psql"


def _part(title: str, *said: RenderableType) -> list[RenderableType]:
    """A title, and what is said below it, indented. A string is there to be copied and stands whole on its line, however narrow the
    terminal; whoever prints it must not crop.
    """
    return [
        Text(f"\n{title}", style="bold cyan"),
        *(
            Text(f"   {each}", style="green", no_wrap=True, overflow="ignore")
            if isinstance(each, str)
            else Padding(each, (0, 0, 0, 3))
            for each in said
        ),
    ]


def _posts(posts: read.Rows) -> RenderableType:
    if not posts:
        return Text("nothing yet")
    shown: list[RenderableType] = []
    for post in posts:
        who = Text.assemble((f"{post['agent']} ", "bold"), f"as {post['account']}", (f"  {_why(post['why'])}", "dim"))
        shown += [
            who,
            Padding(Text(post["text"]), (0, 0, 0, 2)),
            Padding(Text(post["url"] or "–", style="blue"), (0, 0, 0, 2)),
        ]
    return Group(*shown)


def _why(why: str) -> str:
    return "by itself: above the threshold, nothing sensitive" if why == "automatic" else f"approved by a person ({why})"


def _cards(cards: Sequence[Reply], told: read.Rows, me: str) -> list[RenderableType]:
    if not cards:
        return [Text("no card waits")]
    texts = {row["card"]: row for row in told}
    table = Table(box=None, pad_edge=False, show_header=True, header_style="dim")
    for column in ("card", "why", "confidence", "text"):
        table.add_column(column, overflow="fold", ratio=1 if column == "text" else None)
    for card in (seen["card"] for seen in cards):
        row = texts.get(card["card"], {})
        confidence = row.get("confidence")
        tags = f" ({', '.join(row['risk_tags'])})" if row.get("risk_tags") else ""
        score = f"{confidence:.3f}" if confidence is not None else "–"
        text = Text(" ".join(str(row.get("text", "")).split()))
        table.add_row(card["card"], Text(f"{card['why']}{tags}"), score, text)
    address = cards[0]["card"]["card"]
    return [
        table,
        Text("decide each one:", style="dim"),
        f"{me} review show {address}",
        f"{me} review approve {address} --as kim",
        f"{me} review edit {address} --as kim --text 'BETTER TEXT'",
        f"{me} review reject {address} --as kim --reason off_brand",
    ]


def _retries(retries: read.Rows) -> RenderableType:
    if not retries:
        return Text("nothing had to be tried again")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("agent", "task", "attempt", "why"):
        table.add_column(column, overflow="fold", ratio=1 if column == "why" else None)
    for row in retries:
        said = "; ".join(row["said"] or []) or row["cause"]
        task = Text(f"{row['campaign']}.{row['ordinal']} {row['title']}")
        table.add_row(row["agent"], task, str(row["attempt"]), Text(f"{row['reason']}: {said}"))
    return table


def _uncounted(rejections: read.Rows, voids: read.Rows, look: Reply) -> RenderableType:
    lines = [f"rejected: {row['records']} × {row['type']}, {row['reason']}" for row in rejections]
    lines += [f"void: {row['records']} × {row['type'] or 'unreadable'}, {row['reason']}" for row in voids]
    counts = f"{look['rulings'].get('applied', 0)} of {look['records']} records applied"
    return Text("\n".join([counts, *lines] if lines else [f"{counts}: none rejected, none void"]))


def _places(addresses: Addresses, home: Path, me: str, invitation: tuple[str, str]) -> list[RenderableType]:
    """Where things are. The link stands on a line of its own."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    person, link = invitation
    for name, value in (
        ("timeline", addresses.mcp.get("x", "–").removesuffix("/mcp") + "/"),
        ("data", str(home)),
        ("logs", f"{home / 'logs'}   ({me} logs NAME)"),
        ("Kafka", addresses.kafka),
    ):
        grid.add_row(Text(name, style="dim"), value)
    told = f"signs you in as {person}, once, within 15 minutes; then: {me} control link {person}"
    desk = Text("Mission Control", style="dim")
    return [desk, link, Text(told), grid]
