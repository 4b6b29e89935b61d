"""What every record is made of: numbers that fit every store, closed values, and the kinds of record that others build on."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

Number = Annotated[int, Field(ge=-(2**31), lt=2**31)]
"""A number of the law (campaign, ordinal, attempt, claim, edition ...): fits every store's 32-bit integer."""
Millis = Annotated[int, Field(ge=-(2**53), le=2**53)]
"""Milliseconds, as a time or a span."""
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Taint = Literal["owner", "allowlisted", "open"]
EffectClass = Literal["publish", "paid", "financial"]
ToolClass = Literal["read", "keyed", "reconcilable", "at_most_once"]
Disclosure = Literal["automated", "assisted", "none"]
Mode = Literal["sandbox", "dry_run", "live"]


class Part(BaseModel):
    """A nested value of a record: closed, immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Data(BaseModel):
    """The value of one record. `TYPE` and `VERSION` are what the headers say."""

    # Names are remembered while values are read, contents are not: hashes and texts come once, and to look for them costs 0.17 us.
    model_config = ConfigDict(frozen=True, extra="forbid", cache_strings="keys")

    TYPE: ClassVar[str]
    VERSION: ClassVar[int] = 1
    ROLE: ClassVar[str]
    """Who may write it: the role whose key signs it where the law lists one for that role."""


class Copied(Part):
    """This record is a signed copy of a fact of another stream: the `number`-th that `source` owes this one."""

    source: str
    number: Number


class Command(Data):
    """A record of the command service (or, where `copied` is set, the courier's copy of a tenant's fact)."""

    ROLE: ClassVar[str] = "command"

    command_no: Number = 0
    """The next command number of the agent; 0 for a copy."""
    not_after: Millis = 0
    """Appended later than this (ms, broker time) the command is void; 0 = no limit."""
    copied: Copied | None = None


class TaskRecord(Data):
    """A record about one attempt of one task."""

    campaign: Number
    ordinal: Number
    attempt: Number
