"""`chimera audit`: the log as files, and the proof that files are the log.

The rule not to break: exit codes are a contract: 0 done / intact, 1 damage or failure, 2 usage.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Protocol

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from chimera.audit import remote
from chimera.audit.export import FORMATS
from chimera.audit.export import export as export_log
from chimera.audit.manifest import load_manifest
from chimera.audit.notary import sign_now
from chimera.audit.sealed import PSEUDONYM
from chimera.audit.source import TOPICS, KafkaSource, Redaction, Selection, agents_called
from chimera.audit.standalone import BROKEN, HOLDS, MANY, UNCHECKED, shown
from chimera.audit.verify import verify as verify_export
from chimera.cli import noting, output, reports, trees, witness
from chimera.cli.options import JsonOption
from chimera.settings import Settings
from chimera.stack.addresses import load_kafka

LOG = TOPICS[0].name
app = typer.Typer(help="The log for auditors: exports, and trees that prove each record.", no_args_is_help=True)

app.command()(trees.keygen)
app.command()(trees.status)
app.command()(trees.compare)
app.command()(trees.prove)
app.command("check-proof")(trees.check_proof)
app.command("witness")(witness.witness)
app.command()(witness.serve)
app.command()(reports.report)
app.command()(reports.sample)
app.command()(reports.duties)
app.command()(reports.changes)

_KEY_HELP = "A public key of the notary that you trust (base64, as `audit keygen` tells it); may be repeated."

JobsOption = Annotated[int, typer.Option("--jobs", min=0, help="Processes; 0: one per core where there is much to do.")]


class Bar(Protocol):
    def __call__(self, done: int, total: int) -> None: ...


@app.command()
def export(
    out: Annotated[
        str, typer.Option("--out", metavar="DIR|s3://BUCKET/PREFIX", help="Empty, new, or of the same interrupted export.")
    ],
    begin: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Only records appended at or after it (ISO 8601 with a zone).")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Only records appended before it.")] = None,
    agent: Annotated[
        list[str] | None, typer.Option("--agent", help="Only this agent's, by name or stream key; may be repeated.")
    ] = None,
    tenant: Annotated[list[str] | None, typer.Option("--tenant", help="Only this tenant's, by name; may be repeated.")] = None,
    type_: Annotated[list[str] | None, typer.Option("--type", help="Only records of this type; may be repeated.")] = None,
    formats: Annotated[str, typer.Option("--format", metavar="A,B", help="jsonl, parquet or both.")] = ",".join(FORMATS),
    redact: Annotated[
        str,
        typer.Option("--redact", metavar="POLICY", help="Whose keys to withhold: all, none, or a file of pseudonyms."),
    ] = "all",
    jobs: JobsOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Write records with their rulings, the trees that prove them and a signed manifest. What is not shown is counted by its hash.

    What is in the log is signed first, by the notary that runs or by this command. The same call resumes what was cut off.

    To s3:// it is made below the home first, put there with the manifest last, and read back; credentials as AWS_... tell them.

    Example: chimera audit export --out export --from 2026-11-01T00:00:00Z --until 2026-12-01T00:00:00Z
    """
    settings = Settings()
    place = _place(out)
    bucket = None if place is None else remote.open_place(place)
    source = KafkaSource(load_kafka(settings))
    first, last = _moment("--from", begin), _moment("--until", until)
    if first is not None and last is not None and first >= last:
        raise output.usage(f"--until {until} is not after --from {begin}")
    selection = Selection(
        from_ms=first,
        until_ms=last,
        agents=agents_called(source, agent or []),
        tenants=tuple(sorted(set(tenant or []))),
        types=tuple(sorted(set(type_ or []))),
    )
    kinds = [each.strip() for each in formats.split(",") if each.strip()]
    if not kinds or set(kinds) - set(FORMATS):
        raise output.usage(f"--format {formats}: take {' or '.join(FORMATS)}, or both with a comma between")
    redaction = _redaction(redact)
    directory = Path(out)
    if place is not None and bucket is not None:
        directory = remote.stage_of(settings.home, place, f"{selection} {redaction} {sorted(set(kinds))}")
        remote.require_free(bucket, place, directory)
    if place is not None and remote.is_finished(directory):  # made by a call that was cut off while it was put there
        made = load_manifest(directory)
    else:
        with _progress("signing", as_json):
            ends = sign_now(source.bootstrap, settings.home)
        many = jobs or (os.cpu_count() or 1 if sum(ends[LOG].values()) >= MANY else 1)
        with _progress("exporting", as_json) as report:
            made = export_log(
                source,
                settings.home,
                directory,
                selection=selection,
                redaction=redaction,
                formats=kinds,
                ends=ends,
                jobs=many,
                progress=report,
            )
    if place is not None and bucket is not None:
        with _progress("sending", as_json) as report:
            sent = remote.send(bucket, place, directory, report)
        shutil.rmtree(directory)
        typer.echo(f"{sent.put} objects put and read back, {sent.kept} were there and right", err=as_json)
    noting.note(settings, "export_made", action=redaction.policy, resource=str(place or directory.name), digest=made.sums)
    if as_json:
        output.print_json(made.model_dump(mode="json"))
        return
    t = made.totals
    typer.echo(f"{t.count} records ({t.applied} applied, {t.rejected} rejected, {t.void} void) in {out}, {t.withheld} withheld")
    typer.echo(
        f"{t.size} records are signed by the notary's key {made.notary[0]}; root key {made.root}, law {made.law}, {made.software}"
    )
    if made.disclosed:
        typer.echo(f"the keys of {made.disclosed} people are in {out}/keys.jsonl: whoever has it can read what they said")
    if place is not None:
        out = place.prefix.rpartition("/")[2]
        typer.echo(f"copy all of {place} into a directory, say {out}, to check it")
    typer.echo(f"check it anywhere: chimera audit verify {out} --key {made.notary[0]} --root {made.root}")
    typer.echo(f"or without this code: python3 {out}/verify.py --key {made.notary[0]} --root {made.root}")


@app.command()
def verify(
    directory: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Directory of an export.")],
    key: Annotated[list[str] | None, typer.Option("--key", help=_KEY_HELP)] = None,
    root: Annotated[str | None, typer.Option("--root", help="Id of the root key that you trust.")] = None,
    previous: Annotated[
        Path | None, typer.Option("--previous", exists=True, file_okay=False, help="The export before, which this one must extend.")
    ] = None,
    jobs: JobsOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Check every claim of an export, with a verdict for each. Needs no server. Exit 1 on any damage, named by file and record.

    Example: chimera audit verify export --key 3mV…= --root 163f15639db70b71 --previous export-of-october
    """
    keys = [trees.public(each) for each in key] if key else None
    with _progress("verifying", as_json) as bar:
        report = verify_export(directory, keys=keys, root=root, previous=previous, progress=bar, jobs=jobs)
    if as_json:
        output.print_json(report.data())
    else:
        colours = {HOLDS: "green", BROKEN: "red", UNCHECKED: "yellow"}
        for text in shown(report):
            state = next((state for state in colours if text.startswith(state)), None)
            typer.echo(text if state is None else typer.style(state, fg=colours[state]) + text.removeprefix(state))
    if not report.intact:
        raise typer.Exit(1)


def _place(out: str) -> remote.Place | None:
    """None for a directory. A bucket has to be named with a prefix."""
    if not out.startswith(remote.SCHEME):
        if Path(out).is_file():
            raise output.usage(f"--out {out}: it is a file, name a directory")
        return None
    try:
        return remote.place_of(out)
    except remote.RemoteTrouble as error:
        raise output.usage(f"--out {error}") from None


def _redaction(text: str) -> Redaction:
    if text in ("all", "none"):
        return Redaction(policy="all" if text == "all" else "none")
    try:
        lines = [line.partition("#")[0].strip() for line in Path(text).read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise output.usage(f"--redact {text}: say all or none, or name a file of pseudonyms ({error})") from None
    names = sorted({line for line in lines if line})
    wrong = next((name for name in names if not PSEUDONYM.fullmatch(name)), None)
    if wrong is not None:
        raise output.usage(f"--redact {text}: {wrong!r} is no pseudonym: person/<32 hex digits>, as `privacy report` tells it")
    return Redaction(policy="listed", subjects=tuple(names))


def _moment(option: str, text: str | None) -> int | None:
    """A time as the milliseconds that append times are."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise output.usage(f"{option} {text}: write a time with its zone, as 2026-11-22T09:00:00Z")
    return round(found.timestamp() * 1000)


@contextmanager
def _progress(what: str, quiet: bool) -> Iterator[Bar]:
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet or not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=None)

        def report(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield report
