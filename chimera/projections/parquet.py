"""Rows of PostgreSQL as Parquet.

The rule not to break: no value is rounded. What Arrow has no exact type for becomes the text that PostgreSQL prints.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

from chimera.errors import ChimeraError

_ARROW = {16: "bool", 20: "int64", 21: "int16", 23: "int32", 700: "float32", 701: "float64", 1082: "date32", 25: "string"}
_TIMESTAMP, _TEXTS = 1184, 1009


class NoParquet(ChimeraError):
    """The package that writes Parquet is not installed."""


def write_parquet(file: Path, columns: Sequence[tuple[str, int]], batches: Iterable[Sequence[tuple[Any, ...]]]) -> int:
    """Write rows whose columns are (name, PostgreSQL type oid); how many they were. Raises `NoParquet`."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise NoParquet(
            "Parquet needs the extra 'parquet': run `pip install 'chimera-swarm[parquet]'`, or take CSV or JSON"
        ) from error
    kinds = []
    for _, oid in columns:
        if oid == _TIMESTAMP:
            kinds.append(pa.timestamp("us", tz="UTC"))
        elif oid == _TEXTS:
            kinds.append(pa.list_(pa.string()))
        else:
            kinds.append(getattr(pa, _ARROW.get(oid, "string"))())
    plain = [oid in _ARROW or oid in (_TIMESTAMP, _TEXTS) for _, oid in columns]
    schema = pa.schema([pa.field(name, kind) for (name, _), kind in zip(columns, kinds, strict=True)])
    count = 0
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for rows in batches:
            arrays = [
                pa.array([row[n] for row in rows] if plain[n] else [_text(row[n]) for row in rows], type=kind)
                for n, kind in enumerate(kinds)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            count += len(rows)
    return count


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, timedelta):
        return f"{value.total_seconds():f} s"
    return orjson.dumps(value, default=str).decode()
