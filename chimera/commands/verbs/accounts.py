"""Accounts on platforms."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from chimera.commands.verbs.base import Read, TenantName, Wish
from chimera.shapes import Shaped

Platform = Annotated[str, Shaped(r"^[\w.-]+$", "write up to 64 letters, digits, '.', '_' and '-', as in x", 1, 64)]
SecretRef = Annotated[str, Shaped(r"^((env|file|command):.+)?$", "write env:NAME, file:PATH or command:WORDS", longest=500)]
Account = Annotated[str, Field(min_length=1, max_length=200)]


class AccountList(Read):
    """Every account: whose it is, where its credential lies, when that ends, and whose the platform says it is."""

    verb: Literal["account.list"] = "account.list"
    tenant: TenantName | None = None


class AccountLink(Wish):
    """Give an account of a platform to an agent, through its tenant; said again, what is given of the credential changes."""

    verb: Literal["account.link"] = "account.link"
    agent: str
    platform: Platform
    account: Account
    secret_ref: SecretRef | None = None
    expires_ts: int | None = Field(default=None, ge=0)


class AccountUnlink(Wish):
    """Make an account nobody's."""

    verb: Literal["account.unlink"] = "account.unlink"
    platform: Platform
    account: Account
    tenant: TenantName | None = None


class AccountSaid(Wish):
    """Keep what the platform said, asked with the account's credential, of whose it is."""

    verb: Literal["account.verified"] = "account.verified"
    tenant: TenantName
    platform: Platform
    account: Account
    secret_ref: str = Field(default="", max_length=500)
    found: str = Field(default="", max_length=200)
    platform_id: str = Field(default="", max_length=200)
    reason: str = Field(default="", max_length=64)
    mode: Literal["sandbox", "live"]
