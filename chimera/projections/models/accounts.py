"""On which platforms an agent acts, and as whom."""

from __future__ import annotations

from chimera.events.envelope import Record
from chimera.events.records import AccountLinked, AccountUnlinked
from chimera.events.state import Agent, Ruling
from chimera.projections.rows import COUNTS, Model, Put, Row, Set, Table, stamp

ACCOUNTS = Table("accounts", ("agent_id", "platform"), optional=True)


def rows(record: Record, ruling: Ruling, agent: Agent | None) -> list[Row]:
    """One row per platform; an unlinked account stays to be seen."""
    data = record.data
    if isinstance(data, AccountLinked):
        return [Put(ACCOUNTS, (record.key, data.platform), {"account": data.account, "status": "linked", **stamp(record)})]
    if isinstance(data, AccountUnlinked):
        return [Set(ACCOUNTS, (record.key, data.platform), {"status": "unlinked", **stamp(record)})]
    return []


MODEL = Model("accounts", (ACCOUNTS,), rows, types=frozenset({"AccountLinked", "AccountUnlinked"}), outcomes=COUNTS)
