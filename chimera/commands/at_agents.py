"""Verbs on agents, performed: list, show, enrol, set the status.

The rule not to break: texts are read again here; nothing that a client computed of them is believed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from chimera.commands import agents, cards, tenants, verbs, views
from chimera.commands.decision import Answer, Decision, Order
from chimera.commands.keys import agent_key, tenant_key
from chimera.commands.room import Room, order_id
from chimera.commands.service import CommandService
from chimera.commands.verbs import Reply, answered
from chimera.events.records import ArtifactProduced, HumanEdited, SoulAdopted
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
    """Give agents what they lack; with `update` also what differs. Where there is a stream of their tenant they join it, and it
    says whose the accounts are; who wants one that is another's is refused, and the others are enrolled.
    """
    policies = [_policy(text) for text in verb.policies]
    for each in verb.agents:
        if each.policy >= len(policies):
            raise verbs.BadVerb(f"agent '{each.name}' names policy {each.policy}, but {len(policies)} came along")
    room.service.catch_up()
    taken, joins = _joining(room, verb)
    chosen = [each for each in verb.agents if each.name not in taken]
    answers: list[tuple[str, Answer]] = []
    if joins is not None and not verb.dry_run:
        # First, so that two that enrol the same account at once are not both given it.
        joined = room.service.submit_many([joins])[0]
        if joined.outcome not in ("applied", "appended"):
            return answered([(f"tenant {verb.tenant}", joined)])
        answers += [(f"tenant {verb.tenant}", joined)] if joined.records else []
    orders = [_enrolment(room, verb, each, policies, joins is not None) for each in chosen]
    names = [each.name for each in chosen]
    if not verb.dry_run:
        done = zip(names, room.service.submit_many(orders), strict=True)
        refused = [(name, Answer("", verb.id, "refused", why, 0)) for name, why in taken.items()]
        return answered([*answers, *done, *refused])
    with room.service.still():
        plan = [(name, order.decide(room.service.agent(order.key))) for name, order in zip(names, orders, strict=True)]
        if joins is not None:
            plan.insert(0, (f"tenant {verb.tenant}", joins.decide(room.service.tenant(joins.key))))
    rows = [{"agent": name, "would_append": [data.TYPE for data in would]} for name, would in plan]
    return {"plan": rows, "refused": [{"agent": name, "why": why} for name, why in taken.items()]}


def _joining(room: Room, verb: verbs.Enrol) -> tuple[dict[str, str], Order | None]:
    """Who cannot have their account (by name, with the reason), and the order by which the others join; None without a tenant."""
    installation = room.service.keys.installation.installation
    key = tenant_key(installation, verb.tenant)
    with room.service.still():
        tenant = room.service.tenant(key)
        if tenant is None:
            return {}, None
        joining = []
        for each in verb.agents:
            agent = room.service.agent(agent_key(installation, verb.tenant, each.name))
            if agent is None or agent.status != "retired":
                stream = agent_key(installation, verb.tenant, each.name)
                joining.append(tenants.Joining(stream, each.name, each.groups, each.accounts))
        taken = tenants.contested(tenant, joining)
    decide = tenants.join([j for j in joining if j.name not in taken], regroup=verb.update, exact=verb.update)
    return taken, Order(key, verb.tenant, verb.actor, decide, order_id(verb, key))


def _enrolment(room: Room, verb: verbs.Enrol, each: verbs.NewAgent, policies: list[agents.PolicyText], joins: bool) -> Order:
    key = agent_key(room.service.keys.installation.installation, verb.tenant, each.name)
    wanted = agents.Enrolment(
        name=each.name,
        groups=each.groups,
        soul_digest=digest(each.soul),
        soul=each.soul,
        policy=policies[each.policy],
        accounts=each.accounts,
        limit_usd=each.limit_usd,
        window_ms=each.window_ms,
    )
    adopted = _adopted_soul(room.service, key) if verb.update else None
    return Order(key, verb.tenant, verb.actor, agents.enrol(wanted, verb.actor, adopted, verb.update, joins), order_id(verb, key))


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


def tool_stale(room: Room, verb: verbs.ToolStale) -> Reply:
    """Tell each agent that waits with something for a tool that is no more what it was; what is judged or approved is made anew."""
    room.service.catch_up()
    with room.service.still():
        waiting = cards.cards_of(room.service.agents.values(), ("proposed", "people", "approved"))
        found = [(card.agent, card.effect.platform, card.effect.ref) for card in waiting]
    changed: dict[str, dict[str, str]] = {}
    names = {}
    for agent, platform, ref in found:
        made = room.service.read_data(ref)
        effect = made.effect if isinstance(made, ArtifactProduced | HumanEdited) else None
        if (
            effect is None
            or effect.profile != verb.profile
            or effect.schema_sha256 == verb.pins.get(effect.tool, effect.schema_sha256)
        ):
            continue
        changed.setdefault(agent.key, {})[platform] = f"{effect.profile}.{effect.tool}"
        names[agent.key] = agent
    orders = [room.order(verb, names[key], agents.tool_changed(platforms, verb.reason)) for key, platforms in changed.items()]
    return room.submit(orders, [names[key].name for key in changed])
