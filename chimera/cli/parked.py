"""`chimera parked`: what one read model could not make of an agent's records, and the two ways out.

The rule not to break: healing and discarding write read models only; the log stays as it is.
Exit codes: 0 done, 1 failure or still parked, 2 usage.
"""

from __future__ import annotations

from typing import Annotated

import typer

from chimera.cli.options import ActorOption, JsonOption
from chimera.cli.output import console, pairs, print_json, table
from chimera.commands.keys import load_installation
from chimera.errors import ChimeraError
from chimera.projections import heal as healing
from chimera.projections.engine import connect
from chimera.projections.parking import Parked, listed
from chimera.settings import Settings
from chimera.stack.addresses import load

app = typer.Typer(help="Rows that a read model could not make: see, heal or discard them.", no_args_is_help=True)
ModelArgument = Annotated[str, typer.Argument(help="Read model, as `parked list` names it.")]
AgentArgument = Annotated[str, typer.Argument(help="Agent, by name or stream key.")]


@app.command("list")
def list_parked(as_json: JsonOption = False) -> None:
    """What is parked: model, agent, first record, why, and how many later records were passed over."""
    with connect(load(Settings()).postgres) as connection:
        found = listed(connection)
    if as_json:
        print_json([p._asdict() for p in found])
        return
    columns = ("model", "agent", "first record", "since", "passed over", "why")
    console().print(table(f"{len(found)} parked", columns, [_cells(p) for p in found]))


def _cells(p: Parked) -> tuple[object, ...]:
    return p.model, p.stream, f"chimera.log[{p.partition}]{p.offset}", f"{p.since:%Y-%m-%d %H:%M:%S}", p.skipped, p.reason


@app.command()
def show(model: ModelArgument, agent: AgentArgument, as_json: JsonOption = False) -> None:
    """One parking in full. `chimera events show PARTITION:OFFSET` shows the record that began it."""
    with connect(load(Settings()).postgres) as connection:
        found = healing.find(connection, model, agent)
    if as_json:
        print_json([p._asdict() for p in found])
        return
    for p in found:
        console().print(
            pairs(
                f"{p.model} of {p.stream}",
                {
                    "first record": f"{p.partition}:{p.offset}",
                    "why": p.reason,
                    "since": f"{p.since:%Y-%m-%d %H:%M:%S}",
                    "passed over": f"{p.skipped} later records, the last at {p.partition}:{p.last_offset}",
                    "ways out": "mend code or schema and `chimera parked heal`, or `chimera parked discard --reason`",
                },
            )
        )


@app.command()
def heal(
    model: Annotated[str | None, typer.Argument(help="Read model; everything that is parked when not given.")] = None,
    agent: Annotated[str | None, typer.Argument(help="Agent, by name or stream key.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Build the rows anew from the agent's own records, in one transaction, and let them flow again. Exit 1 while any stays parked.

    Example: chimera parked heal
    """
    if (model is None) != (agent is None):
        raise typer.BadParameter("name both MODEL and AGENT, or neither to heal everything")
    settings = Settings()
    addresses, root = load(settings), load_installation(settings.home).root_public
    with connect(addresses.postgres) as connection:
        found = listed(connection) if model is None or agent is None else healing.find(connection, model, agent)
    left = 0
    answers: list[dict[str, object]] = []
    for p in healing.in_order(found):
        try:
            made = healing.heal(addresses.kafka, addresses.postgres, root, p)
            answers.append({"model": p.model, "stream": p.stream, "healed": True, "records": made})
            if not as_json:
                console().print(f"healed {p.model} of {p.stream}: {made} records", markup=False)
        except healing.NotHealed as error:
            left += 1
            answers.append({"model": p.model, "stream": p.stream, "healed": False, "why": str(error)})
            console(stderr=True).print(f"not healed: {error}", markup=False)
    if as_json:
        print_json(answers)
    if left:
        raise ChimeraError(
            f"{left} of {len(found)} stay parked: mend the cause, or `chimera parked discard MODEL AGENT --reason '...'`"
        )
    if not found and not as_json:
        console().print("nothing is parked")


@app.command()
def discard(
    model: ModelArgument,
    agent: AgentArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why these rows are given up; kept in core.discarded.")],
    actor: ActorOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be given up, and do nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Give up the rows of the record that began the parking, for good; the rest of the agent's rows are built anew.

    Example: chimera parked discard posts ava --reason 'a test of ours' --dry-run
    """
    settings = Settings()
    addresses, root = load(settings), load_installation(settings.home).root_public
    with connect(addresses.postgres) as connection:
        found = healing.find(connection, model, agent)
    answers: list[dict[str, object]] = []
    for p in found:
        record = f"{p.model} of chimera.log[{p.partition}]{p.offset}"
        answer: dict[str, object] = {"model": p.model, "stream": p.stream, "partition": p.partition, "offset": p.offset}
        if dry_run:
            answers.append(answer | {"discarded": False})
            said = f"would discard {record} ({p.reason}) and heal the rest of {p.stream}, {p.skipped} later records"
        else:
            by = actor or settings.actor
            made = healing.discard(addresses.kafka, addresses.postgres, root, p, reason=reason, by=by)
            answers.append(answer | {"discarded": True, "records": made})
            said = f"discarded {record}; healed the rest of {p.stream}: {made} records"
        if not as_json:
            console().print(said, markup=False)
    if as_json:
        print_json(answers)
