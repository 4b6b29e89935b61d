"""The files of one partition's export: lines, Parquet, and the tiles of a tree. Each tells its SHA-256 when it is closed.

The rule not to break: bytes depend on the records alone, never on the batches in which they came.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

from chimera.audit.leaf import Seen
from chimera.audit.standalone import WIDTH, joined, subtree_root, tile_path
from chimera.errors import ChimeraError

ROWS = 8_192
"""Rows of a group of the Parquet file."""


class NoParquet(ChimeraError):
    """The package that writes Parquet is not installed."""


class Written:
    """What was written below a directory: path -> SHA-256."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.digests: dict[str, str] = {}
        self._made = set[Path]()

    def put(self, name: str, content: bytes) -> None:
        """Write a small file."""
        path = self.out / name
        if path.parent not in self._made:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._made.add(path.parent)
        path.write_bytes(content)
        self.digests[name] = hashlib.sha256(content).hexdigest()


class Tiles:
    """The tiles of a tree that grows from nothing."""

    def __init__(self, files: Written, directory: str) -> None:
        self._files, self._directory = files, directory
        self._rows: list[list[bytes]] = [[]]
        self._numbers = [0]
        self.size = 0

    def extend(self, leaves: Sequence[bytes]) -> None:
        """The hashes of the next leaves."""
        at = 0
        while at < len(leaves):
            row = self._rows[0]
            some = leaves[at : at + WIDTH - len(row)]
            row.extend(some)
            at += len(some)
            if len(row) == WIDTH:
                self._full(0)
        self.size += at

    def _full(self, level: int) -> None:
        while len(self._rows[level]) == WIDTH:
            self._write(level)
            root = subtree_root(self._rows[level])
            self._rows[level] = []
            self._numbers[level] += 1
            level += 1
            if level == len(self._rows):
                self._rows.append([])
                self._numbers.append(0)
            self._rows[level].append(root)

    def _write(self, level: int) -> None:
        row = self._rows[level]
        self._files.put(f"{self._directory}/{tile_path(level, self._numbers[level], len(row))}", b"".join(row))

    def close(self) -> bytes:
        """Write the unfinished tiles; the root."""
        for level, row in enumerate(self._rows):
            if row:
                self._write(level)
        return joined(self._rows)


class Lines:
    """The file of lines."""

    def __init__(self, files: Written, name: str) -> None:
        self._files, self._name = files, name
        path = files.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file, self._sha = path.open("wb"), hashlib.sha256()

    def add(self, lines: list[bytes]) -> None:
        """The next lines, without line breaks."""
        if lines:
            block = b"\n".join(lines) + b"\n"
            self._file.write(block)
            self._sha.update(block)

    def close(self) -> None:
        self._file.close()
        self._files.digests[self._name] = self._sha.hexdigest()


COLUMNS = (
    ("topic", "string"),
    ("partition", "int32"),
    ("offset", "int64"),
    ("appended", "timestamp"),
    ("id", "string"),
    ("type", "string"),
    ("tenant", "string"),
    ("actor", "string"),
    ("stream", "string"),
    ("ruling", "string"),
    ("reason", "string"),
    ("state_version", "int64"),
    ("value", "binary"),
    ("value_sha256", "string"),
    ("leaf", "binary"),
    ("leaf_sha256", "string"),
    ("key", "binary"),
    ("headers", "headers"),
)
"""The Parquet file's columns: `offset` is the leaf's index, `leaf` its bytes, `leaf_sha256` its hash (0x00 before it, RFC 6962)."""


Row = tuple[Any, ...]


def row_of(seen: Seen, ruled: tuple[Any, Any, Any] | None) -> Row:
    """The row of a record, texts as bytes, headers as their names and their values. `ruled`: ruling, reason and state version."""
    raw, shape, contents = seen.raw, seen.shape, seen.contents
    headers: tuple[tuple[str, ...], tuple[bytes, ...]]
    if shape is not None:
        at, headers = shape.places.get, (shape.names, contents)
        tenant, actor = at("ce_tenant"), at("ce_actor")
        said = (
            contents[shape.id],
            contents[shape.type],
            b"" if tenant is None else contents[tenant],
            b"" if actor is None else contents[actor],
        )
    else:
        found = dict(raw.headers)
        said = (_text(found.get("ce_id")), _text(found.get("ce_type")), _text(found.get("ce_tenant")), _text(found.get("ce_actor")))
        headers = tuple(name for name, _ in raw.headers), tuple(value for _, value in raw.headers)
    return (
        *(raw.topic, raw.partition, raw.offset, raw.append_ts, *said, raw.key if shape is not None else _text(raw.key)),
        *(ruled or (None, None, None)),
        *(raw.value, seen.digest, seen.leaf, seen.hash.hex(), raw.key, headers),
    )


def _text(raw: bytes | None) -> bytes:
    """Bytes that are no text with a mark in each place that is none."""
    return (raw or b"").decode(errors="replace").encode()


class Table:
    """The Parquet file. Raises `NoParquet` where the package is missing."""

    def __init__(self, files: Written, name: str) -> None:
        self._files, self._name = files, name
        path = files.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pa, pq = arrow()
        self._pa, self._waiting, self._rows = pa, list[Any](), 0
        self._schema = schema_of(pa)
        self._writer = pq.ParquetWriter(
            path, self._schema, compression="zstd", use_dictionary=["topic", "type", "tenant", "ruling", "reason"]
        )

    def extend(self, rows: Sequence[Row]) -> None:
        """The next rows, made by `row_of`. They are columns at once: 8,192 records kept as they came would drive all else out of
        the processor's caches."""
        if rows:
            self._waiting.append(self._pa.RecordBatch.from_arrays(arrays_of(self._pa, self._schema, rows), schema=self._schema))
            self._rows += len(rows)
        while self._rows >= ROWS:
            self._flush(ROWS)

    def _flush(self, count: int) -> None:
        """Write a group. Its columns are joined first: the pieces in which records came would show in the bytes."""
        table = self._pa.Table.from_batches(self._waiting)
        self._waiting = table.slice(count).to_batches()
        self._rows -= count
        self._writer.write_table(table.slice(0, count).combine_chunks())

    def close(self) -> None:
        if self._rows:
            self._flush(self._rows)
        self._writer.close()
        with (self._files.out / self._name).open("rb") as file:
            self._files.digests[self._name] = hashlib.file_digest(file, "sha256").hexdigest()


def schema_of(pa: Any) -> Any:
    """The columns with their types."""
    special = {
        "timestamp": pa.timestamp("ms", tz="UTC"),
        "headers": pa.list_(pa.struct([("name", pa.string()), ("value", pa.binary())])),
    }
    return pa.schema([(column, special.get(kind) or getattr(pa, kind)()) for column, kind in COLUMNS])


def arrays_of(pa: Any, schema: Any, rows: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Rows as columns. Raises what Arrow raises for a value that does not fit."""
    columns = zip(*rows, strict=True)
    return [
        _headers(pa, values, field.type) if kind == "headers" else pa.array(values, type=field.type)
        for (_, kind), values, field in zip(COLUMNS, columns, schema, strict=True)
    ]


def _headers(pa: Any, rows: tuple[Any, ...], type_: Any) -> Any:
    """Lists of name and value from flat arrays. Records with the same names, which most have, share them: Arrow multiplies them."""
    numbers: dict[tuple[str, ...], int] = {}
    which = [numbers.setdefault(names, len(numbers)) for names, _ in rows]
    known = pa.array(list(map(list, numbers)), pa.list_(pa.string()))
    ends = list(accumulate((len(values) for _, values in rows), initial=0))
    values = pa.array(list(chain.from_iterable(values for _, values in rows)), pa.binary())
    parts = [known.take(pa.array(which, pa.int32())).flatten(), values]
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.StructArray.from_arrays(parts, ["name", "value"]), type=type_)


def arrow() -> tuple[Any, Any]:
    """pyarrow and its Parquet. Raises `NoParquet`."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise NoParquet(
            "Parquet needs the extra 'parquet': `pip install 'chimera-swarm[parquet]'`, or give `--format jsonl`"
        ) from error
    return pa, pq
