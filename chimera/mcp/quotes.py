"""What a transfer is in the ledger's money: which asset a call moves, how much of it, and the most that this may come to. Pure.

The one rule: all of it is read from the arguments that would be sent, by prices that stand in the profile. An asset that is not in
the table has no price, and is not moved.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_UP, Decimal, InvalidOperation
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from chimera.mcp.tiers import UnknownTier
from chimera.shapes import Symbol

_CENTS = Decimal("0.00000001")
"""The ledger's smallest step, in US dollars."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Asset(_Frozen):
    """One asset: what a whole unit counts for in US dollars, into how many decimals it is cut, and where its contract is by mode
    (empty: the chain's own coin)."""

    symbol: Symbol
    usd: str
    decimals: int = Field(ge=0, le=18)
    address: dict[str, str] = {}

    @field_validator("usd")
    @classmethod
    def _is_money(cls, written: str) -> str:
        if _decimal(written) <= 0:
            raise ValueError(f'usd {written!r} is no price: write US dollars of a whole unit as "4000.00"')
        return written


class Quote(_Frozen):
    """How a capability's arguments are priced. `amount`: the argument in whole units; `token`: the one that names the contract,
    None where the chain's own coin is moved; `fee_usd`: the most that the chain's fee may come to."""

    amount: str
    token: str | None = None
    fee_usd: str
    assets: tuple[Asset, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _has_a_coin(self) -> Quote:
        if sum(not asset.address for asset in self.assets) != 1:
            raise ValueError("assets name exactly one without an address: the chain's own coin, in which fees are paid")
        if _decimal(self.fee_usd) < 0:
            raise ValueError(f'fee_usd {self.fee_usd!r} is no amount: write US dollars as "1.00"')
        return self

    @property
    def coin(self) -> Asset:
        """What fees are paid in."""
        return next(asset for asset in self.assets if not asset.address)

    def symbols(self) -> list[str]:
        """What this capability moves."""
        return [asset.symbol for asset in self.assets if bool(asset.address) == (self.token is not None)]

    def address_of(self, symbol: str, mode: str) -> str | None:
        """The contract of a token; None for the chain's own coin. Raises UnknownTier."""
        found = next((asset for asset in self.assets if asset.symbol == symbol), None)
        if found is None or symbol not in self.symbols():
            raise UnknownTier(f"no asset {symbol[:20]!r} here; there are: {', '.join(self.symbols())}")
        if found.address and _mode(mode) not in found.address:
            raise UnknownTier(f"asset {symbol} has no contract for mode {mode!r}: write it into the profile")
        return found.address.get(_mode(mode))

    def asset(self, arguments: Mapping[str, Any], mode: str) -> Asset:
        """What a call with these arguments moves. Raises UnknownTier."""
        if self.token is None:
            return self.coin
        wanted = str(arguments.get(self.token, "")).lower()
        for asset in self.assets:
            if asset.address and asset.address.get(_mode(mode), "").lower() == wanted:
                return asset
        raise UnknownTier(f"token {wanted[:44]!r} is no asset of this profile; it moves: {', '.join(self.symbols())}")

    def moved(self, arguments: Mapping[str, Any], mode: str) -> Decimal:
        """How much of it, in whole units. Raises UnknownTier for what is no amount of this asset."""
        written, asset = str(arguments.get(self.amount, "")), self.asset(arguments, mode)
        amount = _decimal(written)
        if amount <= 0 or _decimals(amount) > asset.decimals:
            raise UnknownTier(f"{written[:40]!r} is no amount of {asset.symbol}: above 0, with at most {asset.decimals} decimals")
        return amount

    def price(self, arguments: Mapping[str, Any], mode: str) -> Decimal:
        """The most that it may come to, in US dollars: what is moved and the highest fee. Raises UnknownTier."""
        return self._worth(arguments, mode, Decimal(self.fee_usd))

    def actual(self, arguments: Mapping[str, Any], mode: str, fee: Any) -> Decimal:
        """What it came to with a fee of so many whole coins; without one that can be read, the most. Raises UnknownTier."""
        paid = _decimal(str(fee))
        if paid < 0:
            return self.price(arguments, mode)
        return self._worth(arguments, mode, paid * Decimal(self.coin.usd))

    def _worth(self, arguments: Mapping[str, Any], mode: str, fee_usd: Decimal) -> Decimal:
        worth = self.moved(arguments, mode) * Decimal(self.asset(arguments, mode).usd) + fee_usd
        return worth.quantize(_CENTS, rounding=ROUND_UP)


def _decimal(written: str) -> Decimal:
    """An amount; -1 for what is none (such as 1e9, NaN, +1)."""
    if not written or len(written) > 60 or not written.replace(".", "", 1).isascii() or not written.replace(".", "", 1).isdigit():
        return Decimal(-1)
    try:
        return Decimal(written)
    except InvalidOperation:
        return Decimal(-1)


def _decimals(amount: Decimal) -> int:
    exponent = amount.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _mode(mode: str) -> str:
    return "live" if mode == "dry_run" else mode
