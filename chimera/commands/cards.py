"""A card: one effect with all that a reviewer is shown of it, where it stands, and whom it waits for.

The rule not to break: what is shown is the bytes that would leave, and its digest names all of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from chimera.commands.decision import Refused
from chimera.errors import ChimeraError
from chimera.events.does.people import people_needed, why_people_for_money
from chimera.events.envelope import Record
from chimera.events.hashes import digest
from chimera.events.records import ArtifactProduced, Data, HumanEdited, JudgeVerdict
from chimera.events.state import Agent, Campaign, Effect, Task

_CARD = re.compile(r"^(?P<agent>[^/\s]+|agent/[0-9a-f-]+)/(?P<campaign>\d+)\.(?P<ordinal>\d+)(?:\.(?P<attempt>\d+))?$")


class BadCard(ChimeraError):
    """What was given does not address a card."""


class Address(NamedTuple):
    """A card as people write it: `ava/1.4.2`. Without the attempt (`ava/1.4`) the current one is meant (0)."""

    agent: str
    campaign: int
    ordinal: int
    attempt: int

    @property
    def attempt_known(self) -> bool:
        """Whether the attempt was given."""
        return self.attempt > 0

    def __str__(self) -> str:
        return f"{self.agent}/{self.campaign}.{self.ordinal}" + (f".{self.attempt}" if self.attempt else "")


def parse_card(text: str) -> Address:
    """`<agent>/<campaign>.<ordinal>[.<attempt>]` read. Raises `BadCard`."""
    match = _CARD.match(text.strip())
    if match is None:
        raise BadCard(
            f"'{text}' is no card: write it as <agent>/<campaign>.<task>.<attempt>, e.g. ava/1.4.2 (`chimera review list`)"
        )
    return Address(match["agent"], int(match["campaign"]), int(match["ordinal"]), int(match["attempt"] or 0))


class Card(NamedTuple):
    """One effect with its place, as the state holds it. `why`: why people are asked."""

    address: Address
    agent: Agent
    campaign: Campaign
    task: Task
    effect: Effect
    why: str


class Sight(NamedTuple):
    """Exactly what a reviewer was shown, and its digest (`shown_hash`)."""

    card: dict[str, Any]
    shown_hash: str
    effect_hash: str
    edit: int
    artifact: ArtifactProduced | HumanEdited


def card_at(agent: Agent, at: Address) -> Card:
    """The effect at that address. Raises `Refused` saying what became of it."""
    campaign = agent.campaigns.get(at.campaign)
    name = agent.name
    if campaign is None:
        if 0 < at.campaign < agent.next_campaign:
            raise Refused(f"card {at}: campaign {at.campaign} of '{name}' has closed, so nothing waits there any more")
        raise Refused(f"card {at}: '{name}' has no campaign {at.campaign}: see `chimera agent show {name}`")
    task = campaign.tasks.get(at.ordinal)
    if task is None:
        if at.ordinal in campaign.done:
            raise Refused(f"card {at}: its task is done already")
        if at.ordinal in campaign.closed:
            raise Refused(f"card {at}: its task was closed ({campaign.closed[at.ordinal]})")
        raise Refused(f"card {at}: campaign {at.campaign} of '{name}' has no task {at.ordinal}")
    if at.attempt_known and at.attempt != task.attempt:
        over = "is over" if at.attempt < task.attempt else "has not begun"
        raise Refused(f"card {at}: attempt {at.attempt} {over}, the task is at attempt {task.attempt}")
    if task.effect is None:
        raise Refused(f"card {at}: task {at.campaign}.{at.ordinal} has no effect to decide on, it is {task.status}")
    return Card(
        Address(name, at.campaign, at.ordinal, task.attempt), agent, campaign, task, task.effect, why_people(agent, task.effect)
    )


def closed_as(agent: Agent, at: Address) -> str:
    """Why the card's task was closed, "" where it was not (or its campaign is over, which the state forgets)."""
    campaign = agent.campaigns.get(at.campaign)
    return campaign.closed.get(at.ordinal, "") if campaign is not None else ""


def why_people(agent: Agent, effect: Effect) -> str:
    """Why people are asked about this effect, for people to read; the fold's own reasons (law: Quorum) decide."""
    if effect.content_ask:
        return effect.content_ask
    money = why_people_for_money(agent, effect) if agent.policy is not None else ""
    return money or effect.effect_class


def cards_of(agents: Iterable[Agent], statuses: Sequence[str] = ("people",)) -> list[Card]:
    """Every effect in one of these statuses, the longest waiting first."""
    found = [
        Card(
            Address(agent.name, campaign.number, task.ordinal, task.attempt),
            agent,
            campaign,
            task,
            task.effect,
            why_people(agent, task.effect),
        )
        for agent in agents
        for campaign in agent.campaigns.values()
        for task in campaign.tasks.values()
        if task.effect is not None and task.effect.status in statuses
    ]
    return sorted(found, key=lambda card: (card.effect.opened_ts, str(card.address)))


def sight(card: Card, content: Data | None, votes: Sequence[Record] = ()) -> Sight:
    """What to show of a card: the bytes that would leave, why people are asked, what judges said, what it was made from.

    `content` is the record at `effect.ref`, `votes` those at `effect.decided_by`.
    """
    if not isinstance(content, ArtifactProduced | HumanEdited) or content.effect is None:
        raise ChimeraError(f"card {card.address}: the record at {card.effect.ref} holds no effect: run `chimera replay verify`")
    effect, inside = card.effect, content.effect
    shown: dict[str, Any] = {
        "card": str(card.address),
        "agent": card.agent.name,
        "tenant": card.agent.tenant,
        "campaign": card.campaign.campaign_id,
        "status": effect.status,
        "why": card.why,
        "waiting_since_ts": effect.opened_ts,
        "text": text_of(content),
        "platform": inside.platform,
        "account": inside.account,
        "thread": inside.thread,
        "tool": f"{inside.profile}.{inside.tool}",
        "mode": inside.mode,
        "effect_class": inside.effect_class,
        "arguments": inside.arguments,
        "asset_hashes": inside.asset_hashes,
        "disclosure": inside.disclosure,
        "not_before": inside.not_before,
        "max_cost_usd": str(inside.max_cost_usd),
        "tags": list(effect.tags),
        "taint": effect.taint,
        "sources": content.sources if isinstance(content, ArtifactProduced) else [],
        "verdicts": [_verdict(vote.data) for vote in votes if isinstance(vote.data, JudgeVerdict)],
        "approvals": list(effect.approvals),
        "approvals_needed": people_needed(card.agent, effect) if card.agent.policy is not None else 1,
        "approvers": list(approvers(card)),
        "edited_by": effect.editor,
        "edit": effect.edit,
        "policy_edition": card.agent.policy.edition if card.agent.policy is not None else 0,
        "input_state_version": card.task.input_state_version,
        "stale": card.task.stale,
        "artifact_hash": card.task.artifact_hash,
        "effect_hash": effect.hash,
    }
    return Sight(shown, digest(shown), effect.hash, effect.edit, content)


PUBLISHED = ("text", "caption")
"""How tools call the words that people will read."""
ORDERED = ("prompt", "promptText")
"""How studios call the words that they make something from."""


def text_of(content: ArtifactProduced | HumanEdited) -> str:
    """The words that would leave; of a payment, what is paid to whom (the judge holds call and command against just that)."""
    arguments = content.effect.arguments if content.effect is not None else {}
    if "transfer" in content.content:
        paid = content.content
        return f"Pay {paid.get('amount')} {paid.get('asset')} to {paid['transfer']}: {paid.get('reason')}"
    said = next((arguments[name] for name in (*PUBLISHED, *ORDERED) if name in arguments), None)
    return str(said if said is not None else content.content.get("text", ""))


def words_in(arguments: Mapping[str, Any]) -> str | None:
    """Under which name a call carries the words that people will read; None where it publishes none."""
    return next((name for name in PUBLISHED if name in arguments), None)


def _verdict(vote: JudgeVerdict) -> dict[str, Any]:
    return {
        "judge": vote.judge,
        "decision": vote.decision,
        "confidence": vote.confidence,
        "tags": vote.tags,
        "reasons": vote.reasons,
    }


def approvers(card: Card) -> Sequence[str]:
    """Whom the policy in force names for this class of effect."""
    policy = card.agent.policy
    return policy.inline.approvers.get(card.effect.effect_class, ()) if policy is not None else ()
