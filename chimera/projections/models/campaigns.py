"""Campaigns of an agent: brief, status, and what became of the last plan."""

from __future__ import annotations

from chimera.events.envelope import Record
from chimera.events.records import BriefChanged, CampaignStarted
from chimera.events.state import Agent, Ruling
from chimera.projections.rows import Model, Put, Row, Set, Table, Value, as_json, small, stamp

CAMPAIGNS = Table("campaigns", ("agent_id", "campaign"))


def rows(record: Record, ruling: Ruling, agent: Agent | None) -> list[Row]:
    """A row per campaign; the fold numbers it (its change says how)."""
    data, out = record.data, list[Row]()
    for change in ruling.changes:
        key: tuple[Value, ...] = (record.key, change.campaign)
        if change.what == "campaign":
            if isinstance(data, CampaignStarted) and change.status == "running" and ruling.outcome == "applied":
                out.append(
                    Put(
                        CAMPAIGNS,
                        key,
                        {
                            "campaign_id": data.campaign_id,
                            "name": data.name,
                            "requester": record.actor,
                            "status": "running",
                            "reason": "",
                            "brief_edition": 1,
                            "brief": as_json(data.brief),
                            "brief_hash": data.brief_hash,
                            "plan_round": 0,
                            "plan_status": None,
                            "plan_reason": "",
                            "created_at": stamp(record)["updated_at"],
                            **stamp(record),
                        },
                    )
                )
            else:
                out.append(Set(CAMPAIGNS, key, {"status": change.status, "reason": change.reason, **stamp(record)}))
        elif change.what == "brief" and isinstance(data, BriefChanged):
            brief: dict[str, Value] = {
                "brief": as_json(data.brief),
                "brief_hash": data.brief_hash,
                "brief_edition": small(int(change.detail)),  # a copy leaves the edition to the fold
            }
            out.append(Set(CAMPAIGNS, key, brief | stamp(record)))
        elif change.what == "plan":
            round_ = int(change.detail) if change.detail.isdigit() else 0
            plan: dict[str, Value] = {"plan_round": round_, "plan_status": change.status, "plan_reason": change.reason}
            out.append(Set(CAMPAIGNS, key, plan | stamp(record)))
    return out


MODEL = Model("campaigns", (CAMPAIGNS,), rows, changes=frozenset({"campaign", "brief", "plan"}))
