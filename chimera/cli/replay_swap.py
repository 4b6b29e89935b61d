"""`chimera replay diff | swap | rollback`: a build beside the live read models, and in their place.

The rule not to break: readers see one set of tables or the other, never both; whoever changes which says why.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import typer

from chimera.cli.options import ActorOption, JsonOption, ReasonOption, YesOption
from chimera.cli.output import agreed, console, print_json, table
from chimera.cli.replay_options import BuildArgument, LagOption, PatienceOption, chosen, read_models
from chimera.projections.write import Connection
from chimera.replay import builds, survey
from chimera.replay.builds_follow import following
from chimera.replay.compare import Comparison, compare
from chimera.replay.plan import Refused
from chimera.replay.swap import swap as swap_in
from chimera.settings import Settings


def diff(
    build: BuildArgument = None,
    samples: Annotated[int, typer.Option("--samples", min=0, max=100, help="Rows to show of each table that differs.")] = 3,
    as_json: JsonOption = False,
) -> None:
    """Compare a build with the live read models at the same offsets: rows, checksums, columns, samples. Exit 1 when they differ."""
    with read_models() as (where, connection):
        found = chosen(connection, build, ("ready", "kept"), "compare")
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
    _take_place(_Asked("swap", build, ("ready",), reason, max_lag, patience, actor), yes, as_json)


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
    _take_place(_Asked("rollback", build, ("kept",), reason, max_lag, patience, actor), yes, as_json)


class _Asked(NamedTuple):
    """A swap or a rollback as it was typed."""

    verb: str
    build: int | None
    states: tuple[str, ...]
    reason: str
    max_lag: int
    patience_s: float
    actor: str | None


def _take_place(asked: _Asked, yes: bool, as_json: bool) -> None:
    if not asked.reason.strip():
        raise typer.BadParameter("say why, with --reason: it is kept with the build")
    with read_models() as (where, connection):
        to_last = asked.verb == "rollback" and asked.build is None
        found = _last_live(connection) if to_last else chosen(connection, asked.build, asked.states, asked.verb)
        behind = survey.behind(survey.ends(where), survey.written(connection, where, found.schema))
    if not as_json:
        console(stderr=True).print(f"build {found.id} is {behind} records behind the log: catching up", markup=False)
    agreed(f"Make build {found.id} the live one?", yes, as_json)
    actor = asked.actor or Settings().actor
    done = swap_in(
        where, found, actor=actor, reason=asked.reason, act=asked.verb, max_lag=asked.max_lag, patience_s=asked.patience_s
    )
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
