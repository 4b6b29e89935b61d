"""Tenants: budgets and payees."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from pydantic import Field

from chimera.commands.verbs.base import Names, Read, TenantName, Wish


class TenantShow(Read):
    """One tenant (the only one where none is named): members, budgets with what lies in them, payees, who waits, copies owed."""

    verb: Literal["tenant.show"] = "tenant.show"
    tenant: TenantName | None = None


class TenantCreate(Wish):
    """Begin a tenant. `finance` votes on budgets and payees, `people` of them, until a policy says who does."""

    verb: Literal["tenant.create"] = "tenant.create"
    tenant: TenantName
    finance: tuple[str, ...] = ()
    people: int = Field(default=1, ge=1)


class TenantJoin(Wish):
    """Make agents of the tenant its members, with their groups, and claim their accounts for them; all where none is named."""

    verb: Literal["tenant.join"] = "tenant.join"
    tenant: TenantName
    names: Names | None = None


class TenantBudget(Wish):
    """Vote for a limit: of the tenant, the day, `campaign/<id>` or `agent/<name or uuid>`."""

    verb: Literal["tenant.budget"] = "tenant.budget"
    tenant: TenantName | None = None
    scope: str = Field(max_length=200)
    limit_usd: Decimal = Field(ge=0)


class TenantPayee(Wish):
    """Vote for a payee, or forbid one."""

    verb: Literal["tenant.allow", "tenant.forbid"]
    tenant: TenantName | None = None
    payee: str = Field(min_length=1, max_length=200)
