"""Proposed acts on the outside world, from proposal to end."""

from __future__ import annotations

from chimera.events.envelope import Record
from chimera.events.records import ArtifactProduced, EffectClaimed, EffectEnded, EffectProposal, HumanEdited
from chimera.events.state import Agent, Change, Ruling
from chimera.projections.rows import Model, Put, Row, Set, Table, Value, as_json, money, stamp, ts

EFFECTS = Table("effects", ("agent_id", "campaign", "ordinal", "attempt"), once=frozenset({"proposed_at"}))
BACK_TO_APPROVED = frozenset({"deferred", "not_executed"})
PROPOSE = frozenset((ArtifactProduced, HumanEdited))
OVER = frozenset({"executed", "refused", "withdrawn", "expired", "rejected", "stale", "closed"})


def rows(record: Record, ruling: Ruling, agent: Agent | None) -> list[Row]:
    """One row per attempt that proposed an effect; an edit replaces the bytes, not the row."""
    data, out = record.data, list[Row]()
    if type(data) in PROPOSE and ruling.outcome == "applied":
        assert isinstance(data, (ArtifactProduced, HumanEdited))
        if data.effect is not None:
            out.append(_proposed(record, data, data.effect))
    for change in ruling.changes:
        if change.what == "effect" and not (change.status == "proposed" and out and not change.reason):  # said already
            out.append(_step(record, change))
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
        fresh=isinstance(data, ArtifactProduced),
    )


def _step(record: Record, change: Change) -> Set:
    data, now = record.data, ts(record.append_ts)
    _, campaign, ordinal, attempt, said, reason, _ = change
    status = said
    if said in BACK_TO_APPROVED:
        status, reason = "approved", reason or said
    values: dict[str, Value] = {
        "status": status, "reason": reason, "updated_at": now, "partition": record.partition, "offset": record.offset,
    }  # fmt: skip
    if said == "approved":
        if change.reason not in BACK_TO_APPROVED:
            values["approved_at"] = now
    elif said == "claimed":
        if isinstance(data, EffectClaimed):
            values["claimed_at"], values["claim"] = now, data.claim
    elif status in OVER:
        values["ended_at"] = now
        if said == "executed" and isinstance(data, EffectEnded):
            values["platform_id"], values["url"], values["cost_usd"] = data.platform_id, data.url, money(data.cost_usd)
    return Set(EFFECTS, (record.key, campaign, ordinal, attempt), values)


MODEL = Model("effects", (EFFECTS,), rows, types=frozenset({"ArtifactProduced", "HumanEdited"}), changes=frozenset({"effect"}))
