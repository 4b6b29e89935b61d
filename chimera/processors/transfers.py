"""Transfers of coins and tokens that a signed command named: the task, the exact call, and what the judge holds it against.

The rule not to break: the call moves just what the command named, to just whom; nothing here reads an outside word.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from chimera.events.records import ArtifactProduced, EffectProposal, HumanEdited, PlanRow
from chimera.policy.brief import WALLET, Transfer

Moves = Callable[[EffectProposal], str | None]
"""The symbol of the asset that a call moves by its profile's table; None where it moves none that is known."""


def row_of(transfer: Transfer, campaign: int, ordinal: int) -> PlanRow:
    """One task: it reads the account whose wallet pays."""
    return PlanRow(
        ordinal=ordinal,
        kind="transfer",
        title=f"Pay {transfer.amount} {transfer.asset} to {transfer.to}"[:200],
        reads=[f"brief/{campaign}", f"account/{WALLET}"],
        inputs=transfer.model_dump(mode="json"),
    )


def content_of(row: PlanRow) -> dict[str, Any]:
    """What the artifact says of itself."""
    return {"transfer": row.inputs["to"], "platform": WALLET, **{name: row.inputs[name] for name in ("asset", "amount", "reason")}}


def wrong(named: Transfer | None, d: ArtifactProduced | HumanEdited, moves: Moves) -> str:
    """In what the call differs from what the command named, by name; "" where it is just that."""
    e = d.effect
    if named is None or e is None:
        return "no command named a transfer" if named is None else "nothing is proposed"
    if (e.platform, e.effect_class, e.text_hash) != (WALLET, "financial", ""):
        return f"it is no transfer but a {e.effect_class} effect on {e.platform}"
    if moves(e) != named.asset:
        return f"it moves {moves(e) or 'an unknown asset'}, the command named {named.asset}"
    said = {name: str(e.arguments.get(name, "")) for name in e.arguments}
    if e.payee != named.to or named.to not in said.values():
        return "it pays somebody else than the command named"
    amounts = [value for name, value in said.items() if name in ("amount", "value")]
    if amounts != [named.amount] or Decimal(named.amount) <= 0:
        return f"it moves another amount than the {named.amount} {named.asset} that the command named"
    return ""
