"""What outside people said to agents, and which task answers it. Their words and names stay sealed on the log."""

from __future__ import annotations

from chimera.events.envelope import Record
from chimera.events.records import PlanDrafted, SignalObserved
from chimera.events.state import Agent, Ruling
from chimera.projections.rows import COUNTS, Model, Put, Row, Set, Table, big, clipped, small, stamp, ts

SIGNALS = Table("signals", ("agent_id", "heard_at", "item"), optional=True)


def rows(record: Record, ruling: Ruling, agent: Agent | None) -> list[Row]:
    """One row per item of a poll; the round of answers that a planner drafts names the task that writes each answer."""
    data, now = record.data, ts(record.append_ts)
    if isinstance(data, SignalObserved):
        return [
            Put(
                SIGNALS,
                (record.key, record.offset, index),
                {
                    "source": data.source,
                    "number": big(data.number),
                    "thread": clipped(item.thread),
                    "external_id": item.external_id,
                    "observed_at": ts(item.observed_at),
                    "taint": item.taint,
                    "created_at": now,
                    "campaign": None,
                    "answered_by": None,
                    **stamp(record),
                },
            )
            for index, item in enumerate(data.items)
        ]
    if not isinstance(data, PlanDrafted) or not data.answers:
        return []
    out: list[Row] = []
    for row in data.rows:
        place, item = row.inputs.get("signal"), small(row.inputs.get("item"))
        if row.kind != "reply" or item is None or not isinstance(place, list | tuple) or len(place) != 2:
            continue
        heard_at = place[1]
        if isinstance(heard_at, int) and place[0] == record.partition:
            values = {"campaign": data.campaign, "answered_by": row.ordinal, **stamp(record)}
            out.append(Set(SIGNALS, (record.key, big(heard_at), item), values))
    return out


MODEL = Model("signals", (SIGNALS,), rows, types=frozenset({"SignalObserved", "PlanDrafted"}), outcomes=COUNTS)
