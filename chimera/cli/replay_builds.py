"""`chimera replay plan | apply | resume`: builds of the read models beside the live ones, and repairs in place.

The rule not to break: replay reads the log and writes tables of its own; only `swap`, `rollback` and a repair change what readers
see, each in one transaction, and each says who and why.
Exit codes: 0 done, 1 failed, refused or different, 2 usage, 3 not confirmed.
"""

from __future__ import annotations

import typer

from chimera.cli import replay_steer, replay_swap
from chimera.cli.options import ActorOption, JsonOption, ReasonOption
from chimera.cli.output import console, pairs, print_json, table
from chimera.cli.replay_options import (
    AgentOption,
    BuildArgument,
    LagOption,
    ProcessesOption,
    RateOption,
    TenantOption,
    YieldOption,
    bar,
    chosen,
    read_models,
    span,
)
from chimera.projections.checkpoints import connect
from chimera.projections.write import Connection
from chimera.replay import builds, builds_run, repair, survey
from chimera.replay.builds_run import Pacing, Tally
from chimera.replay.plan import Plan, check, make_plan, size
from chimera.replay.survey import Where
from chimera.settings import Settings


def add_to(app: typer.Typer) -> None:
    """Make these the verbs of `chimera replay`."""
    for verb in (
        plan,
        apply,
        replay_steer.status,
        replay_steer.pause,
        resume,
        replay_steer.cancel,
        replay_swap.diff,
        replay_swap.swap,
        replay_swap.rollback,
        replay_steer.gc,
    ):
        app.command()(verb)


def plan(
    agent: AgentOption = None, tenant: TenantOption = None, processes: ProcessesOption = 1, as_json: JsonOption = False
) -> None:
    """What a build of all read models would read, take and need; or, with --agent/--tenant, what a repair would.

    The plan is kept under a number, for `apply`. Example: chimera replay plan --processes 2
    """
    with read_models() as (where, connection):
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
        "time": f"about {span(found.seconds / processes)} by {processes} process{'es' if processes > 1 else ''}",
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
    with read_models() as (where, connection):
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
    with bar(as_json) as tell:
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
            f"build {build} is ready: {d['records']:,} records in {span(d['seconds'])} by {d['processes']}, {speed}", markup=False
        )
    console().print(f"chimera replay diff {build}\nchimera replay swap {build} --reason '...'", markup=False)


def _repair(
    where: Where, connection: Connection, agent: str | None, tenant: str | None, by: str, reason: str, as_json: bool
) -> None:
    streams = repair.chosen(connection, where, agent, tenant)
    with bar(as_json) as tell:
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
    with read_models() as (where, connection):
        found = chosen(connection, build, ("loading", "indexing", "ready"), "resume")
        builds.note(connection, found.id, "resume", actor or Settings().actor, reason)
    _carry_out(where, found.id, Pacing(processes, max_rate, yield_at, max_lag), as_json)
