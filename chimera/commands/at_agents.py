"""Verbs on agents, performed: list, show, enrol, set the status.

The rule not to break: texts are read again here; nothing that a client computed of them is believed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from chimera.commands import agents, verbs, views
from chimera.commands.decision import Decision, Order
from chimera.commands.keys import agent_key
from chimera.commands.room import Room, order_id
from chimera.commands.service import CommandService
from chimera.commands.verbs import Reply
from chimera.events.records import SoulAdopted
from chimera.policy.boardkit import digest, inline, parse_rules


def agent_list(room: Room, verb: verbs.AgentList) -> Reply:
    """All agents, or one tenant's."""
    with room.service.still():
        rows = [views.agent_row(agent) for agent in room.service.agents.values() if verb.tenant in (None, agent.tenant)]
    return {"agents": sorted(rows, key=lambda row: (row["tenant"], row["name"]))}


def agent_show(room: Room, verb: verbs.AgentShow) -> Reply:
    """One agent by name or stream key."""
    with room.service.still():
        return views.agent_detail(room.agent(verb.name))


def enrol(room: Room, verb: verbs.Enrol) -> Reply:
    """Give agents what they lack; with `update` also what differs."""
    policies = [_policy(text) for text in verb.policies]
    installation = room.service.keys.installation.installation
    orders = []
    for each in verb.agents:
        if each.policy >= len(policies):
            raise verbs.BadVerb(f"agent '{each.name}' names policy {each.policy}, but {len(policies)} came along")
        key = agent_key(installation, verb.tenant, each.name)
        decide = agents.enrol(
            agents.Enrolment(
                name=each.name,
                groups=each.groups,
                soul_digest=digest(each.soul),
                soul=each.soul,
                policy=policies[each.policy],
                accounts=each.accounts,
                limit_usd=each.limit_usd,
                window_ms=each.window_ms,
            ),
            verb.actor,
            _adopted_soul(room.service, key) if verb.update else None,
            verb.update,
        )
        orders.append(Order(key, verb.tenant, verb.actor, decide, order_id(verb, key)))
    names = [each.name for each in verb.agents]
    if not verb.dry_run:
        return room.submit(orders, names)
    room.service.catch_up()
    with room.service.still():
        plan = [[data.TYPE for data in order.decide(room.service.agent(order.key))] for order in orders]
    return {"plan": [{"agent": name, "would_append": types} for name, types in zip(names, plan, strict=True)]}


def _policy(text: str) -> agents.PolicyText:
    rules = parse_rules(text, "policy")
    return agents.PolicyText(digest(text), text, inline(rules), rules.stales)


def _adopted_soul(service: CommandService, key: str) -> str | None:
    with service.still():
        agent = service.agent(key)
        ref = agent.soul if agent is not None else None
    data = service.read_data(ref) if ref is not None else None
    return data.digest if isinstance(data, SoulAdopted) else None


_STATUS: Mapping[str, Callable[[str], Decision]] = {
    "agent.pause": agents.pause,
    "agent.resume": agents.resume,
    "agent.retire": agents.retire,
    "agent.release": agents.release,
}


def agent_status(room: Room, verb: verbs.AgentStatus) -> Reply:
    """Pause, resume, retire or release agents."""
    found = room.fresh(lambda: room.named(verb.names))
    decide = _STATUS[verb.verb](verb.reason)
    return room.submit([room.order(verb, agent, decide) for agent in found], [agent.name for agent in found])
