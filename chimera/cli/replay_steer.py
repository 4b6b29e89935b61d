"""`chimera replay status | pause | cancel | gc`: what builds there are, having them wait or end, and dropping them.

The rule not to break: a build that somebody works on is asked, never taken away; what is dropped is shown first.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from chimera.cli.options import ActorOption, JsonOption, ReasonOption, YesOption
from chimera.cli.output import agreed, can_ask, console, print_json, table
from chimera.cli.replay_options import BuildArgument, chosen, read_models, taken_by
from chimera.projections.write import Connection
from chimera.replay import builds, survey
from chimera.replay.plan import Refused, moment, size, total
from chimera.replay.survey import Where
from chimera.settings import Settings


def pause(build: BuildArgument = None, reason: ReasonOption = "", actor: ActorOption = None, as_json: JsonOption = False) -> None:
    """Have the process that builds stop between two transactions; what is done is kept."""
    _ask("pause", build, reason, actor, as_json)


def cancel(
    build: BuildArgument = None,
    reason: ReasonOption = "",
    actor: ActorOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Give up a build that is not live: its process ends, its tables are dropped."""
    with read_models() as (_, connection):
        found = chosen(connection, build, ("planned", "loading", "indexing", "ready"), "cancel")
    if not yes and not can_ask(as_json):
        raise Refused("giving up a build wants --yes where nobody can be asked: its tables are dropped")
    agreed(f"Give up build {found.id} ({found.state}) and drop its tables?", yes, as_json)
    _ask("cancel", found.id, reason, actor, as_json)


def _ask(verb: str, build: int | None, reason: str, actor: str | None, as_json: bool) -> None:
    """Ask whoever works on the build; where nobody does, do it here."""
    with read_models() as (where, connection):
        found = chosen(connection, build, ("planned", "loading", "indexing", "ready"), verb)
        builds.note(connection, found.id, verb, actor or Settings().actor, reason)
        working = found.id in builds.at_work(connection)
        if working:
            builds.change(connection, found.id, wanted=verb)
        elif verb == "cancel":
            with builds.working(where.dsn, found.id) as database:
                database.do(lambda c: builds.drop_tables(c, found))
    done = (
        "asked for; its process obeys within a second"
        if working
        else "done: its tables are dropped"
        if verb == "cancel"
        else "nobody works on it"
    )
    if as_json:
        print_json({"build": found.id, "asked": working, "verb": verb})
    else:
        console().print(f"{verb} of build {found.id}: {done}", markup=False)


def status(as_json: JsonOption = False) -> None:
    """All builds with state, size and how far behind the log they are; every read model and the code that made it."""
    with read_models() as (where, connection):
        ends, busy = survey.ends(where), builds.at_work(connection)
        rows = [_status(where, connection, b, ends, b.id in busy) for b in builds.listed(connection) if b.state != "dropped"]
        code, acts = survey.models(), builds.acts(connection, most=10)
    if as_json:
        print_json({"builds": rows, "models": code, "acts": [a._asdict() for a in acts]})
        return
    columns = ("build", "state", "behind", "size", "made", "word")
    cells = [(r["build"], r["state"], r["behind"], size(r["bytes"]), f"{r['made_at']:%Y-%m-%d %H:%M}", r["word"]) for r in rows]
    console().print(table(f"{len(rows)} builds", columns, cells))
    live = next(r for r in rows if r["state"] == "live")
    old = sorted(name for name, digest in code.items() if live["models"] and live["models"].get(name) != digest)
    if old:
        console().print(f"made by other code than this: {', '.join(old)}; `chimera replay apply` builds them anew", markup=False)
    lines = [(f"{a.at:%Y-%m-%d %H:%M:%S}", "-" if a.build is None else a.build, a.act, a.actor, a.reason) for a in acts]
    console().print(table("Last acts", ("at (UTC)", "build", "act", "who", "why"), lines))


def _status(where: Where, connection: Connection, build: builds.Build, ends: Any, busy: bool) -> dict[str, Any]:
    there = build.state != "planned"
    written = survey.written(connection, where, build.schema) if there else {}
    word = build.error or build.held
    if not word and build.state in ("loading", "indexing") and not busy:
        word = "nobody works on it: `chimera replay resume`"
    return {
        "build": build.id, "state": build.state, "schema": build.schema, "working": busy, "behind": survey.behind(ends, written),
        "records": total(written), "bytes": taken_by(connection, build), "word": word, "models": build.models,
        "made_at": build.made_at, "loaded_at": build.loaded_at, "swapped_at": build.swapped_at,
        "checkpoints": {topic: {str(p): at for p, at in sorted(of.items())} for topic, of in written.items()},
    }  # fmt: skip


def gc(
    before: Annotated[
        str | None, typer.Option("--before", metavar="TIME", help="Only builds made before this time (with its zone).")
    ] = None,
    keep: Annotated[int, typer.Option("--keep", min=0, help="Keep so many of the youngest builds that were live.")] = 0,
    reason: ReasonOption = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be dropped; drop nothing.")] = False,
    yes: YesOption = False,
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Drop builds that are neither live nor worked on, with their tables. Example: chimera replay gc --keep 1"""
    limit = None if before is None else moment(before)
    with read_models() as (where, connection):
        busy = builds.at_work(connection)
        kept = [b for b in builds.listed(connection) if b.state == "kept"]
        spared = {b.id for b in sorted(kept, key=lambda b: b.swapped_at or b.made_at)[len(kept) - keep :]} if keep else set()
        old = [
            b
            for b in builds.listed(connection)
            if b.state not in ("live", "dropped") and b.id not in busy | spared and (limit is None or b.made_at < limit)
        ]
        sizes = {b.id: taken_by(connection, b) for b in old}
        rows = [{"build": b.id, "state": b.state, "bytes": sizes[b.id], "made_at": b.made_at} for b in old]
        if not as_json:
            cells = [(b.id, b.state, size(sizes[b.id]), f"{b.made_at:%Y-%m-%d %H:%M}") for b in old]
            console().print(table(f"{len(old)} builds to drop", ("build", "state", "size", "made"), cells))
        if dry_run or not old:
            if as_json:
                print_json({"would drop" if dry_run else "dropped": rows})
            return
        if not yes and not can_ask(as_json):
            raise Refused("dropping builds wants --yes where nobody can be asked (--dry-run shows which)")
        agreed(f"Drop {len(old)} builds for good? The log can make them again.", yes, as_json)
        for b in old:
            with builds.working(where.dsn, b.id) as database:
                database.do(lambda c, b=b: builds.drop_tables(c, b))  # type: ignore[misc]
            builds.note(connection, b.id, "gc", actor or Settings().actor, reason, bytes=sizes[b.id])
    if as_json:
        print_json({"dropped": rows})
