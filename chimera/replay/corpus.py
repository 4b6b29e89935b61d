"""Golden corpora: records of a real run in a directory, byte for byte, with what they were ruled and what they project to.

The rule not to break: a corpus is checked from its own files alone: no Kafka, no installation, no key of any person. What is frozen
is what the law said; where the law changes on purpose (before 1.0), the expectations are frozen anew from the same records.
"""

from __future__ import annotations

import gzip
import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from psycopg import sql

from chimera.errors import ChimeraError
from chimera.eventlog.partitioner import place
from chimera.eventlog.read import read_until
from chimera.events.law import LAW
from chimera.events.partition import PartitionFold
from chimera.events.raw import RawRecord
from chimera.events.state import Ruling
from chimera.events.state_codec import FORMAT, state_to_json
from chimera.projections.agent_rows import AGENTS
from chimera.projections.batch import Stretch
from chimera.projections.checkpoints import MODEL_SET, connect, open_checkpoints
from chimera.projections.folding import project
from chimera.projections.models import TABLES
from chimera.projections.rows import Table
from chimera.projections.schema import drop, migrate
from chimera.projections.write import Connection, write
from chimera.replay.copying import Plan
from chimera.replay.look import Log

ABOUT, RECORDS, RULINGS = "corpus.json", "records.jsonl.gz", "rulings.jsonl.gz"
KIND = 1
BATCH = 2000
COMPARED: tuple[Table, ...] = (AGENTS, *TABLES)
Progress = Callable[[int, int], None]


class BadCorpus(ChimeraError):
    """A directory that is no corpus, holds one already, or was altered; the message says which file."""


class Expected(NamedTuple):
    """What the log said of one record."""

    outcome: str
    reason: str
    before: int
    version: int


class Sum(NamedTuple):
    """One table: its rows and the sum of their hashes, over these columns."""

    columns: tuple[str, ...]
    rows: int
    sum: str


class Difference(NamedTuple):
    """One way in which a corpus is not what it was. `what`: file, ruling, state, table."""

    what: str
    where: str
    was: str
    now: str


class Corpus(NamedTuple):
    """A corpus as read from its directory, its files' digests checked."""

    about: dict[str, Any]
    records: list[RawRecord]
    expected: list[Expected]

    @property
    def tables(self) -> dict[str, Sum]:
        """Table -> what it held; empty where it was frozen without a database."""
        return {name: Sum(tuple(t["columns"]), t["rows"], t["sum"]) for name, t in self.about["tables"].items()}


# --- the law ---------------------------------------------------------------------------------------------------------


def ruled(records: Iterable[RawRecord], partitions: int, root_public: str) -> tuple[list[Expected], str]:
    """The rulings of records (in order within each partition; places may be missing), and a digest of all states after them."""
    folds: dict[int, PartitionFold] = {}
    found: list[Expected] = []
    for raw in records:
        fold = folds.get(raw.partition)
        if fold is None:
            fold = folds[raw.partition] = PartitionFold(raw.partition, partitions, root_public, place)
        found.append(_expected(fold.apply(raw)[1]))
    states = hashlib.sha256()
    for _, fold in sorted(folds.items()):
        for key in sorted((*fold.agents, *fold.tenants)):
            state = fold.state(key)
            assert state is not None
            states.update(key.encode() + state_to_json(state))
    return found, states.hexdigest()


def _expected(ruling: Ruling) -> Expected:
    return Expected(ruling.outcome, ruling.reason, ruling.version_before, ruling.version)


# --- the read models -------------------------------------------------------------------------------------------------


def rebuilt(
    dsn: str, records: Sequence[RawRecord], partitions: int, root_public: str, like: Mapping[str, Sum] | None = None
) -> dict[str, Sum]:
    """What the log's models hold when they are built of these records in a scratch schema, which is dropped.

    `like`: sum over the columns that these sums name, so that a column that came later changes none. Raises what writing raises.
    """
    scratch = f"corpus_{secrets.token_hex(6)}"
    try:
        migrate(dsn, scratch, analytics=False)
        with connect(dsn) as connection:
            _write(connection, scratch, records, partitions, root_public)
            return {table.name: _sum(connection, scratch, table, (like or {}).get(table.name)) for table in COMPARED}
    finally:
        drop(dsn, scratch)


def _write(connection: Connection, schema: str, records: Sequence[RawRecord], partitions: int, root_public: str) -> None:
    folds: dict[int, PartitionFold] = {}
    at = open_checkpoints(connection, schema, MODEL_SET, "corpus", {raw.partition for raw in records})
    for begin in range(0, len(records), BATCH):
        by_partition: dict[int, list[RawRecord]] = {}
        for raw in records[begin : begin + BATCH]:
            by_partition.setdefault(raw.partition, []).append(raw)
        stretches: list[Stretch] = []
        for partition, raws in sorted(by_partition.items()):
            fold = folds.setdefault(partition, PartitionFold(partition, partitions, root_public, place))
            stretch = project(fold, raws, 0)
            assert stretch is not None
            stretch.topic, stretch.start = "corpus", at[partition]  # places may be missing in between
            at[partition] = stretch.end
            stretches.append(stretch)
        found = write(connection, schema, MODEL_SET, stretches)
        if found.added:
            entry, reason = found.added[0]
            raise BadCorpus(f"{entry.model} takes no row of {entry.partition}:{entry.offset}: {reason}")


def _sum(connection: Connection, schema: str, table: Table, like: Sum | None) -> Sum:
    there = {
        row[0]
        for row in connection.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
            (f'"{schema}"."{table.name}"',),
        ).fetchall()
    }
    columns = tuple(sorted(there)) if like is None else tuple(column for column in like.columns if column in there)
    row = connection.execute(
        # MD5, because PostgreSQL's own hash functions promise nothing from one version to the next.
        sql.SQL(
            "SELECT count(*), coalesce(sum(('x' || left(md5(jsonb_build_array({})::text), 15))::bit(60)::bigint::numeric), 0)"
            " FROM {} t"
        ).format(sql.SQL(", ").join(sql.Identifier("t", column) for column in columns), sql.Identifier(schema, table.name))
    ).fetchone()
    assert row is not None
    return Sum(columns, int(row[0]), str(row[1]))


# --- files -----------------------------------------------------------------------------------------------------------


def take(log: Log, plan: Plan, progress: Progress = lambda done, total: None) -> list[RawRecord]:
    """The chosen records of the log, by partition and offset. Raises what reading raises."""
    found: list[RawRecord] = []
    done, total = 0, sum(plan.upto.values())
    for batch in read_until(log.bootstrap, log.topic, plan.upto, None, plan.upto):
        found += [raw for raw in batch if raw.key in plan.streams]
        done += len(batch)
        progress(done, total)
    return sorted(found, key=lambda raw: (raw.partition, raw.offset))


def freeze(
    directory: Path, records: Sequence[RawRecord], partitions: int, root_public: str, dsn: str | None, *, note: str = ""
) -> dict[str, Any]:
    """Write a corpus of these records and what they come to; without `dsn` no tables. Raises `BadCorpus` where one is there."""
    if (directory / ABOUT).exists():
        raise BadCorpus(f"{directory} holds a corpus already: name another, or freeze its expectations anew (--again)")
    directory.mkdir(parents=True, exist_ok=True)
    _write_lines(directory / RECORDS, map(_record_line, records))
    return _expect(directory, records, partitions, root_public, dsn, note)


def freeze_again(directory: Path, dsn: str | None) -> dict[str, Any]:
    """Expect of the same records what this code says of them now. Raises `BadCorpus`."""
    corpus = load(directory)
    if corpus.tables and dsn is None:
        raise BadCorpus(f"{directory} expects tables: freezing it anew needs a database (`chimera up`, or CHIMERA_POSTGRES)")
    about = corpus.about
    return _expect(directory, corpus.records, about["partitions"], about["root_public"], dsn, about["note"])


def _expect(
    directory: Path, records: Sequence[RawRecord], partitions: int, root_public: str, dsn: str | None, note: str
) -> dict[str, Any]:
    expected, states = ruled(records, partitions, root_public)
    tables = {} if dsn is None else rebuilt(dsn, records, partitions, root_public)
    _write_lines(directory / RULINGS, (orjson.dumps(list(each)) for each in expected))
    outcomes: dict[str, int] = {}
    for each in expected:
        outcomes[each.outcome] = outcomes.get(each.outcome, 0) + 1
    about = {
        "kind": KIND,
        "note": note,
        "frozen_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "law": LAW,
        "state_format": FORMAT,
        "partitions": partitions,
        "root_public": root_public,
        "records": len(records),
        "outcomes": outcomes,
        "states": states,
        "tables": {name: {"columns": list(t.columns), "rows": t.rows, "sum": t.sum} for name, t in tables.items()},
        "files": {name: _digest(directory / name) for name in (RECORDS, RULINGS)},
    }
    (directory / ABOUT).write_bytes(orjson.dumps(about, option=orjson.OPT_INDENT_2) + b"\n")
    return about


def load(directory: Path) -> Corpus:
    """A corpus from its files. Raises `BadCorpus` naming the file that is missing or altered."""
    try:
        about: dict[str, Any] = orjson.loads((directory / ABOUT).read_bytes())
    except FileNotFoundError:
        raise BadCorpus(f"no corpus in {directory}: it must hold {ABOUT} (`chimera corpus freeze` makes one)") from None
    except orjson.JSONDecodeError as error:
        raise BadCorpus(f"{directory / ABOUT} is not JSON ({error}): restore it") from error
    if about.get("kind") != KIND:
        raise BadCorpus(f"{directory / ABOUT}: kind {about.get('kind')!r} is unknown to this code, which knows {KIND}: upgrade")
    for name, digest in about["files"].items():
        if not (directory / name).is_file():
            raise BadCorpus(f"{directory / name} is missing: restore it")
        if _digest(directory / name) != digest:
            raise BadCorpus(f"{directory / name} was altered: its SHA-256 is not the one in {ABOUT}; restore it")
    records = [_record(line) for line in _lines(directory / RECORDS)]
    expected = [Expected(*orjson.loads(line)) for line in _lines(directory / RULINGS)]
    return Corpus(about, records, expected)


def check(directory: Path, dsn: str | None) -> list[Difference]:
    """Fold and (with `dsn`) rebuild a corpus; every way in which it is not what it was, empty where it is. Raises `BadCorpus`."""
    corpus = load(directory)
    about, found = corpus.about, list[Difference]()
    now, states = ruled(corpus.records, about["partitions"], about["root_public"])
    for raw, was, is_ in zip(corpus.records, corpus.expected, now, strict=True):
        if was != is_:
            found.append(Difference("ruling", f"{raw.partition}:{raw.offset}", _said(was), _said(is_)))
    if about["state_format"] == FORMAT and states != about["states"]:
        found.append(Difference("state", "all streams", about["states"], states))
    if dsn is not None and corpus.tables:
        made = rebuilt(dsn, corpus.records, about["partitions"], about["root_public"], corpus.tables)
        for name, was_ in corpus.tables.items():
            is_now = made.get(name)
            if is_now != was_:
                gone = "" if is_now is None else ", ".join(sorted(set(was_.columns) - set(is_now.columns)))
                told = (
                    "no such table"
                    if is_now is None
                    else f"{is_now.rows} rows, {is_now.sum}" + (f", without {gone}" if gone else "")
                )
                found.append(Difference("table", name, f"{was_.rows} rows, {was_.sum}", told))
    return found


def _said(each: Expected) -> str:
    reason = f" ({each.reason})" if each.reason else ""
    return f"{each.outcome}{reason}, version {each.before} -> {each.version}"


def _record_line(raw: RawRecord) -> bytes:
    """Bytes as text with one character per byte, which JSON keeps and gzip packs well."""
    headers = [[name, _text(content)] for name, content in raw.headers]
    return orjson.dumps([raw.partition, raw.offset, raw.append_ts, _text(raw.key), _text(raw.value), headers])


def _record(line: bytes) -> RawRecord:
    partition, offset, ts, key, value, headers = orjson.loads(line)
    return RawRecord("corpus", partition, offset, ts, _bytes(key), _bytes(value), [(n, _bytes(c)) for n, c in headers])  # type: ignore[misc]


def _text(content: bytes | None) -> str | None:
    return None if content is None else content.decode("latin-1")


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode("latin-1")


def _write_lines(path: Path, lines: Iterable[bytes]) -> None:
    with path.open("wb") as file, gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=9, mtime=0) as packed:
        for line in lines:
            packed.write(line + b"\n")


def _lines(path: Path) -> Iterator[bytes]:
    with gzip.open(path, "rb") as packed:
        yield from packed


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
