"""What the verbs of builds share: options, which build is meant, where everything is, and a line that says how far it is.

The rule not to break: an option reads and works alike in every verb that has it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import psycopg
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from chimera import failpoints
from chimera.commands.keys import load_installation
from chimera.errors import ChimeraError
from chimera.projections.checkpoints import connect
from chimera.projections.parts import home_of
from chimera.projections.write import Connection
from chimera.replay import builds, survey
from chimera.replay.builds_run import Tally
from chimera.replay.plan import Refused
from chimera.replay.survey import Where
from chimera.settings import Settings
from chimera.stack.addresses import load

BuildArgument = Annotated[
    int | None, typer.Argument(metavar="BUILD", help="Number, as `replay status` shows it; default: the newest.")
]
AgentOption = Annotated[
    str | None, typer.Option("--agent", metavar="NAME", help="Only repair the rows of this agent (or stream key).")
]
TenantOption = Annotated[
    str | None, typer.Option("--tenant", metavar="NAME", help="Only repair the rows of this tenant and its agents.")
]
ProcessesOption = Annotated[int, typer.Option("--processes", min=1, max=24, help="How many processes load partitions in parallel.")]
RateOption = Annotated[
    float, typer.Option("--max-rate", min=0, help="Records per second over all processes; 0 = as fast as it goes.")
]
YieldOption = Annotated[
    int, typer.Option("--yield-at", min=0, help="Hold while the live read models are so many records behind; 0 = never.")
]
LagOption = Annotated[int, typer.Option("--max-lag", min=0, help="How many records a build may be behind the log.")]
PatienceOption = Annotated[float, typer.Option("--patience", min=1, help="Seconds to try for.")]


def chosen(connection: Connection, build: int | None, states: tuple[str, ...], verb: str) -> builds.Build:
    """The build that was named, or the newest that is in one of these states. Raises `Refused`."""
    if build is None:
        return builds.newest(connection, states, verb)
    found = builds.get(connection, build)
    if found.state not in states:
        raise Refused(f"build {build} is {found.state}; to {verb} it, it would have to be {' or '.join(states)}")
    return found


@contextmanager
def read_models() -> Iterator[tuple[Where, Connection]]:
    """Where everything is, and a connection. Raises `ChimeraError` where the database does not answer."""
    settings = Settings()
    failpoints.arm(settings.home, "replay")
    addresses = load(settings)
    where = Where(addresses.kafka, addresses.postgres, load_installation(settings.home).root_public)
    try:
        with connect(where.dsn) as connection:
            yield where, connection
    except psycopg.OperationalError as error:
        raise ChimeraError(
            f"the database did not answer: {str(error).splitlines()[0]} (`chimera status` says whether it is up)"
        ) from error


@contextmanager
def bar(quiet: bool) -> Iterator[Callable[[Tally], None]]:
    """A line that says how far it is, at which rate, for how long still."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, console=Console(stderr=True), disable=quiet or not sys.stderr.isatty()) as bar:
        task = bar.add_task("planning", total=None, rate="")

        def tell(t: Tally) -> None:
            left = "" if t.eta_s is None else f"{t.rate:,.0f}/s, {span(t.eta_s)} left"
            bar.update(task, description=t.step, completed=t.done, total=t.total, rate=t.held or left)

        yield tell


def span(seconds: float) -> str:
    """A length of time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def taken_by(connection: Connection, build: builds.Build) -> int:
    """Bytes of a build's tables."""
    return survey.size_of(connection, build.schema) + survey.size_of(connection, home_of(build.schema))
