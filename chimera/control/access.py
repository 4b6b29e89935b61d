"""Who may do what at Mission Control: one pure table.

The rule not to break: every route asks `authorize` before it reads or writes, with the tenant of what it touches. That a person
is an approver of a card is the log's to decide (law: Quorum); this only says who is let to the desk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, get_args

Role = Literal["viewer", "moderator", "finance", "operator", "admin"]
Action = Literal["read", "decide", "decide_money", "operate", "administer"]

ROLES: tuple[Role, ...] = get_args(Role)
ACTIONS: tuple[Action, ...] = get_args(Action)
EVERY_TENANT = "*"

MAY: Mapping[Role, frozenset[Action]] = {
    "viewer": frozenset({"read"}),
    "moderator": frozenset({"read", "decide"}),
    "finance": frozenset({"read", "decide", "decide_money"}),
    "operator": frozenset({"read", "operate"}),
    "admin": frozenset(ACTIONS),
}


class Principal(NamedTuple):
    """Who is at the desk. `grants`: tenant (or `*`) -> roles there. `fresh`: they showed their password within five minutes."""

    name: str
    grants: Mapping[str, Sequence[Role]]
    fresh: bool = False


def authorize(principal: Principal, action: Action, tenant: str) -> bool:
    """May this principal do that to what belongs to this tenant? Deciding on money needs a fresh login besides."""
    if action == "decide_money" and not principal.fresh:
        return False
    held = (*principal.grants.get(tenant, ()), *principal.grants.get(EVERY_TENANT, ()))
    return any(action in MAY[role] for role in held)


def tenants_of(principal: Principal, action: Action = "read") -> Sequence[str] | None:
    """The tenants in which this principal may do that; None: in every one."""
    if any(action in MAY[role] for role in principal.grants.get(EVERY_TENANT, ())):
        return None
    return sorted(
        tenant
        for tenant, roles in principal.grants.items()
        if tenant != EVERY_TENANT and any(action in MAY[role] for role in roles)
    )


def action_for(effect_class: str) -> Action:
    """What deciding on an effect of this class takes."""
    return "decide" if effect_class == "publish" else "decide_money"
