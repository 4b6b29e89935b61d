"""Proposed acts on the outside world, from proposal to end."""

from __future__ import annotations

from chimera.events.envelope import Record
from chimera.events.records import ArtifactProduced, EffectClaimed, EffectEnded, EffectProposal, HumanEdited
from chimera.events.state import Agent, Change, Ruling
from chimera.projections.rows import Model, Put, Row, Set, Table, Value, as_json, money, stamp, ts

EFFECTS = Table("effects", ("agent_id", "campaign", "ordinal", "attempt"), once=frozenset({"proposed_at"}))
BACK_TO_APPROVED = frozenset({"deferred", "not_executed"})
OVER = frozenset({"executed", "refused", "withdrawn", "expired", "rejected", "stale", "closed"})


def rows(record: Record, ruling: Ruling, agent: Agent | None) -> list[Row]:
    """One row per attempt that proposed an effect; an edit replaces the bytes, not the row."""
    data, out = record.data, list[Row]()
    if ruling.outcome == "applied" and isinstance(data, ArtifactProduced | HumanEdited) and data.effect is not None:
        out.append(_proposed(record, data, data.effect))
    out += [_step(record, change) for change in ruling.changes if change.what == "effect"]
    return out


def _proposed(record: Record, data: ArtifactProduced | HumanEdited, effect: EffectProposal) -> Put:
    return Put(
        EFFECTS,
        (record.key, data.campaign, data.ordinal, data.attempt),
        {
            "effect_hash": effect.effect_hash,
            "effect_class": effect.effect_class,
            "tool_class": effect.tool_class,
            "profile": effect.profile,
            "mode": effect.mode,
            "tool": effect.tool,
            "platform": effect.platform,
            "account": effect.account,
            "thread": effect.thread,
            "arguments": as_json(effect.arguments),
            "max_cost_usd": money(effect.max_cost_usd),
            "disclosure": effect.disclosure,
            "edit": data.edit if isinstance(data, HumanEdited) else 0,
            "status": "proposed",
            "reason": "",
            "proposed_at": ts(record.append_ts),
            **stamp(record),
        },
    )


def _step(record: Record, change: Change) -> Set:
    data, now = record.data, ts(record.append_ts)
    status = "approved" if change.status in BACK_TO_APPROVED else change.status
    values: dict[str, Value] = {
        "status": status,
        "reason": change.reason or change.status * (status != change.status),
        **stamp(record),
    }
    if change.status == "approved" and change.reason not in BACK_TO_APPROVED:
        values["approved_at"] = now
    if change.status == "claimed" and isinstance(data, EffectClaimed):
        values |= {"claimed_at": now, "claim": data.claim}
    if status in OVER:
        values["ended_at"] = now
    if change.status == "executed" and isinstance(data, EffectEnded):
        values |= {"platform_id": data.platform_id, "url": data.url, "cost_usd": money(data.cost_usd)}
    return Set(EFFECTS, (record.key, change.campaign, change.ordinal, change.attempt), values)


MODEL = Model("effects", (EFFECTS,), rows, types=frozenset({"ArtifactProduced", "HumanEdited"}), changes=frozenset({"effect"}))
