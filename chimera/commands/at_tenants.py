"""The desk's verbs about tenants.

The rule not to break: like every verb, these only read states and hand orders to the service; the law decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from chimera.commands import agents, tenants, verbs
from chimera.commands.at_campaigns import groups_of
from chimera.commands.decision import Order, Refused, TenantDecision
from chimera.commands.keys import tenant_key
from chimera.commands.room import Room
from chimera.commands.verbs import Reply
from chimera.events.envelope import record_id
from chimera.events.tenant import Tenant, Window


def _show(room: Room, verb: verbs.TenantShow) -> Reply:
    with room.service.still():
        return _detail(room.tenant(verb.tenant))


def _detail(tenant: Tenant) -> Reply:
    """Everything that the state knows, as JSON; amounts are text."""
    scopes = sorted({*tenant.budgets, *(scope for scope in tenant.windows if not scope.startswith("day/"))})
    day = f"day/{tenant.day}"
    budgets = []
    for scope in scopes:
        window = tenant.windows.get(day if scope == "day" else scope, Window())
        limit = tenant.budgets.get(scope)
        budgets.append(
            {
                "scope": scope,
                "name": _called(tenant, scope),
                "limit_usd": None if limit is None else str(limit),
                "left_usd": None if limit is None else format(limit - window.reserved - window.spent, "f"),
                "reserved_usd": format(window.reserved, "f"),
                "spent_usd": format(window.spent, "f"),
            }
        )
    return {
        "tenant": tenant.tenant,
        "stream": tenant.key,
        "state_version": tenant.version,
        "members": len(tenant.members),
        "accounts": len(tenant.accounts),
        "campaigns": sorted(tenant.campaigns),
        "policies": [e.number for e in sorted(tenant.policies.values())],
        "voters": None if tenant.rulers.approvers is None else list(tenant.rulers.approvers),
        "people": tenant.rulers.people,
        "budgets": budgets,
        "payees": {payee: "paid before" if paid else "new" for payee, paid in sorted(tenant.payees.items())},
        "votes": [
            {"on": votes.subject, "name": _called(tenant, votes.subject), "by": list(votes.people), "needs": tenant.rulers.people}
            for votes in tenant.pending
        ],
        "held": len(tenant.reserved),
        "waiting": [
            {"agent": asked.agent, "campaign": asked.campaign_id, "amount_usd": str(asked.amount)} for asked in tenant.waiting[:100]
        ],
        "copies_owed": sum(map(len, tenant.owed.values())),
        "agents_owed": len(tenant.owed),
    }


def _called(tenant: Tenant, scope: str) -> str:
    """A scope as people write it: members by name."""
    kind, found, key = scope.rpartition("agent/")
    member = tenant.members.get(f"agent/{key}") if found else None
    return f"{kind}agent/{member.name}" if member is not None else scope


def _create(room: Room, verb: verbs.TenantCreate) -> Reply:
    return _submit(room, verb, verb.tenant, tenants.create(verb.finance, verb.people))


def _join(room: Room, verb: verbs.TenantJoin) -> Reply:
    room.service.catch_up()
    groups = groups_of(room)
    with room.service.still():
        found = room.named(verb.names) if verb.names is not None else list(room.service.agents.values())
        joining = []
        for agent in sorted(found, key=lambda agent: agent.name):
            if agent.tenant == verb.tenant:
                mine = tuple(groups.get(agent.key, ()))
                joining.append(tenants.Joining(agent.key, agent.name, mine, dict(agent.accounts)))
            elif verb.names is not None:
                raise Refused(f"agent '{agent.name}' is of tenant '{agent.tenant}', not of '{verb.tenant}'")
    return _submit(room, verb, verb.tenant, tenants.join(joining))


def _budget(room: Room, verb: verbs.TenantBudget) -> Reply:
    tenant = _whose(room, verb.tenant)
    scope = verb.scope
    kind, _, name = scope.partition("/")
    if scope not in ("tenant", "day") and not (kind in ("campaign", "agent") and name):
        raise Refused(f"'{scope}' is no scope of a budget: use tenant, day, campaign/<id> or agent/<name>")
    if kind == "agent":
        with room.service.still():
            members = room.tenant(tenant).members
            found = [key for key, member in members.items() if name == member.name or scope == key]
            if not found:
                known = {member.name for member in members.values()}
                raise Refused(f"no member of tenant '{tenant}' is called '{name}'{agents.near(name, known) if known else ''}")
            scope = found[0]
    return _submit(room, verb, tenant, tenants.set_budget(scope, verb.limit_usd))


def _payee(room: Room, verb: verbs.TenantPayee) -> Reply:
    decide = tenants.allow_payee if verb.verb == "tenant.allow" else tenants.remove_payee
    return _submit(room, verb, _whose(room, verb.tenant), decide(verb.payee))


def _whose(room: Room, name: str | None) -> str:
    """The tenant that a command means, by name."""
    room.service.drain()

    def find() -> str:
        return room.tenant(name).tenant

    return room.fresh(find)


def _key(room: Room, tenant: str) -> str:
    return tenant_key(room.service.keys.installation.installation, tenant)


def _submit(room: Room, verb: verbs.Wish, tenant: str, decide: TenantDecision) -> Reply:
    key = _key(room, tenant)
    return room.submit([Order(key, tenant, verb.actor, decide, record_id(verb.id, key))], [tenant])


PERFORM: Mapping[type, Callable[[Room, Any], Reply]] = {
    verbs.TenantShow: _show,
    verbs.TenantCreate: _create,
    verbs.TenantJoin: _join,
    verbs.TenantBudget: _budget,
    verbs.TenantPayee: _payee,
}
"""Verb -> what it does."""
