"""`chimera replay agent`: one agent as it was at a version or a moment, and what changed between two versions through which
records.

The rule not to break: looking changes nothing, and every state shown is the fold's own.
Exit codes: 0 shown, 1 failure (no such agent, version or moment), 2 usage.
"""

from __future__ import annotations

from typing import Annotated, Any

import orjson
import typer
from rich.text import Text

from chimera.cli import output
from chimera.cli.bars import showing
from chimera.cli.options import JsonOption
from chimera.commands.keys import load_installation
from chimera.eventlog.moments import moment
from chimera.events.envelope import Record
from chimera.events.state import Ruling
from chimera.projections.tuned import tuned
from chimera.replay import look
from chimera.replay.look import Diff, Log, Look
from chimera.settings import Settings
from chimera.stack.addresses import load_kafka

LOG = "chimera.log"


def agent(
    name: Annotated[str, typer.Argument(metavar="AGENT", help="Agent by name or stream key (a key is found at once).")],
    at_version: Annotated[
        int | None, typer.Option("--at-version", min=1, help="When its state_version reached this number.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="MOMENT", help="2026-11-22T10:00Z (with its zone), or a record <partition>:<offset>."),
    ] = None,
    diff: Annotated[
        tuple[int, int] | None, typer.Option("--diff", metavar="N M", help="What changed from version N to version M.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """One agent's state at a moment, or what changed between two versions through which records. Without options: as it is now.

    Examples: chimera replay agent ava --at-version 7 | chimera replay agent ava --at 2026-11-22T10:00Z |
    chimera replay agent ava --diff 4 9 --json
    """
    if sum(given is not None for given in (at_version, at, diff)) > 1:
        raise output.usage("choose one of --at-version, --at and --diff")
    log = open_log()
    with showing("looking for the agent by its name") as bar:
        key = look.find_agent(log, name, bar)
    with showing("folding its partition") as bar:
        if diff is not None:
            found = look.between(log, key, *diff, bar)
            output.print_json(diff_json(found)) if as_json else _print_diff(name, found)
            return
        if at_version is not None:
            seen = look.at_version(log, key, at_version, bar)
        else:
            seen = look.at_cut(log, key, moment(log.bootstrap, log.topic, at) if at else look.now(log), bar)
    output.print_json(look_json(seen)) if as_json else _print_look(name, seen)


def open_log(settings: Settings | None = None) -> Log:
    """This installation's log, for a process that is about to read much of it. Raises `StackDown`, `KeyTrouble`."""
    settings = settings or Settings()
    tuned()
    return Log(load_kafka(settings), LOG, load_installation(settings.home).root_public)


def record_json(record: Record) -> dict[str, Any]:
    """A record's identity as `--json` shows it."""
    return {
        "position": f"{record.partition}:{record.offset}",
        "time": output.when(record.append_ts),
        "append_ts": record.append_ts,
        "type": record.type,
        "id": record.id,
        "actor": record.actor,
    }


def _ruling_json(ruling: Ruling) -> dict[str, Any]:
    return {"outcome": ruling.outcome, "reason": ruling.reason, "state_version": ruling.version}


def look_json(seen: Look) -> dict[str, Any]:
    """A state as `--json` shows it."""
    return {
        "stream": seen.stream,
        "state_version": seen.version,
        "after": record_json(seen.record) | _ruling_json(seen.ruling),
        "state": seen.state,
    }


def diff_json(found: Diff) -> dict[str, Any]:
    """A difference as `--json` shows it."""
    return {
        "stream": found.stream,
        "from_version": found.before,
        "to_version": found.after,
        "fields": [
            {"field": f.path, "before": f.before, "after": f.after, "by": [record_json(r) for r in f.by]} for f in found.fields
        ],
        "records": [record_json(s.record) | _ruling_json(s.ruling) | {"fields": list(s.fields)} for s in found.steps],
    }


def _print_look(name: str, seen: Look) -> None:
    out, record = output.console(), seen.record
    ruled = f"{record.type} ({seen.ruling.outcome}) by {record.actor}, {output.when(record.append_ts)} UTC"
    head = {"stream": seen.stream, "state_version": seen.version, "after": f"{record.partition}:{record.offset} {ruled}"}
    out.print(output.pairs(f"agent {name}", head))
    out.print(
        output.pairs("\nstate (what equals its default is left out)", {k: _said(v) for k, v in look.flatten(seen.state).items()})
    )


def _print_diff(name: str, found: Diff) -> None:
    out = output.console()
    rows = [(f.path, _said(f.before), _said(f.after), ", ".join(f"{r.partition}:{r.offset}" for r in f.by)) for f in found.fields]
    out.print(
        output.table(f"agent {name}, version {found.before} -> {found.after}", ("field", "before", "after", "by records"), rows)
    )
    steps = [
        (
            f"{s.record.partition}:{s.record.offset}",
            s.record.type,
            s.ruling.outcome + (f" ({s.ruling.reason})" if s.ruling.reason else ""),
            s.ruling.version,
            s.record.actor,
            output.when(s.record.append_ts),
            len(s.fields),
            s.record.id,
        )
        for s in found.steps
    ]
    out.print(Text())
    columns = ("record", "type", "outcome", "version", "actor", "time (UTC)", "fields", "id")
    out.print(output.table(f"{len(steps)} records", columns, steps))


def _said(value: Any) -> str:
    return "-" if value is None else value if isinstance(value, str) else orjson.dumps(value).decode()


def add_to(app: typer.Typer) -> None:
    """Put these verbs into the `replay` group."""
    from chimera.cli.asof import as_of
    from chimera.cli.copying import copy
    from chimera.cli.simulating import simulate

    app.command()(agent)
    app.command("as-of")(as_of)
    app.command()(simulate)
    app.command()(copy)
