"""Tenants: who belongs to them, whose an account is, who may be paid how much, what was published, which copies are owed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from chimera.events.envelope import Record
from chimera.events.law import TENANT_TABLE
from chimera.events.records import (
    AccountClaimed,
    AccountReleased,
    AgentJoined,
    AgentLeft,
    BudgetSet,
    CampaignChanged,
    CampaignOpened,
    CopiesDelivered,
    PolicyPublished,
    SoulPublished,
    TenantCampaignStatusSet,
)
from chimera.events.state import Agent, Change, Ruling
from chimera.events.tenant import Tenant, Window
from chimera.projections.rows import COUNTS, Model, Put, Row, Set, Table, Value, big, clipped, money, stamp, ts

TENANTS = Table("tenants", ("tenant_id",))
MEMBERS = Table("tenant_members", ("tenant_id", "agent_id"))
CLAIMS = Table("tenant_accounts", ("tenant_id", "platform", "account"))
PAYEES = Table("payees", ("tenant_id", "payee"))
BUDGETS = Table("budgets", ("tenant_id", "scope"))
PUBLISHED = Table("published", ("tenant_id", "what", "edition"))
CAMPAIGNS = Table("tenant_campaigns", ("tenant_id", "campaign_id"), once=frozenset({"created_at"}))
OWED = Table("copies_owed", ("tenant_id", "agent_id"))
_TELLS = (
    AccountClaimed, AccountReleased, PolicyPublished, SoulPublished, CampaignOpened, CampaignChanged, TenantCampaignStatusSet,
)  # fmt: skip
"""Records that agents are owed copies of."""


def rows(record: Record, ruling: Ruling, tenant: Agent | Tenant | None) -> list[Row]:
    """One row per thing as it is after the record."""
    if not isinstance(tenant, Tenant):
        return []
    out: list[Row] = [Put(TENANTS, (record.key,), _state(tenant) | stamp(record))]
    for change in ruling.changes:
        out += _changed(record, change, tenant)
    out += [Put(OWED, (record.key, agent), _debts(tenant, agent) | stamp(record)) for agent in _told(record, ruling, tenant)]
    return out


def _state(t: Tenant) -> dict[str, Value]:
    """Numbers of the whole tenant."""
    window = t.windows.get("tenant", Window())
    return {
        "tenant": t.tenant,
        "state_version": t.version,
        "members": len(t.members),
        "reserved_usd": money(window.reserved),
        "spent_usd": money(window.spent),
        "held": len(t.reserved),
        "waiting": len(t.waiting),
        "copies_owed": sum(map(len, t.owed.values())),
    }


def _changed(record: Record, change: Change, t: Tenant) -> Iterable[Row]:
    data: Any = record.data
    key, now = record.key, stamp(record)
    if change.what == "member" and isinstance(data, AgentJoined):
        groups: Value = list(t.members[data.agent].groups)
        yield Put(MEMBERS, (key, data.agent), {"name": data.name, "groups": groups, "status": "joined", **now})
    elif change.what == "member" and isinstance(data, AgentLeft):
        yield Set(MEMBERS, (key, data.agent), {"status": "left", **now})
    elif change.what == "account_claim" and isinstance(data, AccountClaimed):
        yield Put(CLAIMS, (key, data.platform, data.account), {"agent_id": data.agent, "status": "claimed", **now})
    elif change.what == "account_claim" and isinstance(data, AccountReleased | AgentLeft):
        yield Set(CLAIMS, (key, change.reason, change.detail), {"status": "released", **now})
    elif change.what == "payee":
        yield Put(PAYEES, (key, change.detail), {"status": change.status, **now})
    elif change.what == "budget" and isinstance(data, BudgetSet):
        limits: dict[str, Value] = {"asked_usd": money(data.limit_usd)}
        if change.status == "set":
            limits = {"asked_usd": None, "limit_usd": money(data.limit_usd)}
        yield Put(BUDGETS, (key, data.scope), limits | now)
    elif change.what == "edition" and isinstance(data, PolicyPublished | SoulPublished):
        told = int(change.detail.split(" ")[1])
        body: dict[str, Value] = {"digest": data.digest, "selector": change.reason, "told": told, "actor": record.actor, **now}
        yield Put(PUBLISHED, (key, change.status, big(data.edition)), body)
    elif change.what == "tenant_campaign" and isinstance(data, CampaignOpened):
        opened: dict[str, Value] = {"name": data.name, "status": "running", "brief_edition": 1, "told": int(change.detail)}
        at = ts(record.append_ts)
        yield Put(CAMPAIGNS, (key, data.campaign_id), {**opened, "requester": record.actor, "created_at": at, **now})
    elif change.what == "tenant_campaign" and isinstance(data, CampaignChanged):
        yield Set(CAMPAIGNS, (key, data.campaign_id), {"brief_edition": data.edition, **now})
    elif change.what == "tenant_campaign" and isinstance(data, TenantCampaignStatusSet):
        yield Set(CAMPAIGNS, (key, data.campaign_id), {"status": data.status, **now})


def _told(record: Record, ruling: Ruling, t: Tenant) -> list[str]:
    """The agents whose debts this record changed."""
    data = record.data
    if isinstance(data, CopiesDelivered):
        return [data.target]
    found = {change.detail.split(" ")[0] for change in ruling.changes if change.what == "ledger" and change.status != "settled"}
    if isinstance(data, AgentJoined | AgentLeft):
        found.add(data.agent)
    if isinstance(data, _TELLS):
        place = (record.partition, record.offset)
        found |= {agent for agent, owed in t.owed.items() if owed[-1].ref == place}
    return sorted(agent for agent in found if agent in t.owed_no)


def _debts(t: Tenant, agent: str) -> dict[str, Value]:
    owed = t.owed.get(agent, [])
    oldest: Value = clipped(owed[0].what) if owed else None
    return {"number": t.owed_no[agent], "delivered": t.delivered.get(agent, 0), "owed": len(owed), "next": oldest}


MODEL = Model(
    "tenants",
    (TENANTS, MEMBERS, CLAIMS, PAYEES, BUDGETS, PUBLISHED, CAMPAIGNS, OWED),
    rows,
    types=frozenset(TENANT_TABLE),
    outcomes=COUNTS,
)
