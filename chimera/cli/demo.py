"""`chimera demo` (`make run`): from nothing to published posts, with everything that happened told at the end.

The rule not to break: it does nothing that the other verbs cannot do; it starts the stack, gives the commands and looks.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import psycopg
import typer
from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from chimera.cli.folding import open_desk
from chimera.cli.quiet import Quiet, is_quiet
from chimera.cli.stack import start as start_stack
from chimera.cli.summary import program, summary
from chimera.commands import campaigns, verbs
from chimera.commands.feeds import keep_feeds
from chimera.commands.verbs import Reply
from chimera.commands.wiring import OpenDesk
from chimera.control.access import EVERY_TENANT
from chimera.control.accounts import Accounts
from chimera.errors import ChimeraError
from chimera.policy.brief import Brief, is_address, load_brief
from chimera.projections import read
from chimera.settings import Settings
from chimera.stack.addresses import Addresses, control_url
from chimera.stack.addresses import load as load_addresses
from chimera.stack.local import LocalStack

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
LONGEST_WAIT_S = 600.0
LOOK_S = 0.25
QUIET_LOOKS = 3
"""So many looks in a row must find the swarm quiet."""


class NotQuiet(ChimeraError):
    """The swarm did not come to rest in time."""


def command(
    once: Annotated[bool, typer.Option("--once", help="End when the swarm is quiet (exit 0) instead of running on.")] = False,
    fleet: Annotated[Path, typer.Option(help="Agents to enrol.")] = EXAMPLES / "fleet.yaml",
    brief: Annotated[Path, typer.Option(help="Campaign to start.")] = EXAMPLES / "briefs" / "autumn.yaml",
    feed: Annotated[
        list[str] | None, typer.Option("--feed", help="RSS/Atom address or file to work from instead of the brief's; repeatable.")
    ] = None,
) -> None:
    """Start the local stack, enrol the example fleet, run its campaign, and tell what came of it.

    Run again, it goes on where it stopped. Example: chimera demo --feed https://example.org/feed.xml --once
    """
    console = Console()
    settings = Settings()
    wanted = _brief(brief, feed)
    console.rule("[bold]Chimera[/bold]: nothing leaves without a recorded decision")
    with LocalStack(settings) as stack:
        try:
            with console.status("starting …") as spinner:
                start_stack(stack, lambda text: spinner.update(text))
                addresses = load_addresses(settings)
                spinner.update("enrolling the fleet")
                stack.run_step("agent", "enrol", "-f", str(fleet))
            console.print(f"Kafka {addresses.kafka}, PostgreSQL and {len(stack.states())} processes run; data in {stack.home}")
            began = time.monotonic()
            with open_desk(settings) as desk:
                console.print(_start_campaign(desk, wanted, settings))
                look = _watch(console, desk, addresses, stack, until_quiet=True)
                cards = desk.ask(verbs.CardList())["cards"]
                console.print(summary(addresses, stack.home, cards, look, _invitation(settings, cards)), crop=False)
                console.print(f"\nquiet after {time.monotonic() - began:.1f} s")
                if once:
                    console.print(f"the stack stops now; `{program(stack.home)} up --detach` brings it back for the commands above")
                    return
                console.print("[bold]It keeps running.[/bold] Ctrl-C stops every process; data stay, and the next run goes on.\n")
                _watch(console, desk, addresses, stack, until_quiet=False)
        except (KeyboardInterrupt, SystemExit):
            console.print("\nstopping …")
    console.print(f"stopped; data stay in {settings.home.resolve()}, `make run` goes on")


def _brief(path: Path, feeds: Sequence[str] | None) -> Brief:
    """The brief, on the user's feeds where given: then under a name of its own."""
    brief = load_brief(path)
    if not feeds:
        return brief
    absolute = [feed if is_address(feed) else str(Path(feed).resolve()) for feed in feeds]
    names = ", ".join(Path(feed).name or feed for feed in feeds)
    return brief.model_copy(update={"feeds": absolute, "name": f"{brief.name} ({names})"[:120]})


def _start_campaign(desk: OpenDesk, brief: Brief, settings: Settings) -> str:
    """Start it for the agents that have not had it yet; a second run finds it there and goes on."""
    id_ = campaigns.campaign_id(brief.name)
    had = {name for row in desk.ask(verbs.CampaignList())["campaigns"] if row["campaign_id"] == id_ for name in row["agents"]}
    known = [row["name"] for row in desk.ask(verbs.AgentList())["agents"] if row["status"] != "retired"]
    chosen = tuple(name for name in known if name not in had)
    if not chosen:
        return f"campaign {id_} is there already: going on (another: `chimera campaign start -f BRIEF --all`)"
    body = keep_feeds(brief, settings.home).model_dump(mode="json")
    answers = verbs.answers_of(desk.ask(verbs.wish(verbs.CampaignStart, settings.actor, brief=body, names=chosen)))
    refused = [f"{name}: {answer.reason}" for name, answer in answers if answer.outcome != "applied"]
    if refused:
        raise ChimeraError(f"campaign {id_} was not started for {'; '.join(refused)}")
    return f"campaign {id_}: {len(chosen)} agents work on “{brief.goal}”"


def _invitation(settings: Settings, cards: Sequence[Reply]) -> tuple[str, str]:
    """Whom Mission Control lets in, and the address that does so once: the first whom the policy names for a card that waits."""
    accounts = Accounts(settings.home)
    known = [name for name, _, _, _ in accounts.listed()]
    wanted = next((name for seen in cards for name in seen["card"]["approvers"]), settings.actor)
    name = known[0] if known and wanted not in known else wanted
    if name not in known:
        accounts.put(name, {EVERY_TENANT: ["moderator", "operator"]})
    return name, f"{control_url(settings.home)}/enter/{accounts.link(name)}"


def _watch(console: Console, desk: OpenDesk, addresses: Addresses, stack: LocalStack, *, until_quiet: bool) -> Reply:
    """Show the swarm at work until it is quiet, or until Ctrl-C; the last look at the fleet."""
    look = desk.ask(verbs.FleetStatus())
    looks, deadline = 0, time.monotonic() + LONGEST_WAIT_S
    before, at, rate = look["records"], time.monotonic(), 0.0
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            time.sleep(LOOK_S)
            look, quiet = desk.ask(verbs.FleetStatus()), _quiet(addresses, stack.home)
            now = time.monotonic()
            if now - at >= 1.0:
                rate, before, at = (look["records"] - before) / (now - at), look["records"], now
            live.update(_page(look, rate, quiet), refresh=True)
            stack.states()  # raises when the supervisor itself has failed
            looks = looks + 1 if quiet.is_quiet else 0
            if until_quiet and looks >= QUIET_LOOKS:
                return look
            if until_quiet and now > deadline:
                raise NotQuiet(f"not quiet after {LONGEST_WAIT_S:.0f} s: {quiet.why_not}; see `chimera status` and {stack.logs}")


def _quiet(addresses: Addresses, home: Path) -> Quiet:
    """The projector makes its tables when it first starts: until then there is nothing to be caught up."""
    try:
        lag = read.lag(addresses.postgres, addresses.kafka)
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return Quiet(False, "the projector makes its tables")
    except psycopg.OperationalError:
        return Quiet(False, "PostgreSQL does not answer")
    return is_quiet(addresses.kafka, home, lag)


def _page(look: Reply, rate: float, quiet: Quiet) -> Group:
    """The live picture: tasks by state, reviews waiting, effects, records per second."""
    grid = Table.grid(padding=(0, 2))
    for name, value in (
        ("tasks", _counted(look["tasks"])),
        ("reviews waiting", str(look["cards_waiting"])),
        ("effects", _counted({**look["effects_open"], "executed": look["executed"] or 0})),
        ("records", f"{look['records']} ({_counted(look['rulings'])}), {rate:.0f}/s"),
        ("now", "quiet" if quiet.is_quiet else quiet.why_not),
    ):
        grid.add_row(Text(name, style="bold"), value)
    return Group(Spinner("dots", "the swarm works" if not quiet.is_quiet else "the swarm rests"), Padding(grid, (0, 2)))


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {word}" for word, n in sorted(counts.items(), key=lambda item: -item[1]) if n) or "–"
