"""Transfers of coins and tokens: what was to be paid to whom, and what the chain's receipt says of it.

The rule not to break: a row says what records say; whether the chain says the same is `chimera wallet transactions --check`.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from chimera.events.envelope import Record
from chimera.events.records import ArtifactProduced, EffectEnded, EffectSubmitted, HumanEdited
from chimera.events.state import Agent, Change, Ruling
from chimera.projections.rows import Model, Put, Row, Set, Table, Value, clipped, stamp, ts

TRANSACTIONS = Table("transactions", ("agent_id", "campaign", "ordinal", "attempt"), once=frozenset({"created_at"}), optional=True)
PROPOSE = frozenset((ArtifactProduced, HumanEdited))
ANSWERED = frozenset({"submitted", "executed", "refused"})
"""What may bring word of a transfer."""
_NUMBERS = ("block", "nonce", "gas")
_WORDS = ("block_hash", "sender")


def rows(record: Record, ruling: Ruling, agent: Agent | None) -> list[Row]:
    """One row per attempt that proposed a financial effect; its receipt when the chain was asked."""
    data, out = record.data, list[Row]()
    if type(data) in PROPOSE:
        assert isinstance(data, (ArtifactProduced, HumanEdited))
        effect = data.effect
        if ruling.outcome == "applied" and effect is not None and effect.effect_class == "financial":
            named = {"asset": _text(data.content.get("asset")), "amount": _amount(data.content.get("amount"))}
            told: dict[str, Value] = {**named, "payee": clipped(effect.payee or ""), "created_at": ts(record.append_ts)}
            out.append(Put(TRANSACTIONS, (record.key, data.campaign, data.ordinal, data.attempt), told | stamp(record)))
    for change in ruling.changes:
        if change.what == "effect" and change.status in ANSWERED and (row := _step(record, change)) is not None:
            out.append(row)
    return out


def _step(record: Record, change: Change) -> Set | None:
    data = record.data
    values: dict[str, Value]
    if change.status == "submitted" and isinstance(data, EffectSubmitted):
        values = {"hash": clipped(data.handle), "submitted_at": ts(record.append_ts)}
    elif change.status != "submitted" and isinstance(data, EffectEnded):
        values = _receipt(data)
    else:
        return None
    return Set(TRANSACTIONS, (record.key, change.campaign, change.ordinal, change.attempt), values | stamp(record))


def _receipt(data: EffectEnded) -> dict[str, Value]:
    """What the chain says; where only a person or a look-up said that it was executed, its hash."""
    said = data.receipt
    found: dict[str, Value] = {} if data.platform_id is None else {"hash": clipped(data.platform_id)}
    if not said:
        return found
    found |= {name: _count(said[name]) for name in _NUMBERS if name in said}
    found |= {name: clipped(said[name]) for name in _WORDS if name in said}
    found |= {"token": clipped(said["token"])} if said.get("token") else {}
    found |= {"fee": _amount(said["fee"])} if "fee" in said else {}
    found |= {"chain_status": clipped(said["status"])} if "status" in said else {}
    if "hash" in said:
        found["hash"] = clipped(said["hash"])
    return found


def _text(value: object) -> str:
    return clipped(value) if isinstance(value, str) else ""


def _count(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def _amount(value: object) -> Decimal | None:
    """Whole units with at most 18 decimals, as numeric(38, 18) takes them."""
    try:
        amount = Decimal(value) if isinstance(value, str) and len(value) <= 60 else None
    except InvalidOperation:
        return None
    if amount is None or not amount.is_finite() or amount.adjusted() > 19 or amount.as_tuple().exponent < -18:  # type: ignore[operator]
        return None
    return amount


MODEL = Model(
    "transactions", (TRANSACTIONS,), rows, types=frozenset({"ArtifactProduced", "HumanEdited"}), changes=frozenset({"effect"}),
    statuses=ANSWERED,
)  # fmt: skip
