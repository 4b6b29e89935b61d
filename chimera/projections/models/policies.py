"""Policy editions that an agent adopted."""

from __future__ import annotations

from chimera.events.envelope import Record
from chimera.events.records import PolicyAdopted
from chimera.events.state import Agent, Ruling
from chimera.projections.rows import COUNTS, Model, Put, Row, Table, as_json, big, ts

POLICIES = Table("policies", ("agent_id", "edition"))


def rows(record: Record, ruling: Ruling, agent: Agent | None) -> list[Row]:
    """One row per edition adopted."""
    data = record.data
    if not isinstance(data, PolicyAdopted):
        return []
    return [
        Put(
            POLICIES,
            (record.key, big(data.edition)),
            {
                "digest": data.digest,
                "editor": data.editor,
                "stales": data.stales,
                "inline": as_json(data.inline.model_dump(mode="json")),
                "rules": data.rules,
                "created_at": ts(record.append_ts),
                "partition": record.partition,
                "offset": record.offset,
            },
        )
    ]


MODEL = Model("policies", (POLICIES,), rows, types=frozenset({"PolicyAdopted"}), outcomes=COUNTS)
