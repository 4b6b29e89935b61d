"""What counted on the log, and notes, as rows of episodes. Pure but for the question to the read model.

The rules not to break: what an event says of itself is a word from a list of fields, never anybody's words; words stay sealed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from chimera.events.notes import MemoryNoted
from chimera.events.sealed import Sealed
from chimera.memory.episodes.contract import Row, packed
from chimera.projections.write import Connection

MOST_WORDS = 60
"""Characters of what an event says of itself."""
WORDS: Mapping[str, Sequence[str]] = {
    "AccountLinked": ("platform",),
    "AccountUnlinked": ("platform",),
    "AgentStatusSet": ("status",),
    "ArtifactProduced": ("kind",),
    "CampaignStatusSet": ("status",),
    "EffectEnded": ("outcome",),
    "EffectUnknown": ("reason",),
    "HumanRejected": ("reason_code",),
    "JudgeVerdict": ("judge", "decision"),
    "TaskPlanned": ("reason",),
    "WorkFailed": ("reason",),
}
"""Type -> the fields whose first words, up to a colon, are shown: what follows a colon may quote somebody."""


class Counted(NamedTuple):
    """A record as the read model has it: `items` of a poll; `thread` and `taint` of what was made to be said in a thread."""

    partition: int
    offset: int
    record: str
    type: str
    tenant: str
    agent: str
    campaign: int | None
    ordinal: int | None
    outcome: str
    reason: str
    ts: int
    said: str
    items: list[dict[str, Any]] | None
    thread: str | None
    taint: str | None


def _said() -> str:
    cases = " ".join(
        f"WHEN '{name}' THEN concat_ws(' ', {', '.join(_field(field) for field in fields)})" for name, fields in WORDS.items()
    )
    return f"left(CASE e.type {cases} ELSE '' END, {MOST_WORDS})"


def _field(name: str) -> str:
    return f"split_part(coalesce(e.data->>'{name}', ''), ':', 1)"


_COUNTED = f"""
SELECT e.partition, e."offset", e.record_id, e.type, e.tenant, e.stream, e.campaign, e.ordinal, e.outcome, e.reason,
       (extract(epoch FROM e.created_at) * 1000)::bigint, {_said()},
       CASE WHEN e.type = 'SignalObserved' AND e.outcome = 'applied' THEN e.data->'items' END,
       CASE WHEN e.type IN ('ArtifactProduced', 'HumanEdited') AND e.outcome = 'applied' THEN e.data->'effect'->>'thread' END,
       CASE WHEN e.type = 'ArtifactProduced' THEN e.data->>'taint' END
FROM unnest(%(partitions)s::smallint[], %(froms)s::bigint[], %(untils)s::bigint[]) AS r(partition, "from", until)
JOIN core.events e ON e.partition = r.partition AND e."offset" >= r."from" AND e."offset" < r.until
WHERE e.created_at > to_timestamp(%(since)s / 1000.0) AND e.outcome <> 'void' AND e.stream LIKE 'agent/%%'
ORDER BY e.partition, e."offset"
"""


def counted(connection: Connection, stretches: Mapping[int, tuple[int, int]], since_ms: int) -> list[Counted]:
    """What counted of agents' records in these stretches (partition -> from, until) and is newer, in log order."""
    values = {
        "partitions": list(stretches),
        "froms": [begin for begin, _ in stretches.values()],
        "untils": [until for _, until in stretches.values()],
        "since": since_ms,
    }
    return [Counted._make(row) for row in connection.execute(_COUNTED.encode(), values)]


def rows_of(records: Iterable[Counted]) -> list[Row]:
    """One event for each record; for what was heard, and for what was made to answer it, a row of its thread."""
    rows: list[Row] = []
    for r in records:
        at = (r.partition, r.offset)
        event = orjson.dumps((at, r.record, r.type, r.ts, r.outcome, r.reason, r.campaign, r.ordinal, r.said))
        rows.append(Row(r.tenant, r.agent, "events", "", r.ts, "", event))
        for n, item in enumerate(r.items or ()):
            text = Sealed.model_validate(item["text"])
            body = orjson.dumps(("them", packed(text), at, n, item.get("taint", "open"), r.ts))
            rows.append(Row(r.tenant, r.agent, "thread", item["thread"], r.ts, text.subject, body))
        if r.thread:
            body = orjson.dumps(("us", None, at, 0, r.taint or "open", r.ts))
            rows.append(Row(r.tenant, r.agent, "thread", r.thread, r.ts, "", body))
    return rows


def row_of(note: MemoryNoted, at: tuple[int, int], ts: int) -> Row:
    """A note; `at` and `ts` are its own place and append time."""
    made = (note.provenance.partition, note.provenance.offset)
    body = orjson.dumps((packed(note.text), at, made, note.id, note.kind, note.platform, note.taint, note.ts, note.numbers, ts))
    kind = "posts" if note.kind == "post_result" else "notes"
    return Row(note.tenant, note.agent, kind, "", ts, note.text.subject, body)  # type: ignore[arg-type]
