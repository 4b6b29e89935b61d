"""The desk: what each verb does, on the command service's own fold. One table, for the socket and for the embedded service alike.

The rule not to break: a verb gives the same answer wherever it is handed in, and handed in twice it counts once. Nothing here
trusts what a client computed: texts are read again, and a decision on a card must name what this desk shows of it.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from chimera.commands import agents, campaigns, reviews, tenant_desk, verbs, views
from chimera.commands.decision import Decision, Order, Refused
from chimera.commands.keys import agent_key
from chimera.commands.reviews import Address, Sight
from chimera.commands.rotation import editions
from chimera.commands.service import CommandService
from chimera.commands.verbs import Reply, Verb, answered
from chimera.errors import ChimeraError
from chimera.events.envelope import Record, record_id
from chimera.events.records import AgentEnrolled, BriefChanged, CampaignStarted, SoulAdopted
from chimera.events.state import Agent, Ref, Ruling
from chimera.policy.boardkit import digest, inline, parse_rules
from chimera.policy.brief import Brief, is_address

T = TypeVar("T")

REMEMBERED_SIGHTS = 2000
"""What was shown to reviewers lately: they may take their time, while other things on the card move."""


class Seen:
    """Observer of the fold: the campaigns' story, and who belongs to which group."""

    def __init__(self) -> None:
        self.story = views.Story()
        self.groups: dict[str, list[str]] = {}

    def __call__(self, record: Record, ruling: Ruling) -> None:
        """Take in one ruled record."""
        self.story(record, ruling)
        if ruling.outcome == "applied" and isinstance(record.data, AgentEnrolled):
            self.groups[record.key] = record.data.groups


class Desk:
    """Performs verbs on a service that `seen` observes. Thread-safe."""

    def __init__(self, service: CommandService, seen: Seen, home: Path) -> None:
        self.service = service
        self.seen = seen
        self.home = home
        self._shown: OrderedDict[str, Sight] = OrderedDict()

    def perform(self, verb: Verb) -> Reply:
        """The verb's reply. Raises `Refused` where it cannot count as things are, and other `ChimeraError`s."""
        if isinstance(verb, verbs.Read):
            if verb.after is None:
                self.service.catch_up()
            else:
                self.service.reach({partition: offset + 1 for partition, offset in verb.after})
        return _PERFORM[type(verb)](self, verb)

    # --- finding -----------------------------------------------------------------------------------------------------

    def fresh(self, find: Callable[[], T]) -> T:
        """What `find` finds in the state; where it finds nothing, once more on the state at the log's very end."""
        self.service.drain()
        try:
            with self.service.still():
                return find()
        except ChimeraError:
            self.service.catch_up()
            with self.service.still():
                return find()

    def agent(self, name: str) -> Agent:
        """The agent of that name. Raises `UnknownAgent`."""
        return agents.find(self.service.agents.values(), name)

    def named(self, names: Iterable[str]) -> list[Agent]:
        """The agents of these names, each once."""
        known = self.service.agents
        return list({agent.key: agent for agent in (agents.find(known.values(), name) for name in names)}.values())

    def remember(self, sight: Sight) -> Sight:
        """Keep what is shown to somebody, so that their decision can be held against it."""
        with self.service.still():
            self._shown[sight.shown_hash] = sight
            self._shown.move_to_end(sight.shown_hash)
            while len(self._shown) > REMEMBERED_SIGHTS:
                self._shown.popitem(last=False)
        return sight

    def was_shown(self, shown_hash: str) -> Sight | None:
        """What was shown under that digest, if it was shown here."""
        with self.service.still():
            return self._shown.get(shown_hash)

    def order(self, verb: verbs.Wish, agent: Agent, decide: Decision, causation: str = "", correlation: str = "") -> Order:
        """The order that a verb means for one agent."""
        return Order(agent.key, agent.tenant, verb.actor, decide, order_id(verb, agent.key), causation, correlation)

    def submit(self, orders: Sequence[Order], names: Sequence[str]) -> Reply:
        """Orders answered, each under its agent's name."""
        return answered(list(zip(names, self.service.submit_many(orders), strict=True)))


def order_id(verb: verbs.Wish, key: str) -> str:
    """Id of the record that a verb makes in one stream: the same verb sent again makes the same one."""
    return record_id(verb.id, key)


# --- agents ----------------------------------------------------------------------------------------------------------


def _agent_list(desk: Desk, verb: verbs.AgentList) -> Reply:
    with desk.service.still():
        rows = [views.agent_row(agent) for agent in desk.service.agents.values() if verb.tenant in (None, agent.tenant)]
    return {"agents": sorted(rows, key=lambda row: (row["tenant"], row["name"]))}


def _agent_show(desk: Desk, verb: verbs.AgentShow) -> Reply:
    with desk.service.still():
        return views.agent_detail(desk.agent(verb.name))


def _enrol(desk: Desk, verb: verbs.Enrol) -> Reply:
    policies = [_policy(text) for text in verb.policies]
    installation = desk.service.keys.installation.installation
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
            _adopted_soul(desk.service, key) if verb.update else None,
            verb.update,
        )
        orders.append(Order(key, verb.tenant, verb.actor, decide, order_id(verb, key)))
    names = [each.name for each in verb.agents]
    if not verb.dry_run:
        return desk.submit(orders, names)
    desk.service.catch_up()
    with desk.service.still():
        plan = [[data.TYPE for data in order.decide(desk.service.agent(order.key))] for order in orders]
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


def _agent_status(desk: Desk, verb: verbs.AgentStatus) -> Reply:
    found = desk.fresh(lambda: desk.named(verb.names))
    decide = _STATUS[verb.verb](verb.reason)
    return desk.submit([desk.order(verb, agent, decide) for agent in found], [agent.name for agent in found])


# --- campaigns -------------------------------------------------------------------------------------------------------


def _campaign_list(desk: Desk, _: verbs.CampaignList) -> Reply:
    with desk.service.still():
        return {"campaigns": views.campaign_rows(desk.seen.story, desk.service.agents)}


def _campaign_show(desk: Desk, verb: verbs.CampaignShow) -> Reply:
    with desk.service.still():
        story = desk.seen.story
        rows = [row for row in story.campaigns.values() if row.campaign_id == verb.campaign]
        if not rows:
            known = {row.campaign_id for row in story.campaigns.values()}
            way_out = agents.near(verb.campaign, known) if known else ": none was started"
            raise campaigns.UnknownCampaign(f"no campaign is called '{verb.campaign}'{way_out}")
        names = {key: agent.name for key, agent in desk.service.agents.items()}
        return {"campaign_id": verb.campaign, "name": rows[-1].name, "agents": [_campaign_row(row, names) for row in rows]}


def _campaign_row(row: views.CampaignRow, names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "agent": names.get(row.agent, row.agent),
        "stream": row.agent,
        "number": row.number,
        "status": row.status,
        "brief_edition": row.brief_edition,
        "brief": dict(row.brief),
        "tasks": {str(k): {"status": v, "reason": row.reasons.get(k, "")} for k, v in row.tasks.items()},
        "effects": {str(k): v for k, v in row.effects.items()},
        "started_ts": row.started_ts,
        "ended_ts": row.ended_ts,
        "by": row.actor,
    }


def _campaign_start(desk: Desk, verb: verbs.CampaignStart) -> Reply:
    brief = _brief(desk, verb.brief, verb.dry_run)
    if verb.names is None:
        desk.service.catch_up()
    chosen = desk.fresh(lambda: _chosen(desk, verb))
    names = [agent.name for agent in chosen]
    if verb.dry_run:
        id_ = campaigns.campaign_id(brief.name)
        with desk.service.still():
            is_open = [campaigns.open_campaign(agent, id_) is not None for agent in chosen]
        plan = {n: "nothing: open already" if there else "CampaignStarted" for n, there in zip(names, is_open, strict=True)}
        return {"campaign_id": id_, "brief": brief.model_dump(mode="json"), "plan": plan}
    decide = campaigns.start(brief.name, brief.model_dump(mode="json"))
    return desk.submit([desk.order(verb, agent, decide) for agent in chosen], names)


def _chosen(desk: Desk, verb: verbs.CampaignStart) -> list[Agent]:
    if sum((verb.names is not None, verb.group is not None, verb.everyone)) != 1:
        raise verbs.BadVerb("say for whom: names, a group, or everyone")
    known = desk.service.agents
    if verb.names is not None:
        return desk.named(verb.names)
    if verb.group is not None:
        groups = desk.seen.groups
        members = [known[key] for key, of in groups.items() if verb.group in of and key in known]
        if not members:
            near = agents.near(verb.group, {group for of in groups.values() for group in of})
            raise agents.UnknownAgent(f"group '{verb.group}' has no agents{near}")
        return members
    if not known:
        raise agents.UnknownAgent("no agent is enrolled yet: use `chimera agent enrol -f fleet.yaml`")
    return [agent for agent in known.values() if agent.status != "retired"]


def _campaign_change(desk: Desk, verb: verbs.CampaignChange) -> Reply:
    body = _brief(desk, verb.brief).model_dump(mode="json")
    found = desk.fresh(lambda: _with_campaign(desk, verb, verb.campaign, verb.names))
    orders = []
    for agent in found:
        with desk.service.still():
            campaign = campaigns.open_campaign(agent, verb.campaign)
            ref = campaign.brief if campaign is not None else None
        decide = campaigns.change(verb.campaign, body, _brief_hash(desk.service, ref) if ref is not None else None)
        orders.append(desk.order(verb, agent, decide, correlation=verb.campaign))
    return desk.submit(orders, [agent.name for agent in found])


def _campaign_status(desk: Desk, verb: verbs.CampaignStatus) -> Reply:
    make = {"campaign.pause": campaigns.pause, "campaign.resume": campaigns.resume, "campaign.cancel": campaigns.cancel}[verb.verb]
    decide = make(verb.campaign, verb.reason)
    found = desk.fresh(lambda: _with_campaign(desk, verb, verb.campaign, verb.names))
    orders = [desk.order(verb, agent, decide, correlation=verb.campaign) for agent in found]
    return desk.submit(orders, [agent.name for agent in found])


def _with_campaign(desk: Desk, verb: verbs.Wish, id_: str, names: tuple[str, ...] | None) -> list[Agent]:
    """Whom a command on a campaign means: also those whose campaign closed when this very command came the first time."""
    if names is not None:
        return desk.named(names)
    known = desk.service.agents
    again = [agent for key, agent in known.items() if desk.service.answered(key, order_id(verb, key)) is not None]
    try:
        still_open = campaigns.agents_with(known.values(), id_)
    except campaigns.UnknownCampaign:
        if not again:
            raise
        still_open = []
    return list({agent.key: agent for agent in (*again, *still_open)}.values())


def _brief(desk: Desk, body: Mapping[str, Any], dry_run: bool = False) -> Brief:
    try:
        brief = Brief.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise verbs.BadVerb(f"brief: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None
    kept = (desk.home / "mcp" / "feeds").resolve()
    for feed in brief.feeds:
        if not dry_run and not is_address(feed) and Path(feed).resolve().parent != kept:
            raise Refused(f"feed '{feed}' is a file that this installation does not keep: give an http(s) address")
    return brief


def _brief_hash(service: CommandService, ref: Ref) -> str | None:
    data = service.read_data(ref)
    return data.brief_hash if isinstance(data, CampaignStarted | BriefChanged) else None


# --- reviews ---------------------------------------------------------------------------------------------------------


def _card_list(desk: Desk, verb: verbs.CardList) -> Reply:
    with desk.service.still():
        cards = reviews.cards(desk.service.agents.values(), verb.statuses)
        found = [(card.address, card.agent.key, card.effect.wait_reason) for card in cards]
    shown = []
    for at, key, waits_because in found:
        try:
            shown.append(_sight_reply(_look(desk, at, key)) | {"waits_because": waits_because})
        except Refused:
            continue  # decided by somebody else while the list was made
    return {"cards": shown}


def _card_show(desk: Desk, verb: verbs.CardShow) -> Reply:
    at, key = _addressed(desk, verb.card)
    with desk.service.still():
        closed = reviews.closed_as(desk.service.agents[key], at)
        version = desk.service.agents[key].version
    if verb.deciding and closed == verb.deciding:
        return {"closed_as": closed, "address": str(at), "stream": key, "state_version": version}
    return {"closed_as": "", "address": str(at), "stream": key, **_sight_reply(_look(desk, at, key))}


def _sight_reply(seen: Sight) -> dict[str, Any]:
    return {"card": seen.card, "shown_hash": seen.shown_hash, "effect_hash": seen.effect_hash, "edit": seen.edit}


def _addressed(desk: Desk, card: str) -> tuple[Address, str]:
    at = reviews.parse_card(card)
    return at, desk.fresh(lambda: desk.agent(at.agent)).key


def _look(desk: Desk, at: Address, key: str) -> Sight:
    """What is to be seen of a card now. Records are fetched while the fold goes on; if the card moved meanwhile, once more."""
    service = desk.service
    for _ in range(20):
        with service.still():
            card = reviews.card_at(service.agents[key], at)
            ref, votes = card.effect.ref, tuple(card.effect.decided_by)
        content, voted = service.read_data(ref), [service.read_at(vote) for vote in votes]
        with service.still():
            card = reviews.card_at(service.agents[key], at)
            if (card.effect.ref, tuple(card.effect.decided_by)) == (ref, votes):
                return desk.remember(reviews.sight(card, content, voted))
    raise ChimeraError(f"card {at} changes faster than it can be read: look again in a moment")


def _seen(desk: Desk, at: Address, key: str, shown: verbs.Shown) -> Sight:
    """The very sight that the reviewer names. Raises `Refused` where nothing like it was shown and the card looks otherwise now."""
    known = desk.was_shown(shown.shown_hash)
    found = known if known is not None else _look(desk, at, key)
    # The sight's own card tells the agent, task and attempt: one shown for another card is no sight of this one.
    card = reviews.parse_card(str(found.card["card"]))
    same = (card.agent, card.campaign, card.ordinal) == (at.agent, at.campaign, at.ordinal)
    if not same or (found.shown_hash, found.effect_hash, found.edit) != (shown.shown_hash, shown.effect_hash, shown.edit):
        raise Refused(f"card {at}: it was changed since it was shown: look at it again with `chimera review show`")
    return found


def _decide_card(desk: Desk, verb: verbs.Wish, card: str, already: str, decide: Callable[[Address, str], Decision]) -> Reply:
    at, key = _addressed(desk, card)
    before = desk.service.answered(key, order_id(verb, key))
    if before is not None:
        return answered([(str(at), before)])
    with desk.service.still():
        agent = desk.service.agents[key]
        if already and reviews.closed_as(agent, at) == already:
            return answered([(str(at), verbs.nothing_to_do(key, agent.version, order_id(verb, key)))])
    at = at._replace(agent=agent.name)
    ref = desk.fresh(lambda: reviews.card_at(desk.service.agents[key], at).effect.ref)
    made_from = desk.service.read_at(ref)
    order = desk.order(verb, agent, decide(at, key), made_from.id, made_from.correlation)
    answer = desk.service.submit(
        order.decide,
        key=key,
        tenant=order.tenant,
        actor=order.actor,
        command_id=order.id,
        causation=order.causation,
        correlation=order.correlation,
    )
    return answered([(str(at), answer)])


def _approve(desk: Desk, verb: verbs.Approve) -> Reply:
    return _decide_card(
        desk,
        verb,
        verb.card,
        "",
        lambda at, key: reviews.approve(at, verb.actor, _seen(desk, at, key, verb.shown), verb.comment),
    )


def _reject(desk: Desk, verb: verbs.Reject) -> Reply:
    def decide(at: Address, key: str) -> Decision:
        if verb.shown is None:
            raise Refused(f"card {at}: say what was shown of it: look at it with `chimera review show`")
        return reviews.reject(at, verb.reason_code, _seen(desk, at, key, verb.shown), verb.comment)

    return _decide_card(desk, verb, verb.card, "rejected", decide)


def _edit(desk: Desk, verb: verbs.Edit) -> Reply:
    return _decide_card(
        desk,
        verb,
        verb.card,
        "",
        lambda at, key: reviews.edit(
            at, verb.actor, _seen(desk, at, key, verb.shown), verb.text, secrets.token_hex(16), verb.comment
        ),
    )


def _withdraw(desk: Desk, verb: verbs.Withdraw) -> Reply:
    return _decide_card(desk, verb, verb.card, "withdrawn", lambda at, _: reviews.withdraw(at, verb.reason))


def _resolve(desk: Desk, verb: verbs.Resolve) -> Reply:
    proof = {"kind": "person", "by": verb.actor, "finding": verb.proof}
    return _decide_card(
        desk, verb, verb.card, "", lambda at, _: reviews.resolve(at, verb.outcome, proof, verb.platform_id, verb.url)
    )


# --- the whole -------------------------------------------------------------------------------------------------------


def _fleet_status(desk: Desk, _: verbs.FleetStatus) -> Reply:
    with desk.service.still():
        known = desk.service.agents.values()
        waiting = reviews.cards(known)
        return views.fleet_status(known, desk.seen.story) | {
            "cards": [{"card": str(card.address), "why": card.why, "since_ts": card.effect.opened_ts} for card in waiting[:100]],
            "held": [agent.name for agent in known if agent.held and agent.status != "retired"][:100],
        }


def _law_show(desk: Desk, _: verbs.LawShow) -> Reply:
    with desk.service.still():
        desk.service.refresh_key()
        return {"signing": desk.service.keys.command.id, "editions": editions(desk.service.laws, desk.service.keys.command.id)}


_PERFORM: Mapping[type, Callable[[Desk, Any], Reply]] = {
    verbs.AgentList: _agent_list,
    verbs.AgentShow: _agent_show,
    verbs.CampaignList: _campaign_list,
    verbs.CampaignShow: _campaign_show,
    verbs.CardList: _card_list,
    verbs.CardShow: _card_show,
    verbs.FleetStatus: _fleet_status,
    verbs.LawShow: _law_show,
    verbs.Enrol: _enrol,
    verbs.AgentStatus: _agent_status,
    verbs.CampaignStart: _campaign_start,
    verbs.CampaignChange: _campaign_change,
    verbs.CampaignStatus: _campaign_status,
    verbs.Approve: _approve,
    verbs.Reject: _reject,
    verbs.Edit: _edit,
    verbs.Withdraw: _withdraw,
    verbs.Resolve: _resolve,
    **tenant_desk.PERFORM,
}
"""Verb -> what it does. The table is the whole of what the command service can be asked for."""
