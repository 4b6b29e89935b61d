"""`chimera replay as-of`: a read-only past for analysts, made from the log; which there are, who looks at one, and dropping it.

The rule not to break: the live read models are neither read nor written here.
Exit codes: 0 done, 1 failure, 2 usage, 3 not done (nobody said yes).
"""

from __future__ import annotations

import os
from typing import Annotated, Any

import psycopg
import typer

from chimera.cli import output
from chimera.cli.bars import showing
from chimera.cli.options import ActorOption, JsonOption, YesOption
from chimera.cli.past import open_log
from chimera.errors import ChimeraError
from chimera.eventlog.moments import moment, said
from chimera.projections.checkpoints import connect
from chimera.projections.write import Connection
from chimera.replay import asof
from chimera.replay.asof import Past
from chimera.settings import Settings
from chimera.stack.addresses import load


def as_of(
    at: Annotated[
        str | None, typer.Argument(metavar="MOMENT", help="2026-11-22T10:00Z (with its zone), or a record <partition>:<offset>.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="What to call it (default: its moment).")] = None,
    list_all: Annotated[bool, typer.Option("--list", help="The pasts that there are.")] = False,
    use: Annotated[str | None, typer.Option("--use", metavar="PAST", help="Point an analyst at it; 'now' leads back.")] = None,
    analyst: Annotated[str | None, typer.Option("--analyst", help="Whom --use points.")] = None,
    drop: Annotated[str | None, typer.Option("--drop", metavar="PAST", help="Drop it; the log can always make it again.")] = None,
    processes: Annotated[int, typer.Option("--processes", min=1, help="How many fold side by side.")] = min(2, os.cpu_count() or 1),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be made or dropped; do nothing.")] = False,
    yes: YesOption = False,
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build the read models and the analysts' views as they were, read-only and under the same guard, in the schema asof_<name>.

    Examples: chimera replay as-of 2026-11-22T10:00Z --name before | chimera sql --past before -c "SELECT count(*) FROM posts" |
    chimera replay as-of --use before --analyst ana | chimera replay as-of --drop before
    """
    asked = sum((at is not None, list_all, use is not None, drop is not None))
    if asked != 1:
        raise output.usage("give one of: a moment, --list, --use, --drop")
    if (use is None) != (analyst is None):
        raise output.usage("--use PAST and --analyst NAME belong together (`chimera sql --past PAST` looks without either)")
    settings = Settings()
    dsn = load(settings).postgres
    if at is not None:
        _make(dsn, at, name, actor or settings.actor, processes, dry_run, as_json)
        return
    with connect_or_say(dsn) as connection:
        if use is not None and analyst is not None:
            past = None if use == asof.NOW else asof.find(connection, use)
            if not dry_run:
                asof.use(connection, analyst, past)
            shown = {"analyst": analyst, "sees": "now" if past is None else past.name, "done": not dry_run}
            output.print_json(shown) if as_json else output.console().print(
                output.pairs("from their next session on", {k: v for k, v in shown.items() if k != "done"})
            )
            return
        if drop is None:
            _list(asof.pasts(connection), as_json)
            return
        past = asof.find(connection, drop)
    _remove(dsn, past, dry_run, yes, as_json)


def _make(dsn: str, at: str, name: str | None, by: str, processes: int, dry_run: bool, as_json: bool) -> None:
    log = open_log()
    cut = moment(log.bootstrap, log.topic, at)
    called = name or asof.name_for(cut)
    asof.check_name(called)
    shown: dict[str, Any] = {"past": called, "schema": asof.PREFIX + called, "time": said(cut.ts), "records": cut.records}
    if dry_run:
        _tell("would be made", shown | {"cut": {str(p): o for p, o in cut.upto.items()}}, as_json)
        return
    with showing("folding the log up to that moment") as bar:
        past = asof.make(
            log.bootstrap, dsn, log.root_public, log.topic, cut, name=called, asked=at, by=by, processes=processes, progress=bar
        )
    if as_json:
        output.print_json(asof.told(past))
        return
    _tell("made, read-only", shown | {"look": f'chimera sql --past {called} -c "SELECT count(*) FROM posts"'}, as_json)


def _remove(dsn: str, past: Past, dry_run: bool, yes: bool, as_json: bool) -> None:
    shown = asof.told(past)
    if dry_run:
        _tell("would be dropped", shown, as_json)
        return
    output.agreed(f"Drop past {past.name} ({past.bytes / 1e6:.1f} MB)?", yes, as_json)
    asof.remove(dsn, past)
    _tell("dropped", shown, as_json)


def _list(found: list[Past], as_json: bool) -> None:
    if as_json:
        output.print_json([asof.told(past) for past in found])
        return
    columns = ("past", "moment (UTC)", "records", "MB", "made", "by", "used by")
    rows = [
        (
            past.name if past.whole else f"{past.name} (not whole: drop it)",
            said(past.ts) if past.ts else "?",
            past.records,
            f"{past.bytes / 1e6:.1f}",
            past.made_at,
            past.made_by,
            ", ".join(past.used_by) or "-",
        )
        for past in found
    ]
    output.console().print(output.table(f"{len(found)} pasts", columns, rows))


def _tell(title: str, shown: dict[str, Any], as_json: bool) -> None:
    output.print_json(shown | {"outcome": title}) if as_json else output.console().print(output.pairs(title, shown))


def connect_or_say(dsn: str) -> Connection:
    """As the owner of the read models. Raises `ChimeraError` where the database does not answer."""
    try:
        return connect(dsn)
    except psycopg.OperationalError as error:
        raise ChimeraError(f"no database: {str(error).splitlines()[0]} (`chimera status` says whether it is up)") from error
