"""`chimera corpus`: freeze records of a real run with what they were ruled and project to; check that they still are.

The rule not to break: checking needs the corpus alone, and changes nothing in it.
Exit codes: 0 frozen or as it was, 1 different or failed, 2 usage.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from chimera.cli import output
from chimera.cli.bars import showing
from chimera.cli.options import JsonOption
from chimera.cli.past import open_log
from chimera.eventlog.moments import moment
from chimera.eventlog.read import end_offsets
from chimera.replay import copying, corpus
from chimera.replay.copying import Choice
from chimera.replay.look import find_agent
from chimera.settings import Settings
from chimera.stack.addresses import StackDown, load

app = typer.Typer(
    help="Golden corpora: freeze records with their rulings and checksums, check that they still are.", no_args_is_help=True
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A directory, or a name below corpora/ of the installation.")]


@app.command()
def freeze(
    name: NameArgument,
    agents: Annotated[list[str] | None, typer.Option("--agent", help="Only this agent; may be given more than once.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only this tenant's streams.")] = None,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="MOMENT", help="Up to this time (with its zone) or record <partition>:<offset>."),
    ] = None,
    note: Annotated[str, typer.Option("--note", help="What these records are.")] = "",
    again: Annotated[bool, typer.Option("--again", help="Keep the records; expect what this code says of them now.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write records of the log byte for byte, with rulings, versions and table checksums. Needs Postgres for the checksums.

    Example: chimera corpus freeze autumn --agent ava --agent ben --note "the example campaign"
    """
    settings = Settings()
    place = _place(settings, name)
    if again:
        _tell(place, corpus.freeze_again(place, _dsn(settings)), as_json)
        return
    log = open_log(settings)
    ends = end_offsets(log.bootstrap, log.topic)
    upto = dict(moment(log.bootstrap, log.topic, until).upto) if until else ends
    with showing("looking for agents by name") as bar:
        keys = frozenset(find_agent(log, each, bar) for each in agents or ())
    with showing("choosing records") as bar:
        plan = copying.plan(log, Choice(keys, tenant), upto, bar)
    with showing("reading them") as bar:
        records = corpus.take(log, plan, bar)
    _tell(place, corpus.freeze(place, records, len(ends), log.root_public, load(settings).postgres, note=note), as_json)


@app.command()
def check(name: NameArgument, as_json: JsonOption = False) -> None:
    """Fold the records again and build their tables: exit 1 names every ruling and table that is not what it was.

    Without a database (`chimera up`, or CHIMERA_POSTGRES) rulings and states are checked and tables are not, which it says.
    """
    settings = Settings()
    place, dsn = _place(settings, name), _dsn(settings)
    about = corpus.load(place).about
    found = corpus.check(place, dsn)
    shown: dict[str, Any] = {
        "corpus": str(place),
        "records": about["records"],
        "tables": len(about["tables"]) if dsn is not None else 0,
        "equal": not found,
        "differences": [each._asdict() for each in found],
    }
    if as_json:
        output.print_json(shown)
    else:
        said = f"{about['records']} records, {shown['tables']} tables: {'as they were' if not found else 'DIFFERENT'}"
        output.console().print(f"{place}: {said}", markup=False)
        if found:
            rows = [(each.what, each.where, each.was, each.now) for each in found[:50]]
            output.console().print(output.table(f"{len(found)} differences", ("what", "where", "was", "is"), rows))
        if dsn is None and about["tables"]:
            output.note("tables not checked: no database (`chimera up`, or CHIMERA_POSTGRES)")
    if found:
        raise typer.Exit(1)


def _place(settings: Settings, name: str) -> Path:
    path = Path(name)
    return path if "/" in name or path.is_dir() else settings.home / "corpora" / name


def _dsn(settings: Settings) -> str | None:
    if settings.postgres is not None:
        return settings.postgres
    try:
        return load(settings).postgres
    except StackDown:
        return None


def _tell(place: Path, about: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.print_json({"corpus": str(place), **about})
        return
    outcomes = ", ".join(f"{n} {word}" for word, n in about["outcomes"].items())
    size = sum(each.stat().st_size for each in place.iterdir())
    shown = {"records": about["records"], "rulings": outcomes, "tables": len(about["tables"]), "bytes": size}
    output.console().print(output.pairs(f"corpus {place}", shown))
