"""`chimera.security` as rows: who came in, who was turned away, who changed what guards the fleet. No fold.

The rule not to break: a record that cannot be read still becomes a row (`what` unreadable), so that counts stay true.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from chimera.events.raw import RawRecord
from chimera.events.security import EVERY_TENANT, TOPIC, security_of
from chimera.projections import following
from chimera.projections.batch import Entry, Stretch
from chimera.projections.rows import Insert, Table, clipped, ts
from chimera.projections.write import Connection, write

MODEL_SET = "security"
UNREADABLE = "unreadable"
EVENTS = Table(
    "security_events",
    ("partition", "offset"),
    (
        "id", "tenant", "what", "outcome", "door", "who", "origin", "action", "resource", "reason", "digest", "count",
        "began_at", "ended_at", "created_at", "partition", "offset",
    ),
)  # fmt: skip
TABLES = (EVENTS,)
_WHAT = EVENTS.columns.index("what")


def row(raw: RawRecord) -> Insert:
    """The row of a record; no column of it can be refused, whoever wrote the record."""
    said = security_of(raw)
    headers = dict(raw.headers)
    id_ = _text(headers.get("ce_id")) or f"{raw.topic}/{raw.partition}/{raw.offset}"
    place = (ts(raw.append_ts), raw.partition, raw.offset)
    if said is None:
        nothing = ("", "", "", "", "", "", "", "", 1)
        return Insert(EVENTS, (id_, EVERY_TENANT, UNREADABLE, *nothing, ts(raw.append_ts), ts(raw.append_ts), *place))
    told = (said.what, said.outcome, said.door, said.who, said.origin, said.action, said.resource, said.reason, said.digest)
    clean = [each.replace("\0", "?") for each in told]
    return Insert(EVENTS, (id_, _text(raw.key) or EVERY_TENANT, *clean, said.count, ts(said.at), ts(said.until), *place))


def _text(raw: bytes | None) -> str:
    return clipped((raw or b"").decode(errors="replace").replace("\0", "?"))


def stretches(raws: Sequence[RawRecord]) -> list[Stretch]:
    """Rows per partition of records read in order."""
    made: dict[int, Stretch] = {}
    for raw in raws:
        stretch = made.setdefault(raw.partition, Stretch(raw.topic, raw.partition, raw.offset, raw.offset))
        found = row(raw)
        stretch.entries.append(Entry(MODEL_SET, str(found.values[1]), raw.partition, raw.offset, [found]))
        stretch.unreadable += found.values[_WHAT] == UNREADABLE
        stretch.end, stretch.last_append_ts, stretch.records = raw.offset + 1, raw.append_ts, stretch.records + 1
    return [made[p] for p in sorted(made)]


def write_security(connection: Connection, schema: str, raws: Sequence[RawRecord]) -> None:
    """Write what was read in order. Raises what `write` raises."""
    write(connection, schema, MODEL_SET, stretches(raws), TABLES)


SIDE: following.Side[Sequence[RawRecord]] = following.Side(MODEL_SET, 2_000, lambda raws: raws, write_security, gather_ms=200)


def follow(bootstrap: str, dsn: str, stop: threading.Event, *, schema: str = "core", topic: str = TOPIC) -> None:
    """Project until told to stop; see `following.follow`."""
    following.follow(SIDE, bootstrap, dsn, stop, schema=schema, topic=topic)
