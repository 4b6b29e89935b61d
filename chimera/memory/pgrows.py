"""Notes as the bytes of a COPY in PostgreSQL's binary format. Pure: no connection, no clock.

The rule not to break: what stands in the bytes is what the note says, but for U+0000, which no text of Postgres holds. Binary,
because the 384 numbers of a vector cost the server and this process several times as much as text.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from struct import Struct
from struct import error as BadNumber
from typing import Any

import orjson

from chimera.memory.contract import MemoryAway
from chimera.memory.embedding import Vector
from chimera.memory.store import Row, subject_key

COLUMNS = (
    "tenant", "agent", "kind", "platform", "sealed", "subject_key", "title", "url", "published", "numbers", "taint", "record",
    "words", "id", "policy_edition", "ts", "record_partition", "record_offset", "partition", "offset", "vector",
)  # fmt: skip
"""In the order of a row's bytes: texts and JSON first."""

_BEGIN, _END = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"  # signature, no flags, no extension; and no more rows
_ROW = Struct(">h").pack(len(COLUMNS))
_length = Struct(">i").pack
_numbers = Struct(">i16siiiqihiqihiq").pack
"""id, policy_edition, ts, record_partition, record_offset, partition, offset: each behind its length."""
_vector_head = Struct(">ihh").pack
_JSONB = b"\1"  # the version of its format


def copied(rows: Sequence[Row]) -> bytes:
    """All rows as one COPY of `COLUMNS`, the words as text. Raises `MemoryAway` where a vector is none of half precision."""
    return b"".join((_BEGIN, *map(_row, rows), _END))


def _row(row: Row) -> bytes:
    note, source = row.note, row.note.source
    texts = (
        note.tenant, note.agent, note.kind, note.platform, _JSONB + note.text.model_dump_json().encode(),
        subject_key(note.text.subject), "" if source is None else source.title, "" if source is None else source.url,
        "" if source is None else source.published or "", _JSONB + orjson.dumps(note.numbers), note.taint, note.provenance.record,
        row.words,
    )  # fmt: skip
    fields: list[bytes] = [_ROW]
    for text in texts:
        told = text if isinstance(text, bytes) else text.replace("\0", "").encode()
        fields += (_length(len(told)), told)
    at = note.provenance
    fields.append(
        _numbers(
            16, uuid.UUID(note.id).bytes, 4, note.policy_edition, 8, note.ts, 2, at.partition, 8, at.offset,
            2, row.at[0], 8, row.at[1],
        )
    )  # fmt: skip
    fields.append(halves(row.vector))
    return b"".join(fields)


def halves(vector: Vector) -> bytes:
    """A vector's field: numbers of half precision, rounded to the nearest. Of numpy or plain."""
    count = len(vector)
    try:
        packed = _as_halves(vector) if hasattr(vector, "astype") else Struct(f">{count}e").pack(*vector)
    except (BadNumber, OverflowError) as error:
        raise MemoryAway(f"the embedder made a vector that half precision does not hold: {error}") from error
    return _vector_head(4 + len(packed), count, 0) + packed


def _as_halves(vector: Any) -> bytes:
    packed: bytes = vector.astype(">f2").tobytes()
    return packed
