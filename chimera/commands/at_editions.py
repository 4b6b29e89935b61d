"""Verbs on what a tenant publishes: a policy or persona for its members, who has which edition, and the way back.

The rule not to break: a text is read again here before it is published; who gets it is decided by the law, a dry run only
asks the same question.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from chimera.commands import agents, lookup, tenants, verbs
from chimera.commands.decision import Order, Refused, TenantDecision
from chimera.commands.keys import PARTITIONS
from chimera.commands.room import Room, order_id
from chimera.commands.verbs import Reply
from chimera.eventlog.partitioner import place
from chimera.events.does.publishing import selected
from chimera.events.envelope import Record
from chimera.events.records import WHOLE_PPM, PolicyAdopted, PolicyPublished, Selector, SoulPublished
from chimera.events.state import Agent, Ref
from chimera.events.tenant import Edition, Member, Tenant
from chimera.policy.boardkit import inline, parse_rules, parse_soul
from chimera.policy.contradictions import in_rules, in_soul

NOT_PUBLISHED, ADOPTED, OWED, REFUSED, OWN = "none published", "adopted", "owed", "refused", "its own"
"""How a member stands to the edition that it is meant to have."""


# --- publishing ------------------------------------------------------------------------------------------------------


def _publish(room: Room, verb: verbs.Publish) -> Reply:
    select = Selector(group=verb.group, share_ppm=verb.share_ppm)
    return _send(room, verb, verb.tenant, verb.verb == "soul.publish", verb.text, select)


def _rollback(room: Room, verb: verbs.Rollback) -> Reply:
    room.service.catch_up()
    with room.service.still():
        tenant = room.tenant(verb.tenant)
        key, name = tenant.key, tenant.tenant
    before = _published(room, key)
    if not before:
        raise Refused(f"tenant '{name}' has published no policy: there is nothing to go back from")
    newest = before[-1]
    found = _named(before, name, verb.edition) if verb.edition is not None else _one_before(before, name)
    reply = _send(room, verb, name, False, found.rules, Selector(group=newest.select.group))
    return reply | {"text_of": found.edition}


def _one_before(published: list[PolicyPublished], tenant: str) -> PolicyPublished:
    """The latest other text that was for all whom the newest edition may have reached."""
    newest = published[-1]
    whole = [d for d in published if d.select.share_ppm == WHOLE_PPM and d.select.group in ("", newest.select.group)]
    others = [d for d in whole if d.digest != newest.digest]
    if not others:
        reached = _who(newest.select.group, WHOLE_PPM)
        raise Refused(f"tenant '{tenant}' published no other policy to {reached} before: publish the text that you want")
    return others[-1]


def _named(published: list[PolicyPublished], tenant: str, edition: int) -> PolicyPublished:
    found = next((d for d in published if d.edition == edition), None)
    if found is None:
        known = ", ".join(str(d.edition) for d in published[-8:]) or "none"
        raise Refused(f"tenant '{tenant}' published no policy edition {edition}: the latest are {known}")
    return found


def _send(
    room: Room, verb: verbs.Publish | verbs.Rollback, named: str | None, soul: bool, text: str, select: Selector
) -> Reply:  # fmt: skip
    """Publish, or with `dry_run` say what that would do."""
    room.service.catch_up()
    with room.service.still():
        tenant = room.tenant(named)
        key, name = tenant.key, tenant.tenant
        known = {group for member in tenant.members.values() for group in member.groups}
        if select.group and select.group not in known:
            raise Refused(f"no member of tenant '{name}' is in group '{select.group}'{agents.near(select.group, known)}")
        newest = max((tenant.souls if soul else tenant.policies).values(), default=None)
        policies = [agent.policy for agent in room.service.agents.values() if agent.tenant == name and agent.policy is not None]
    above = max((policy.edition for policy in policies), default=0)
    held = _held(room, newest)
    if held is not None and not soul and any(p.edition == held.edition and p.digest != held.digest for p in policies):
        held = None  # somebody took the same number by themselves, with another text: to be overruled
    decide = tenants.publish_soul(text, select=select, held=held) if soul else _policy(text, verb.actor, above, select, held)
    if soul:
        _consistent(in_soul(parse_soul(text, "persona")))
    if verb.dry_run:
        return _would(room, key, decide)
    reply = room.submit([Order(key, name, verb.actor, decide, order_id(verb, key))], [name])
    return reply | _reach(room, key, reply)


def _policy(text: str, editor: str, above: int, select: Selector, held: tenants.Held | None) -> TenantDecision:
    """Raises `DocumentError` and `Refused` for a text that nobody could work by."""
    rules = parse_rules(text, "policy")
    _consistent(in_rules(rules))
    return tenants.publish_policy(inline(rules), text, editor, above=above, stales=rules.stales, select=select, held=held)


def _consistent(found: list[str]) -> None:
    if found:
        raise Refused("; ".join(found))


def _held(room: Room, newest: Edition | None) -> tenants.Held | None:
    if newest is None:
        return None
    data = room.service.read_data(newest.ref)
    assert isinstance(data, PolicyPublished | SoulPublished), "an edition refers to the record that published it"
    return tenants.Held(data.edition, data.digest, data.select)


def _would(room: Room, key: str, decide: TenantDecision) -> Reply:
    """Whom the edition would reach. The draw of a canary depends on its number, so another edition in between changes it."""
    with room.service.still():
        tenant = room.service.tenant(key)
        assert tenant is not None, "a tenant never goes"
        found = list(decide(tenant))
        members = [(agent, member.name, member.groups) for agent, member in tenant.members.items()]
    if not found:
        return {"tenant": tenant.tenant, "edition": None, "members": len(members), "agents": []}
    data = found[0]
    assert isinstance(data, PolicyPublished | SoulPublished)
    group, share = data.select.group, data.select.share_ppm
    reached = sorted(name for agent, name, groups in members if selected(agent, groups, group, share, str(data.edition)))
    return {
        "tenant": tenant.tenant,
        "edition": data.edition,
        "digest": data.digest,
        "members": len(members),
        "agents": reached,
    }


def _reach(room: Room, key: str, reply: Reply) -> Reply:
    """Number of the edition that was published, and how many members are told."""
    (answer,) = reply["answers"]
    if answer["outcome"] != "applied" or answer["position"] is None:
        return {}
    data = room.service.read_data(Ref(*answer["position"]))
    if not isinstance(data, PolicyPublished | SoulPublished):
        return {}
    with room.service.still():
        tenant = room.service.tenant(key)
        members = tenant.members.values() if tenant is not None else ()
        told = sum((m.soul if isinstance(data, SoulPublished) else m.policy) == data.edition for m in members)
    return {"edition": data.edition, "digest": data.digest, "told": told}


# --- looking ---------------------------------------------------------------------------------------------------------


def _show(room: Room, verb: verbs.PolicyShow) -> Reply:
    if verb.agent is not None:
        return _of_agent(room, verb.agent)
    with room.service.still():
        tenant = room.tenant(verb.tenant)
        key, name = tenant.key, tenant.tenant
        newest = max(tenant.policies.values(), default=None)
    if newest is None:
        raise Refused(f"tenant '{name}' has published no policy: agents have the one of their fleet file")
    if verb.edition is None or verb.edition == newest.number:
        data = room.service.read_data(newest.ref)
        assert isinstance(data, PolicyPublished), "an edition refers to the record that published it"
    else:
        data = _named(_published(room, key), name, verb.edition)
    return {
        "tenant": name,
        "for": _who(data.select.group, data.select.share_ppm),
        "edition": data.edition,
        "digest": data.digest,
        "editor": data.editor,
        "rules": data.rules,
    }


def _of_agent(room: Room, name: str) -> Reply:
    with room.service.still():
        agent = room.agent(name)
        ref = agent.policy.ref if agent.policy is not None else None
    data = room.service.read_data(ref) if ref is not None else None
    if not isinstance(data, PolicyAdopted):
        raise Refused(f"agent '{agent.name}' has adopted no policy: enrol it with one, or publish one to its tenant")
    return {
        "tenant": agent.tenant,
        "for": f"agent {agent.name}, {'by its enrolment' if data.copied is None else 'published by its tenant'}",
        "edition": data.edition,
        "digest": data.digest,
        "editor": data.editor,
        "rules": data.rules,
    }


def _status(room: Room, verb: verbs.PolicyStatus) -> Reply:
    with room.service.still():
        tenant = room.tenant(verb.tenant)
        name = tenant.tenant
        members = [
            (standing(tenant, key, member, room.service.agent(key)), _lacked(tenant, key, member))
            for key, member in sorted(tenant.members.items(), key=lambda item: item[1].name)
        ]
        in_force = sorted(tenant.policies.values())
        meant_by = {edition.number: edition.ref for edition in in_force}
        now = room.service.last_append_ts
    behind = {ref for row, ref in members if ref is not None and row["state"] in (OWED, REFUSED)}
    records = {ref: room.service.read_at(ref) for ref in behind | {e.ref for e in in_force}}
    for row, ref in members:
        published = records[meant_by[row["meant"]]].data if row["meant"] in meant_by else None
        if row["state"] == ADOPTED and isinstance(published, PolicyPublished) and published.digest != row["digest"]:
            row["state"] = OWN  # it took the same number by itself, before the copy came
        row["since_ts"] = records[ref].append_ts if ref in behind else None
    rows = [row for row, _ in members]
    return {
        "tenant": name,
        "now_ts": now,
        "editions": [_edition(e, records[e.ref], rows) for e in in_force],
        "members": rows,
    }


def standing(tenant: Tenant, key: str, member: Member, agent: Agent | None) -> dict[str, Any]:
    """What a member has, what it is meant to have, and how far it is on the way (by numbers alone)."""
    policy = agent.policy if agent is not None else None
    has, text = (policy.edition, policy.digest) if policy is not None else (0, "")
    if member.policy == 0:
        state = NOT_PUBLISHED
    elif has >= member.policy:
        state = ADOPTED if has == member.policy else OWN
    else:
        taken = agent.copies_in.get(tenant.label, 0) if agent is not None else 0
        on_the_way = any(copy.what == "PolicyAdopted" and copy.number > taken for copy in tenant.owed.get(key, ()))
        state = OWED if on_the_way else REFUSED
    return {
        "agent": member.name,
        "groups": list(member.groups),
        "meant": member.policy,
        "has": has,
        "digest": text,
        "state": state,
    }


def _lacked(tenant: Tenant, key: str, member: Member) -> Ref | None:
    """Where the edition that the member is meant to have was published; None where that is not known any more."""
    owed = [copy.ref for copy in tenant.owed.get(key, ()) if copy.what == "PolicyAdopted"]
    published = [e.ref for e in tenant.policies.values() if e.number == member.policy]
    return next(iter(owed[-1:] + published), None)


def _edition(edition: Edition, record: Record, members: list[dict[str, Any]]) -> dict[str, Any]:
    data = record.data
    assert isinstance(data, PolicyPublished), "an edition refers to the record that published it"
    meant = [row for row in members if row["meant"] == edition.number]
    return {
        "edition": edition.number,
        "for": _who(edition.group, edition.share_ppm),
        "digest": data.digest,
        "editor": data.editor,
        "published_ts": record.append_ts,
        "told": len(meant),
        "adopted": sum(row["state"] == ADOPTED for row in meant),
    }


# --- finding ---------------------------------------------------------------------------------------------------------


def _published(room: Room, key: str) -> list[PolicyPublished]:
    """Every policy that counted in the tenant's stream, oldest first. Reads the whole partition: the state keeps what is in
    force, not what was."""
    service = room.service
    log = lookup.Log(service.bootstrap, service.topic, service.keys.installation.root_public)
    found, _ = lookup.stream(log, place(key, PARTITIONS), key.encode(), lambda done, total: None)
    return [
        ruled.record.data for ruled in found if ruled.ruling.outcome == "applied" and isinstance(ruled.record.data, PolicyPublished)
    ]


def _who(group: str, share_ppm: int) -> str:
    """A selector in words."""
    share = "" if share_ppm >= WHOLE_PPM else f"{share_ppm / 10_000:g}% of "
    return f"{share}{f'group {group}' if group else 'all'}"


PERFORM: Mapping[type, Callable[[Room, Any], Reply]] = {
    verbs.Publish: _publish,
    verbs.Rollback: _rollback,
    verbs.PolicyShow: _show,
    verbs.PolicyStatus: _status,
}
"""Verb -> what it does."""
