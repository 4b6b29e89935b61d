"""Records for the cells of the law's table, made from the log that they come after: right unless a field is given otherwise."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from chimera.events import records as rec
from chimera.events.hashes import digest
from tests.histories import INLINE, UNREAD, Log, artifact, proposal, verdict, vote_fields

AT = {"campaign": 1, "ordinal": 1, "attempt": 1}
MILLION = 1_000_000

Make = Callable[[Log], rec.Data]


def next_number(log: Log) -> int:
    return (log.state["command_no"] if log.states[-1] else 0) + 1


def command(model: type[rec.Data], **fields: Any) -> Make:
    return lambda log: model(**{"command_no": next_number(log), **fields})


def copy_of(model: Callable[..., rec.Data], number: int = 1, **fields: Any) -> Make:
    return lambda log: model(copied=rec.Copied(source="tenant/acme", number=number), **fields)


def plain(model: type[rec.Data], **fields: Any) -> Make:
    return lambda log: model(**fields)


def at(model: type[rec.Data], **fields: Any) -> Make:
    return lambda log: model(**{**AT, **fields})


def _effect(log: Log, ordinal: int = 1) -> rec.EffectProposal:
    effect: rec.EffectProposal = log.state["campaigns"][1]["tasks"][ordinal]["effect"]["proposal"]
    return effect


def claim(**fields: Any) -> Make:
    def make(log: Log) -> rec.Data:
        named = {"effect_hash": _effect(log, fields.get("ordinal", 1)).effect_hash, "claim": 1, "token": "t1", "lease_ms": 200}
        return rec.EffectClaimed(**{**AT, **named, **fields})

    return make


def vote(**fields: Any) -> Make:
    def make(log: Log) -> rec.Data:
        d = verdict(
            log.state, 1, 1, **{k: v for k, v in fields.items() if k in ("confidence", "judge", "decision", "tags", "failed_rules")}
        )
        return d.model_copy(update={k: v for k, v in fields.items() if k not in ("tags", "failed_rules")})

    return make


def approve(**fields: Any) -> Make:
    return lambda log: rec.HumanApproved(**{**vote_fields(1, 1, 1, log.state), "shown_hash": "h", **fields})


def reject(**fields: Any) -> Make:
    def make(log: Log) -> rec.Data:
        named = {"policy_edition": 1, "effect_hash": _effect(log).effect_hash, "edit": 0, "reason_code": "other"}
        return rec.HumanRejected(**{**AT, **named, **fields})

    return make


def edit(**fields: Any) -> Make:
    def make(log: Log) -> rec.Data:
        old, content = _effect(log), {"text": "better words"}
        kept = {"thread": old.thread, "cost": old.max_cost_usd, "effect_class": old.effect_class}
        new = proposal("better words", input_version=3, **{**kept, **fields.get("effect", {})})
        named = {
            "policy_edition": 1,
            "old_effect_hash": old.effect_hash,
            "edit": 1,
            "artifact_hash": digest(content),
            "content": content,
        }
        return rec.HumanEdited(**{**AT, **named, **fields, "effect": new})

    return make


def hold(held: bool = True, **fields: Any) -> Make:
    def make(log: Log) -> rec.Data:
        named = {"command_no": next_number(log), "effect_hash": _effect(log).effect_hash, "held": held, "reason": "asks legal"}
        return rec.CardHoldSet(**{**AT, **named, **fields})

    return make


def withdraw(**fields: Any) -> Make:
    def make(log: Log) -> rec.Data:
        named = {"command_no": next_number(log), "effect_hash": _effect(log).effect_hash}
        return rec.EffectWithdrawn(**{**AT, **named, **fields})

    return make


def end(outcome: str, **fields: Any) -> Make:
    return at(rec.EffectEnded, **{"claim": 1, "outcome": outcome, **fields})


def work(effect: dict[str, Any] | None = None, **fields: Any) -> Make:
    def make(log: Log) -> rec.Data:
        proposed = None if effect is None else proposal(**{"input_version": 3, **effect})
        at_ = {"campaign": 1, "ordinal": 1, "attempt": 1, "input_version": 3, **fields}
        return artifact(effect=proposed, **at_)

    return make


def funds(answer: str, number: int = 1, **fields: Any) -> Make:
    return copy_of(rec.FundsAnswered, number, **{**AT, "answer": answer, **fields})


def plan(*rows: rec.PlanRow, **fields: Any) -> Make:
    return plain(rec.PlanDrafted, **{"campaign": 1, "round": 2, "brief_edition": 1, "rows": list(rows), **fields})


SIGNAL = rec.Signal.model_construct(thread="a", external_id="e", author=UNREAD, text=UNREAD, observed_at=1, taint="open")


def signal(number: int) -> Make:
    return lambda log: rec.SignalObserved.model_construct(source="x", number=number, cursor="c", items=[SIGNAL])


ALLOWANCE = {"limit_usd": Decimal(5), "window_ms": MILLION}
POLICY: dict[str, Any] = {"digest": "p2", "editor": "eve", "inline": INLINE}
START_CAMPAIGN: dict[str, Any] = {"campaign_id": "c-2", "name": "n", "brief": {}, "brief_hash": "b"}
BRIEF: dict[str, Any] = {"campaign": 1, "brief": {}, "brief_hash": "b"}
TOLD: dict[str, Any] = {"campaign_id": "c-1", "brief": {}, "brief_hash": "b"}
"""A brief as the tenant's copy tells it: without the agent's numbers."""
