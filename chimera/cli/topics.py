"""`chimera topics`: make a Kafka cluster agree with topics.yaml, or say where it does not.

The rule not to break: exit codes are a contract: 0 nothing differs or all was applied, 1 failure, 2 usage, 3 the cluster differs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import orjson
import typer

from chimera.errors import ChimeraError
from chimera.eventlog import cluster
from chimera.eventlog import topics as code
from chimera.settings import Settings
from chimera.stack.addresses import load_kafka

app = typer.Typer(help="Topics as code: validate topics.yaml, plan, apply, show drift.", no_args_is_help=True)

FAILED, DRIFT = 1, 3

File = Annotated[Path | None, typer.Option("--file", help="Topics file; the repository's topics.yaml when not given.")]
Kafka = Annotated[str | None, typer.Option("--kafka", help="Brokers host:port,...; the local stack's when not given.")]
Replication = Annotated[int | None, typer.Option("--replication", min=1, help="Copies per partition, all but one in sync.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


@app.command()
def validate(file: File = None, replication: Replication = None, as_json: AsJson = False) -> None:
    """Say whether the file makes sense, without asking any cluster. Exit 1 when it does not."""
    try:
        wanted = code.load_topics(file)
    except ChimeraError as error:
        raise _ended(error, [], as_json, FAILED) from None
    wrong = code.problems(wanted if replication is None else wanted.with_replication(replication))
    if as_json:
        typer.echo(orjson.dumps({"state": "invalid" if wrong else "valid", "topics": wanted.names, "problems": wrong}))
    else:
        for each in wrong:
            typer.echo(each, err=True)
        typer.echo(f"{len(wanted.names)} topics, {len(wrong)} problems" if wrong else f"{len(wanted.names)} topics, all in order")
    if wrong:
        raise typer.Exit(FAILED)


@app.command()
def plan(file: File = None, kafka: Kafka = None, replication: Replication = None, as_json: AsJson = False) -> None:
    """Print what `apply` would do and what it would refuse, and do nothing. Exit 3 when there is anything."""
    apply(True, file, kafka, replication, as_json)


@app.command()
def apply(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done and do nothing.")] = False,
    file: File = None,
    kafka: Kafka = None,
    replication: Replication = None,
    as_json: AsJson = False,
) -> None:
    """Create and set what is missing. Never deletes, cuts or repartitions; the first apply pins the cluster."""
    try:
        bootstrap, wanted, home = _wired(file, kafka, replication)
        changes = cluster.apply(bootstrap, wanted, home, dry_run=dry_run)
    except code.TopicDrift as difference:
        raise _ended(difference, difference.changes, as_json, DRIFT) from None
    except ChimeraError as error:
        raise _ended(error, [], as_json, FAILED) from None
    _say("planned" if dry_run else "applied", changes, as_json)
    if dry_run and changes:
        raise typer.Exit(DRIFT)


@app.command()
def check(file: File = None, kafka: Kafka = None, replication: Replication = None, as_json: AsJson = False) -> None:
    """The same as `drift`."""
    drift(file, kafka, replication, as_json)


@app.command()
def drift(file: File = None, kafka: Kafka = None, replication: Replication = None, as_json: AsJson = False) -> None:
    """Say where the cluster is not what topics.yaml says; every process asks the same at its start. Exit 3 on any difference."""
    try:
        bootstrap, wanted, home = _wired(file, kafka, replication)
        cluster.check(bootstrap, wanted, home, whole=True)
    except code.TopicDrift as difference:
        raise _ended(difference, difference.changes, as_json, DRIFT) from None
    except ChimeraError as error:
        raise _ended(error, [], as_json, FAILED) from None
    _say("in order", [], as_json)


def _wired(file: Path | None, kafka: str | None, replication: int | None) -> tuple[str, code.TopicSet, Path]:
    settings = Settings()
    wanted = code.load_topics(file)
    if replication is not None:
        wanted = wanted.with_replication(replication)
    if file is None and (wrong := code.problems(wanted)):
        raise code.TopicsUnreadable("topics.yaml cannot carry Chimera: " + "; ".join(wrong))
    return kafka or load_kafka(settings), wanted, settings.home


def _say(state: str, changes: list[code.Change], as_json: bool) -> None:
    if as_json:
        typer.echo(orjson.dumps({"state": state, "changes": [change._asdict() for change in changes]}))
        return
    for change in changes:
        typer.echo(str(change))
    typer.echo(f"{state}: {len(changes)} changes" if changes else "topics are what topics.yaml says")


def _ended(error: ChimeraError, changes: list[code.Change], as_json: bool, exit_code: int) -> typer.Exit:
    """Print why, and give the exit for it."""
    if as_json:
        state = "drift" if exit_code == DRIFT else "failed"
        answer = {"state": state, "error": str(error), "changes": [change._asdict() for change in changes]}
        typer.echo(orjson.dumps(answer))
    else:
        typer.echo(str(error), err=True)
    return typer.Exit(exit_code)
