"""`chimera stack`: servers that the local stack can run beside Kafka and PostgreSQL, once they were added."""

from __future__ import annotations

import time
from typing import Annotated, Literal

import typer

from chimera.cli import output
from chimera.cli.options import DryRunOption
from chimera.settings import Settings
from chimera.stack.local import make_home
from chimera.stack.weaviate import MODULES, VERSION, binary_in, build, find_go

app = typer.Typer(help="Servers of the local stack that are added on request.", no_args_is_help=True)


@app.command()
def add(
    server: Annotated[Literal["weaviate"], typer.Argument(help="What to add.")],
    dry_run: DryRunOption = False,
) -> None:
    """Build a server from its source, once, into the home. `weaviate`: 4 to 8 minutes, 4 GB meanwhile, 140 MB after.

    Then `CHIMERA_MEMORY=weaviate chimera up` starts it with everything else, and `chimera memory rebuild` fills it.

    Example: chimera stack add weaviate
    """
    home = Settings().home.resolve()
    make_home(home)
    there = binary_in(home)
    if there is not None:
        typer.echo(f"{server} {VERSION} is there: {there}")
        return
    go = find_go()
    if dry_run:
        typer.echo(f"would build {server} {VERSION} by {go} into {home}")
        return
    began, packages = time.monotonic(), 0
    with output.console(stderr=True).status("fetching modules …") as spinner:

        def told(line: str) -> None:
            nonlocal packages
            packages += not line.startswith("go:")
            minutes, seconds = divmod(int(time.monotonic() - began), 60)
            what = f"compiled {packages} of about {MODULES} packages" if packages else "fetching modules"
            spinner.update(f"{what}, {minutes}:{seconds:02d} …")

        path = build(home, told)
    typer.echo(f"built {server} {VERSION} in {time.monotonic() - began:.0f} s: {path}")
    typer.echo("start it by CHIMERA_MEMORY=weaviate (chimera down, chimera up), then `chimera memory rebuild`")
