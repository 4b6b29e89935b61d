"""`chimera audit keygen | status | compare | prove | check-proof`: the notary's trees.

The rule not to break: exit codes are a contract: 0 holds / done, 1 damage or failure, 2 usage. Private keys are never shown.
"""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from chimera.audit import notary, proof, rows
from chimera.audit.note import Checkpoint, Verifier
from chimera.audit.tlog import WIDTH
from chimera.audit.tree import CHECKPOINT, StoredTree
from chimera.cli import noting, output
from chimera.cli.options import JsonOption
from chimera.commands.keys import load_installation
from chimera.errors import ChimeraError
from chimera.eventlog.read import end_offsets
from chimera.eventlog.store import RecordStore
from chimera.events.raw import RawRecord
from chimera.settings import Settings
from chimera.stack.addresses import load, load_kafka

_PLACE = re.compile(r"(?:(?P<topic>[\w.]+)\[)?(?P<partition>\d+)\]?@(?P<offset>\d+)")


def keygen(
    rotate: Annotated[bool, typer.Option("--rotate", help="Another key signs from now on, and the present one beside it.")] = False,
    retire: Annotated[bool, typer.Option("--retire", help="End a rotation: the key before signs no more.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make the notary's key where there is none, and tell the public halves: give them to auditors by another way than the trees.

    Example: chimera audit keygen
    """
    if rotate and retire:
        raise output.usage("--rotate begins what --retire ends: give one of them")
    settings = Settings()
    home = settings.home
    load_installation(home)
    if rotate:
        notary.rotate_notary_key(home)
        noting.note(settings, "notary_key_rotated")
    elif retire:
        notary.retire_notary_key(home)
        noting.note(settings, "notary_key_retired")
    elif notary.make_notary_key(home):
        noting.note(settings, "notary_key_made")
    publics = [base64.b64encode(key.public_key().public_bytes_raw()).decode() for key in notary.load_notary_keys(home).keys]
    if as_json:
        output.print_json({"signs": publics[0], "signs_too": publics[1:]})
        return
    output.console().print(f"the notary signs with {publics[0]}", highlight=False)
    for before in publics[1:]:
        output.console().print(f"and, until `chimera audit keygen --retire`, with {before}", highlight=False)


def status(as_json: JsonOption = False) -> None:
    """How many records are signed, how many are not yet, and whether every tree has the root that its checkpoint signs."""
    settings = Settings()
    bootstrap, rows = load_kafka(settings), list[tuple[str, int, int, list[str]]]()
    for topic in notary.TOPICS:
        ends = end_offsets(bootstrap, topic)
        found, troubles = _checkpoints(settings.home, topic, list(ends))
        signed = sum(checkpoint.size for checkpoint in found.values())
        ahead = [p for p, checkpoint in found.items() if checkpoint.size > ends[p]]
        troubles += [f"{topic}[{p}] ends at {ends[p]}, and {found[p].size} records of it were signed" for p in ahead]
        rows.append((topic, signed, sum(ends.values()) - signed, troubles))
    sound = not any(troubles for *_, troubles in rows)
    if as_json:
        names = ("topic", "signed", "unsigned", "troubles")
        output.print_json({"sound": sound, "topics": [dict(zip(names, row, strict=True)) for row in rows]})
    else:
        cells = [(topic, signed, unsigned, "; ".join(troubles) or "sound") for topic, signed, unsigned, troubles in rows]
        output.console().print(output.table("notary", ("topic", "signed", "not yet", "trees"), cells))
    if not sound:
        raise typer.Exit(1)


def compare(as_json: JsonOption = False) -> None:
    """Read the whole log again and compare its bytes with what was signed. Exit 1 names the first record that differs."""
    settings = Settings()
    bootstrap, compared = load_kafka(settings), dict[str, int]()
    for topic in notary.TOPICS:
        found, troubles = _checkpoints(settings.home, topic, list(end_offsets(bootstrap, topic)))
        if troubles:
            raise ChimeraError("; ".join(troubles))
        sizes = {partition: checkpoint.size for partition, checkpoint in found.items() if checkpoint.size}
        columns = (TextColumn(f"comparing {topic}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), disable=as_json or not sys.stderr.isatty()) as bar:
            task = bar.add_task(topic, total=sum(sizes.values()))

            def seen(done: int, bar: Progress = bar, task: Any = task) -> None:
                bar.update(task, completed=done)

            compared[topic] = notary.compare(bootstrap, settings.home, topic, sizes, dict.fromkeys(sizes, 0), progress=seen)
    if as_json:
        output.print_json({"same": True, "records": compared})
        return
    for topic, count in compared.items():
        output.console().print(f"{topic}: {count} signed records read the same as when they were signed")


def prove(
    record: Annotated[
        str | None, typer.Argument(metavar="[RECORD]", help="PARTITION@OFFSET, TOPIC[PARTITION]@OFFSET, or a record's id.")
    ] = None,
    named: Annotated[str | None, typer.Option("--record", metavar="RECORD", help="The same as the argument.")] = None,
    row: Annotated[
        str | None, typer.Option("--row", metavar="VIEW:KEY", help="The record that wrote this row of the analysts' views last.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="File; default: <topic>-<partition>-<offset>.tlog-proof.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a proof that this record is in the log that was signed. It is checked offline with nothing but the notary's public key.

    Examples: chimera audit prove 3@17; chimera audit prove --row posts:2124522906800095232
    """
    settings = Settings()
    if record is not None and named is not None:
        raise output.usage("--record names what the argument names: give one of them")
    record = record or named
    if record is not None and row is None:
        topic, partition, offset = _place(settings.home, record)
    elif row is not None and record is None:
        topic, partition, offset = rows.place_of(load(settings).postgres, row)
    else:
        raise output.usage("name a record, or a row by --row VIEW:KEY")
    found, troubles = _checkpoints(settings.home, topic, [partition])
    if troubles:
        raise ChimeraError("; ".join(troubles))
    if partition not in found or offset >= found[partition].size:
        raise ChimeraError(
            f"{topic}[{partition}]@{offset} is not signed: it is not on the log, or the notary is behind (`chimera audit status`)"
        )
    directory = notary.directory_of(settings.home, topic, partition)
    made = proof.prove(StoredTree(directory, found[partition].size), offset, (directory / CHECKPOINT).read_bytes())
    _, leaf = proof.check(made, _verifiers(settings.home, topic, partition), _read(settings, topic, partition, offset))
    path = out or Path(f"{topic}-{partition}-{offset}.tlog-proof")
    path.write_bytes(made.text())
    told = {
        "proof": str(path),
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "leaf": leaf,
        "size": found[partition].size,
    }
    if as_json:
        output.print_json(told)
        return
    output.console().print(
        f"{path}: {leaf['type']} {leaf['id']} is record {offset} of the {told['size']} that were signed of {topic}[{partition}]"
    )


def check_proof(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A .tlog-proof file.")],
    key: Annotated[list[str], typer.Option("--key", help="A public key of the notary that you trust (base64); repeat it.")],
    as_json: JsonOption = False,
) -> None:
    """Check a proof offline: needs no server and no installation. Exit 1 where it does not hold, with the reason.

    Example: chimera audit check-proof chimera.log-3-17.tlog-proof --key 3mV…=
    """
    try:
        read = proof.Proof.read(file.read_bytes())
    except ChimeraError as error:
        raise ChimeraError(f"{file} is no proof: {error}") from error
    origin = read.note.decode(errors="replace").partition("\n")[0]
    checkpoint, leaf = proof.check(read, [Verifier(origin, public(each)) for each in key])
    if as_json:
        output.print_json({"holds": True, "origin": checkpoint.origin, "size": checkpoint.size, "leaf": leaf})
        return
    output.console().print(f"it holds: {checkpoint.origin} has this record at {read.index} among {checkpoint.size}")
    output.console().print(output.table("record", ("what", "value"), [(name, value) for name, value in leaf.items()]))


def public(text: str) -> bytes:
    """A public key that was typed. Raises a usage error."""
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise output.usage(f"--key {text[:20]!r}: a public key is 32 bytes in base64, as `chimera audit keygen` tells it")
    return raw


def _verifiers(home: Path, topic: str, partition: int) -> list[Verifier]:
    return notary.load_notary_keys(home).verifiers(notary.origin_of(load_installation(home).installation, topic, partition))


def _checkpoints(home: Path, topic: str, partitions: list[int]) -> tuple[dict[int, Checkpoint], list[str]]:
    """The verified checkpoints, and what is wrong with the others or with their tiles."""
    found: dict[int, Checkpoint] = {}
    troubles: list[str] = []
    for partition in partitions:
        verifiers, directory = _verifiers(home, topic, partition), notary.directory_of(home, topic, partition)
        try:
            checkpoint = notary.signed_checkpoint(directory, verifiers[0].name, verifiers)
            if checkpoint is None:
                continue
            if StoredTree(directory, checkpoint.size).root() != checkpoint.root:
                raise ChimeraError(f"the tiles below {directory} have another root than the checkpoint signs: restore them")
        except ChimeraError as error:
            troubles.append(str(error))
        else:
            found[partition] = checkpoint
    return found, troubles


def _place(home: Path, record: str) -> tuple[str, int, int]:
    written = _PLACE.fullmatch(record)
    if written is not None:
        return written["topic"] or notary.TOPICS[0], int(written["partition"]), int(written["offset"])
    places = list(_places(home, record))
    if not places:
        raise ChimeraError(f"no signed record has the id {record}: name its place (PARTITION@OFFSET), or wait until it is signed")
    if len(places) > 1:
        shown = ", ".join(f"{topic}[{partition}]@{offset}" for topic, partition, offset in places[:5])
        raise ChimeraError(f"{len(places)} records have the id {record}: name one by its place: {shown}")
    return places[0]


def _places(home: Path, id_: str) -> Iterator[tuple[str, int, int]]:
    """Where records with this id were signed; reads all entries."""
    sought = b'"id":' + orjson.dumps(id_) + b","
    for topic in notary.TOPICS:
        for directory in sorted((home / "audit" / topic).glob("[0-9]*")):
            partition = int(directory.name)
            found, _ = _checkpoints(home, topic, [partition])
            size = found[partition].size if partition in found else 0
            tree = StoredTree(directory, size)
            for number in range(-(-size // WIDTH)):
                for n, entry in enumerate(tree.bundle(number)):
                    if sought in entry:
                        yield topic, partition, number * WIDTH + n


def _read(settings: Settings, topic: str, partition: int, offset: int) -> RawRecord:
    store = RecordStore(load_kafka(settings), client_id="chimera-audit")
    try:
        return store.read_at(topic, partition, offset)
    finally:
        store.close()
