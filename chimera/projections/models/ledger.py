"""The tenant's ledger, entry by entry: what was held, refused, left waiting and settled, each in its windows."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from chimera.events.envelope import Record
from chimera.events.law import TENANT_TABLE
from chimera.events.state import Agent, Ruling
from chimera.events.tenant import DAY_MS, Tenant
from chimera.projections.rows import Insert, Model, Row, Table, clipped, money, ts

LEDGER = Table(
    "ledger",
    ("partition", "offset", "n"),
    (
        "tenant_id", "agent_id", "campaign", "ordinal", "attempt", "campaign_id", "entry", "reason", "amount_usd", "day",
        "created_at", "partition", "offset", "n",
    ),
)  # fmt: skip


def rows(record: Record, ruling: Ruling, tenant: Agent | Tenant | None) -> list[Row]:
    """One row per entry; a record may make several, where it frees room for those who wait."""
    found = [change for change in ruling.changes if change.what == "ledger"]
    out: list[Row] = []
    for n, change in enumerate(found):
        agent, amount, day, campaign_id = change.detail.split(" ", 3)
        place = (change.campaign, change.ordinal, change.attempt)
        entry = (clipped(campaign_id), change.status, change.reason, money(Decimal(amount)), _date(int(day)))
        at = (ts(record.append_ts), record.partition, record.offset, n)
        out.append(Insert(LEDGER, (record.key, agent, *place, *entry, *at)))
    return out


def _date(day: int) -> str:
    """The UTC date of a day of the ledger."""
    return datetime.fromtimestamp(min(day * DAY_MS / 1000, 253_402_300_799), UTC).date().isoformat()


MODEL = Model("ledger", (LEDGER,), rows, types=frozenset(TENANT_TABLE), changes=frozenset({"ledger"}))
