"""Verbs on accounts, performed: list, link, unlink, and what the platform said of them.

The rule not to break: a credential is a reference here and everywhere; nothing in this process resolves one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from chimera.commands import agents, tenants, verbs
from chimera.commands.decision import Order, Refused
from chimera.commands.keys import tenant_key
from chimera.commands.room import Room, order_id
from chimera.commands.verbs import Reply
from chimera.events.records import AccountUnlinked, AccountVerified, Data
from chimera.events.state import Agent
from chimera.events.tenant import Credential, Tenant


def account_list(room: Room, verb: verbs.AccountList) -> Reply:
    """Accounts that tenants gave to agents, and those that agents have without one."""
    rows = []
    with room.service.still():
        known = room.service.agents
        claimed = set()
        for tenant in room.service.tenants.values():
            for name, key in tenant.accounts.items():
                claimed.add((tenant.tenant, name))
                rows.append(_row(tenant, name, key, known.get(key)))
        for agent in known.values():
            for platform, account in agent.accounts.items():
                if (agent.tenant, f"{platform}/{account}") not in claimed:
                    rows.append(_own(agent, platform, account))
    chosen = [row for row in rows if verb.tenant in (None, row["tenant"])]
    return {"accounts": sorted(chosen, key=lambda row: (row["tenant"], row["platform"], row["account"]))}


def _row(tenant: Tenant, name: str, key: str, agent: Agent | None) -> dict[str, Any]:
    platform, _, account = name.partition("/")
    known = tenant.credentials.get(name, Credential())
    member = tenant.members.get(key)
    told = agent is not None and (agent.accounts.get(platform), agent.credentials.get(platform, "")) == (account, known.secret_ref)
    return {
        "tenant": tenant.tenant,
        "platform": platform,
        "account": account,
        "agent": member.name if member is not None else key,
        "stream": key,
        "claimed": True,
        "told": told,
        "secret_ref": known.secret_ref,
        "expires_ts": known.expires_ts,
        "verified_ts": known.verified_ts,
        "found": known.found,
        "platform_id": known.platform_id,
        "trouble": known.trouble,
        "verdict": verdict(account, known),
    }


def _own(agent: Agent, platform: str, account: str) -> dict[str, Any]:
    """An account that no tenant keeps: nobody stops another agent from acting as it."""
    ref = agent.credentials.get(platform, "")
    row = _row(Tenant("", agent.tenant), f"{platform}/{account}", agent.key, agent)
    return row | {"agent": agent.name, "claimed": False, "told": True, "secret_ref": ref}


def verdict(account: str, known: Credential) -> str:
    """never_asked | not_told (the platform named nobody) | confirmed | somebody_else"""
    if not known.verified_ts:
        return "never_asked"
    if not known.found:
        return "not_told"
    return "confirmed" if _plain(known.found) == _plain(account) else "somebody_else"


def _plain(handle: str) -> str:
    """Platforms show handles with and without @, and do not tell upper from lower case."""
    return handle.removeprefix("@").casefold()


def _link(room: Room, verb: verbs.AccountLink) -> Reply:
    agent = room.fresh(lambda: room.agent(verb.agent))
    decide = tenants.claim(agent.key, verb.platform, verb.account, verb.secret_ref, verb.expires_ts)
    return _submit(room, verb, agent.tenant, decide, f"{verb.platform}/{verb.account}")


def _unlink(room: Room, verb: verbs.AccountUnlink) -> Reply:
    name = f"{verb.platform}/{verb.account}"
    room.service.catch_up()
    with room.service.still():
        holders = [t.tenant for t in room.service.tenants.values() if name in t.accounts and verb.tenant in (None, t.tenant)]
        own = [
            agent
            for agent in room.service.agents.values()
            if agent.accounts.get(verb.platform) == verb.account and verb.tenant in (None, agent.tenant)
        ]
    if len(holders) > 1:
        raise Refused(f"{name} is an account in tenants {', '.join(sorted(holders))}: say which with --tenant")
    if holders:
        return _submit(room, verb, holders[0], tenants.release(verb.platform, verb.account), name)
    again = [t for t in _tenants(room) if room.service.answered(tenant_key(_installation(room), t), _id(room, verb, t)) is not None]
    if again:
        return _submit(room, verb, again[0], tenants.release(verb.platform, verb.account), name)
    if not own:
        names = {f"{p}/{a}" for agent in room.service.agents.values() for p, a in agent.accounts.items()}
        raise Refused(f"nobody acts as {name}{agents.near(name, names) if names else ''}")

    def drop(agent: Agent | None) -> list[Data]:
        linked = agent is not None and agent.accounts.get(verb.platform) == verb.account
        return [AccountUnlinked(platform=verb.platform)] if linked else []

    return room.submit([room.order(verb, agent, drop) for agent in own], [f"{name} of {agent.name}" for agent in own])


def _said(room: Room, verb: verbs.AccountSaid) -> Reply:
    said = AccountVerified.model_validate(verb.model_dump(include=set(AccountVerified.model_fields)))
    return _submit(room, verb, verb.tenant, tenants.verified(said), f"{verb.platform}/{verb.account}")


def _submit(room: Room, verb: verbs.Wish, tenant: str, decide: Callable[..., Any], name: str) -> Reply:
    key = tenant_key(_installation(room), tenant)
    return room.submit([Order(key, tenant, verb.actor, decide, order_id(verb, key))], [name])


def _id(room: Room, verb: verbs.Wish, tenant: str) -> str:
    return order_id(verb, tenant_key(_installation(room), tenant))


def _installation(room: Room) -> str:
    return room.service.keys.installation.installation


def _tenants(room: Room) -> list[str]:
    with room.service.still():
        return [tenant.tenant for tenant in room.service.tenants.values()]


PERFORM: Mapping[type, Callable[[Room, Any], Reply]] = {
    verbs.AccountList: account_list,
    verbs.AccountLink: _link,
    verbs.AccountUnlink: _unlink,
    verbs.AccountSaid: _said,
}
"""Verb -> what it does."""
