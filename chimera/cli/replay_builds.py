"""`chimera replay plan | apply | status | ...`: builds of the read models beside the live ones, and repairs in place.

The rule not to break: replay reads the log and writes tables of its own; only `swap`, `rollback` and a repair change what readers
see, each in one transaction, and each says who and why.
Exit codes: 0 done, 1 failed, refused or different, 2 usage, 3 not confirmed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import psycopg
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from chimera import failpoints
from chimera.cli.options import ActorOption, JsonOption, ReasonOption, YesOption
from chimera.cli.output import NOT_COUNTED, console, pairs, print_json, table
from chimera.commands.keys import load_installation
from chimera.errors import ChimeraError
from chimera.projections.checkpoints import connect
from chimera.projections.parts import home_of
from chimera.projections.write import Connection
from chimera.replay import builds, builds_run, repair, survey
from chimera.replay.builds_follow import following
from chimera.replay.builds_run import Pacing, Tally
from chimera.replay.compare import Comparison, compare
from chimera.replay.plan import Plan, Refused, check, make_plan, moment, size, total
from chimera.replay.survey import Where
from chimera.replay.swap import swap as swap_in
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


def add_to(app: typer.Typer) -> None:
    """Make these the verbs of `chimera replay`."""
    for verb in (plan, apply, status, pause, resume, cancel, diff, swap, rollback, gc):
        app.command()(verb)


def plan(
    agent: AgentOption = None, tenant: TenantOption = None, processes: ProcessesOption = 1, as_json: JsonOption = False
) -> None:
    """What a build of all read models would read, take and need; or, with --agent/--tenant, what a repair would.

    The plan is kept under a number, for `apply`. Example: chimera replay plan --processes 2
    """
    with _database() as (where, connection):
        if agent is not None or tenant is not None:
            _show_repair(where, connection, agent, tenant, as_json)
            return
        found = _plan(where, connection)
        build = builds.add(connection, found, survey.models())
        builds.note(connection, build.id, "plan", Settings().actor, "")
    if as_json:
        print_json({"build": build.id, **found.as_json()})
        return
    console().print(pairs(f"Build {build.id}, planned", _said(found, processes)))
    console().print(f"chimera replay apply {build.id} --reason '...'", markup=False)


def _plan(where: Where, connection: Connection) -> Plan:
    facts = survey.facts(connection, where)
    found = make_plan(facts, survey.models())
    check(found, facts)
    return found


def _said(found: Plan, processes: int) -> dict[str, object]:
    free = "unknown: the database is not on this machine" if found.free_bytes is None else size(found.free_bytes)
    return {
        "cluster": found.cluster,
        "models": ", ".join(found.models),
        "records": f"{found.records:,} from offset 0 of {sum(map(len, found.ends.values()))} partitions",
        "disk": f"about {size(found.bytes)}, and a quarter more to be safe; free: {free}",
        "time": f"about {_span(found.seconds / processes)} by {processes} process{'es' if processes > 1 else ''}",
    }


def _show_repair(where: Where, connection: Connection, agent: str | None, tenant: str | None, as_json: bool) -> None:
    streams = repair.chosen(connection, where, agent, tenant)
    at = survey.written(connection, where, "core")[where.log]
    due = sum(at.get(p, 0) for p in {s.partition for s in streams})
    if as_json:
        print_json({"repair": [s._asdict() for s in streams], "records": due})
        return
    console().print(
        table(
            f"A repair of {len(streams)} in place", ("name", "stream", "partition"), [(s.name, s.key, s.partition) for s in streams]
        )
    )
    console().print(
        f"{due} records to read; one transaction for each. `chimera replay apply` with the same selector does it", markup=False
    )


def apply(
    build: BuildArgument = None,
    reason: ReasonOption = "",
    agent: AgentOption = None,
    tenant: TenantOption = None,
    processes: ProcessesOption = 1,
    max_rate: RateOption = 0.0,
    yield_at: YieldOption = 5_000,
    max_lag: LagOption = 1_000,
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build all read models anew beside the live ones (planning first where no plan waits); or repair some rows in place.

    Readers notice nothing until `swap`. Whatever dies on the way, giving it again goes on.
    Example: chimera replay apply --processes 2 --reason 'column added'
    """
    if not reason.strip():
        raise typer.BadParameter("say why, with --reason: it is kept with the build")
    with _database() as (where, connection):
        by = actor or Settings().actor
        if agent is not None or tenant is not None:
            _repair(where, connection, agent, tenant, by, reason, as_json)
            return
        found = _to_apply(where, connection, build)
        builds.note(connection, found, "apply", by, reason, processes=processes, max_rate=max_rate)
    _carry_out(where, found, Pacing(processes, max_rate, yield_at, max_lag), as_json)


def _to_apply(where: Where, connection: Connection, build: int | None) -> int:
    if build is not None:
        return builds.get(connection, build).id
    waiting = [b for b in builds.listed(connection) if b.state in ("planned", "loading", "indexing")]
    if waiting:
        return waiting[-1].id
    return builds.add(connection, _plan(where, connection), survey.models()).id


def _carry_out(where: Where, build: int, pacing: Pacing, as_json: bool) -> None:
    with _bar(as_json) as tell:
        builds_run.carry_out(where, build, pacing, tell)
    with connect(where.dsn) as connection:
        done = next((act for act in builds.acts(connection, build) if act.act == "loaded"), None)
    if as_json:
        print_json({"build": build, "state": "ready", "loaded": None if done is None else done.detail})
        return
    if done is not None:
        d = done.detail
        speed = f"{d['per_process_per_s']:,} a second and process"
        console().print(
            f"build {build} is ready: {d['records']:,} records in {_span(d['seconds'])} by {d['processes']}, {speed}", markup=False
        )
    console().print(f"chimera replay diff {build}\nchimera replay swap {build} --reason '...'", markup=False)


def _repair(
    where: Where, connection: Connection, agent: str | None, tenant: str | None, by: str, reason: str, as_json: bool
) -> None:
    streams = repair.chosen(connection, where, agent, tenant)
    with _bar(as_json) as tell:
        made = repair.repair(where, connection, streams, lambda done, due: tell(Tally("repairing", done, due, 0.0, "")))
    builds.note(connection, None, "repair", by, reason, streams=[r.stream.key for r in made])
    if as_json:
        print_json({"repaired": [{**r.stream._asdict(), **r._asdict(), "stream": r.stream.key} for r in made]})
        return
    rows = [(r.stream.name, r.records, r.rows_before, r.rows_after) for r in made]
    console().print(table(f"{len(made)} repaired", ("name", "records", "rows before", "rows after"), rows))


def resume(
    build: BuildArgument = None,
    processes: ProcessesOption = 1,
    max_rate: RateOption = 0.0,
    yield_at: YieldOption = 5_000,
    max_lag: LagOption = 1_000,
    reason: ReasonOption = "",
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with a build that was paused, or whose process died, from its checkpoints."""
    with _database() as (where, connection):
        found = _one(connection, build, ("loading", "indexing", "ready"), "resume")
        builds.note(connection, found.id, "resume", actor or Settings().actor, reason)
    _carry_out(where, found.id, Pacing(processes, max_rate, yield_at, max_lag), as_json)


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
    with _database() as (_, connection):
        found = _one(connection, build, ("planned", "loading", "indexing", "ready"), "cancel")
    if not yes and console().is_terminal and not typer.confirm(f"Give up build {found.id} ({found.state}) and drop its tables?"):
        raise typer.Exit(NOT_COUNTED)
    _ask("cancel", found.id, reason, actor, as_json)


def _ask(verb: str, build: int | None, reason: str, actor: str | None, as_json: bool) -> None:
    """Ask whoever works on the build; where nobody does, do it here."""
    with _database() as (where, connection):
        found = _one(connection, build, ("planned", "loading", "indexing", "ready"), verb)
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
    with _database() as (where, connection):
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
        "records": total(written), "bytes": _size(connection, build), "word": word, "models": build.models,
        "made_at": build.made_at, "loaded_at": build.loaded_at, "swapped_at": build.swapped_at,
        "checkpoints": {topic: {str(p): at for p, at in sorted(of.items())} for topic, of in written.items()},
    }  # fmt: skip


def _size(connection: Connection, build: builds.Build) -> int:
    return survey.size_of(connection, build.schema) + survey.size_of(connection, home_of(build.schema))


def diff(
    build: BuildArgument = None,
    samples: Annotated[int, typer.Option("--samples", min=0, max=100, help="Rows to show of each table that differs.")] = 3,
    as_json: JsonOption = False,
) -> None:
    """Compare a build with the live read models at the same offsets: rows, checksums, columns, samples. Exit 1 when they differ."""
    with _database() as (where, connection):
        found = _one(connection, build, ("ready", "kept"), "compare")
    with builds.working(where.dsn, found.id), following(where, found) as follower:
        compared = compare(follower, samples=samples)
        follower.save()
    if as_json:
        print_json({"equal": compared.equal, **compared._asdict(), "tables": [t._asdict() for t in compared.tables]})
    else:
        _print_diff(compared)
    if not compared.equal:
        raise typer.Exit(1)


def _print_diff(c: Comparison) -> None:
    rows = [(t.table, t.live_rows, t.build_rows, "equal" if t.equal else "DIFFERENT", ", ".join(t.columns)) for t in c.tables]
    title = f"The live read models and build {c.build}, both of {c.records:,} records"
    console().print(table(title, ("table", "live rows", "build's rows", "checksum", "columns that differ"), rows))
    for t in c.tables:
        for sample in t.samples:
            console().print(
                f"{t.table} {sample['key']} (chimera.log[{sample['partition']}]{sample['offset']}): [live, build]", markup=False
            )
            for name, both in sample["differs"].items():
                console().print(f"  {name}: {both!r}", markup=False)
    for word, parked in (("the live side lacks", c.parked), ("the build lacks", c.parked_in_build)):
        for p in parked:
            console().print(f"parked, not compared: {word} {p.model} of {p.stream}: {p.reason}", markup=False)


def swap(
    build: BuildArgument = None,
    reason: ReasonOption = "",
    max_lag: LagOption = 1_000,
    patience: PatienceOption = 30.0,
    actor: ActorOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a build live in one transaction, while everything runs; what was live is kept for `rollback`.

    Example: chimera replay swap --reason 'column added'
    """
    _swap("swap", build, ("ready",), reason, max_lag, patience, actor, yes, as_json)


def rollback(
    build: BuildArgument = None,
    reason: ReasonOption = "",
    max_lag: LagOption = 1_000,
    patience: PatienceOption = 300.0,
    actor: ActorOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Go back to the build that was live before: it catches up with the log first, then takes its place as in `swap`."""
    _swap("rollback", build, ("kept",), reason, max_lag, patience, actor, yes, as_json)


def _swap(
    verb: str,
    build: int | None,
    states: tuple[str, ...],
    reason: str,
    max_lag: int,
    patience_s: float,
    actor: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    if not reason.strip():
        raise typer.BadParameter("say why, with --reason: it is kept with the build")
    with _database() as (where, connection):
        found = _last_live(connection) if verb == "rollback" and build is None else _one(connection, build, states, verb)
        behind = survey.behind(survey.ends(where), survey.written(connection, where, found.schema))
    if not as_json:
        console(stderr=True).print(f"build {found.id} is {behind} records behind the log: catching up", markup=False)
    if not yes and not as_json and console().is_terminal and not typer.confirm(f"Make build {found.id} the live one?"):
        raise typer.Exit(NOT_COUNTED)
    done = swap_in(where, found, actor=actor or Settings().actor, reason=reason, act=verb, max_lag=max_lag, patience_s=patience_s)
    if as_json:
        print_json(done._asdict())
        return
    held = f"tables were locked for {done.locked_ms:.0f} ms"
    console().print(f"build {done.live} is live with {done.records:,} records; {held}, at try {done.tries}", markup=False)
    console().print(
        f"build {done.kept} is kept: `chimera replay rollback` goes back to it, `chimera replay gc` drops it", markup=False
    )


def _last_live(connection: Connection) -> builds.Build:
    kept = [b for b in builds.listed(connection) if b.state == "kept"]
    if not kept:
        raise Refused("there is nothing to go back to: no build that was live is kept (`chimera replay status`)")
    return max(kept, key=lambda b: (b.swapped_at is not None and b.swapped_at.timestamp()) or 0.0)


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
    with _database() as (where, connection):
        busy = builds.at_work(connection)
        kept = [b for b in builds.listed(connection) if b.state == "kept"]
        spared = {b.id for b in sorted(kept, key=lambda b: b.swapped_at or b.made_at)[len(kept) - keep :]} if keep else set()
        old = [
            b
            for b in builds.listed(connection)
            if b.state not in ("live", "dropped") and b.id not in busy | spared and (limit is None or b.made_at < limit)
        ]
        sizes = {b.id: _size(connection, b) for b in old}
        rows = [{"build": b.id, "state": b.state, "bytes": sizes[b.id], "made_at": b.made_at} for b in old]
        if not as_json:
            cells = [(b.id, b.state, size(sizes[b.id]), f"{b.made_at:%Y-%m-%d %H:%M}") for b in old]
            console().print(table(f"{len(old)} builds to drop", ("build", "state", "size", "made"), cells))
        if dry_run or not old:
            if as_json:
                print_json({"would drop": rows})
            return
        if not yes:
            if as_json or not console().is_terminal:
                raise Refused("dropping builds wants --yes where nobody can be asked (--dry-run shows which)")
            if not typer.confirm(f"Drop {len(old)} builds for good? The log can make them again."):
                raise typer.Exit(NOT_COUNTED)
        for b in old:
            with builds.working(where.dsn, b.id) as database:
                database.do(lambda c, b=b: builds.drop_tables(c, b))  # type: ignore[misc]
            builds.note(connection, b.id, "gc", actor or Settings().actor, reason, bytes=sizes[b.id])
    if as_json:
        print_json({"dropped": rows})


def _one(connection: Connection, build: int | None, states: tuple[str, ...], verb: str) -> builds.Build:
    if build is None:
        return builds.newest(connection, states, verb)
    found = builds.get(connection, build)
    if found.state not in states:
        raise Refused(f"build {build} is {found.state}; to {verb} it, it would have to be {' or '.join(states)}")
    return found


@contextmanager
def _database() -> Iterator[tuple[Where, Connection]]:
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
def _bar(quiet: bool) -> Iterator[Callable[[Tally], None]]:
    """A line that says how far it is, at which rate, for how long still."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, console=Console(stderr=True), disable=quiet or not sys.stderr.isatty()) as bar:
        task = bar.add_task("planning", total=None, rate="")

        def tell(t: Tally) -> None:
            left = "" if t.eta_s is None else f"{t.rate:,.0f}/s, {_span(t.eta_s)} left"
            bar.update(task, description=t.step, completed=t.done, total=t.total, rate=t.held or left)

        yield tell


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
