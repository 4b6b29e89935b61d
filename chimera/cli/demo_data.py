"""`chimera demo-data`: made-up read models in a database of their own. Exit codes: 0 done, 1 failure, 2 usage."""

from __future__ import annotations

import time
from typing import Annotated

import psycopg
import typer

from chimera.cli.options import DryRunOption, JsonOption
from chimera.cli.output import console, note, pairs, print_json
from chimera.errors import ChimeraError
from chimera.projections import demo
from chimera.settings import Settings
from chimera.stack.addresses import load


def command(
    posts: Annotated[
        int, typer.Option(min=100, help="How many posts; agents, tasks, calls, media and numbers go with them.")
    ] = 5_000,
    days: Annotated[int, typer.Option(min=1, max=366, help="Over how many days they are spread.")] = 30,
    observations: Annotated[int, typer.Option(min=1, max=200, help="Observations of each post, with four numbers each.")] = 10,
    database: Annotated[str, typer.Option(help="Name of the database; one of that name is made anew.")] = "chimera_demo",
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fill a database of its own with made-up rows, to try questions on. The log and its read models are not touched.

    Example: chimera demo-data --posts 50000
    """
    size = demo.Size(posts, days, observations)
    dsn = load(Settings()).postgres
    target = demo.address(dsn, database)
    if dry_run:
        told = {"database": database, "posts": posts, "engagement rows": posts * observations * 4, "address": target}
        print_json(told) if as_json else console().print(pairs("demo-data would make", told))
        return
    began = time.monotonic()
    try:
        counted = demo.make(dsn, database, size, lambda what: None if as_json else note(f"{what} …"))
    except psycopg.Error as error:
        raise ChimeraError(f"demo-data: {str(error).splitlines()[0]} (may this user make databases?)") from error
    told = {"database": database, **counted, "seconds": round(time.monotonic() - began, 1), "address": target}
    if as_json:
        print_json(told)
        return
    console().print(pairs("demo-data made", told))
    console().print(f"\nAsk it: CHIMERA_POSTGRES='{target}' chimera ask", markup=False, soft_wrap=True)
