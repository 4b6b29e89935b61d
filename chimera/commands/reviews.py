"""Commands of reviewers: approve, edit, reject a card, withdraw an approval, say how an unknown call ended.

The rule not to break: a person decides on the exact bytes that were shown. Every decision names the effect's hash as it was on
the screen, and is refused when the card has changed since.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from chimera.commands.decision import Decision, Refused, existing
from chimera.commands.verbs import REASON_CODES
from chimera.errors import ChimeraError
from chimera.events.does.quorum import people_needed
from chimera.events.envelope import Record
from chimera.events.hashes import commit_hash, digest, simhash, text_hash
from chimera.events.records import (
    ArtifactProduced,
    Data,
    EffectEnded,
    EffectProposal,
    EffectWithdrawn,
    HumanApproved,
    HumanEdited,
    HumanRejected,
    JudgeVerdict,
    effect_body,
)
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
    if effect.cfo == "people":
        return "cfo"
    policy = agent.policy.inline if agent.policy is not None else None
    if policy is not None and any(tag in policy.sensitive_tags for tag in effect.tags):
        return "sensitive"
    if policy is not None and any(effect.max_cost >= tier.amount_usd for tier in policy.amount_tiers):
        return "amount"
    return effect.effect_class


def cards(agents: Iterable[Agent], statuses: Sequence[str] = ("people",)) -> list[Card]:
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
        "approvers": list(_approvers(card)),
        "edited_by": effect.editor,
        "edit": effect.edit,
        "policy_edition": card.agent.policy.edition if card.agent.policy is not None else 0,
        "input_state_version": card.task.input_state_version,
        "stale": card.task.stale,
        "artifact_hash": card.task.artifact_hash,
        "effect_hash": effect.hash,
    }
    return Sight(shown, digest(shown), effect.hash, effect.edit, content)


def text_of(content: ArtifactProduced | HumanEdited) -> str:
    """The words that would leave."""
    words = content.effect.arguments.get("text") if content.effect is not None else None
    return str(words if words is not None else content.content.get("text", ""))


def _verdict(vote: JudgeVerdict) -> dict[str, Any]:
    return {
        "judge": vote.judge,
        "decision": vote.decision,
        "confidence": vote.confidence,
        "tags": vote.tags,
        "reasons": vote.reasons,
    }


# --- decisions -------------------------------------------------------------------------------------------------------


def approve(at: Address, actor: str, seen: Sight, comment: str = "") -> Decision:
    """The actor's vote for exactly what was shown."""

    def decide(agent: Agent | None) -> Sequence[Data]:
        card = card_at(existing(agent), at)
        if actor in card.effect.approvals and card.effect.hash == seen.effect_hash:
            return []
        _waits(card)
        _unchanged(card, seen)
        _entitled(card, actor)
        agent_, task, effect = card.agent, card.task, card.effect
        assert agent_.policy is not None  # a card waits, so a policy was adopted
        return [
            HumanApproved(
                campaign=at.campaign,
                ordinal=at.ordinal,
                attempt=task.attempt,
                policy_edition=agent_.policy.edition,
                input_state_version=task.input_state_version,
                artifact_hash=task.artifact_hash,
                effect_hash=effect.hash,
                edit=effect.edit,
                expected_output_version=agent_.version + 1,
                commit_hash=commit_hash(
                    agent_.key, f"{at.campaign}.{at.ordinal}", task.input_state_version, task.artifact_hash, effect.hash
                ),
                shown_hash=seen.shown_hash,
                comment=comment,
            )
        ]

    return decide


def reject(at: Address, reason_code: str, seen: Sight, comment: str = "") -> Decision:
    """Close the card and its task; the reason feeds later tasks."""
    if reason_code not in REASON_CODES:
        raise Refused(f"'{reason_code}' is no reason code: use one of {', '.join(REASON_CODES)}")

    def decide(agent: Agent | None) -> Sequence[Data]:
        found = existing(agent)
        if closed_as(found, at) == "rejected":
            return []
        card = card_at(found, at)
        _waits(card)
        _unchanged(card, seen)
        body = {
            "campaign": at.campaign,
            "ordinal": at.ordinal,
            "attempt": card.task.attempt,
            "policy_edition": found.policy.edition if found.policy is not None else 0,
            "effect_hash": card.effect.hash,
            "edit": card.effect.edit,
            "reason_code": reason_code,
            "comment": comment,
            "shown_hash": seen.shown_hash,
        }
        return [HumanRejected.model_validate(body)]

    return decide


def edit(at: Address, actor: str, seen: Sight, text: str, salt: str, comment: str = "") -> Decision:
    """Other words in place of those shown: a new effect with the editor's vote; the judges are asked again.

    `salt`: 16 random bytes in hex, drawn by the caller.
    """
    old = seen.artifact.effect
    assert old is not None  # `sight` shows no card without one
    if "text" not in old.arguments:
        raise Refused(
            f"card {at}: the tool {old.profile}.{old.tool} takes no text, so there is nothing to edit: approve or reject it"
        )
    if not text.strip():
        raise Refused(f"card {at}: the new text is empty: reject the card instead")

    def decide(agent: Agent | None) -> Sequence[Data]:
        card = card_at(existing(agent), at)
        if card.effect.editor == actor and card.effect.text_hash == text_hash(text) and card.effect.hash != seen.effect_hash:
            return []
        _waits(card)
        if text == text_of(seen.artifact):
            return []
        _unchanged(card, seen)
        _entitled(card, actor)
        content = {**seen.artifact.content, "text": text}
        assert card.agent.policy is not None  # a card waits, so a policy was adopted
        return [
            HumanEdited(
                campaign=at.campaign,
                ordinal=at.ordinal,
                attempt=card.task.attempt,
                policy_edition=card.agent.policy.edition,
                old_effect_hash=card.effect.hash,
                edit=card.effect.edit + 1,
                artifact_hash=digest(content),
                content=content,
                effect=_with_text(old, text, salt),
                comment=comment,
                shown_hash=seen.shown_hash,
            )
        ]

    return decide


def withdraw(at: Address, reason: str = "") -> Decision:
    """Undo: an approved effect that nobody claimed yet is closed, and its task with it."""

    def decide(agent: Agent | None) -> Sequence[Data]:
        found = existing(agent)
        if closed_as(found, at) == "withdrawn":
            return []
        card = card_at(found, at)
        if card.effect.status in ("claimed", "submitted", "unknown"):
            raise Refused(f"card {at}: it is {card.effect.status}, so it may have been sent: withdrawing comes too late")
        if card.effect.status != "approved":
            raise Refused(f"card {at}: it is not approved ({card.effect.status}), so nothing is to be undone: reject it instead")
        return [
            EffectWithdrawn(
                campaign=at.campaign, ordinal=at.ordinal, attempt=card.task.attempt, effect_hash=card.effect.hash, reason=reason
            )
        ]

    return decide


def resolve(
    at: Address,
    outcome: Literal["executed", "refused", "not_executed"],
    proof: dict[str, Any],
    platform_id: str | None = None,
    url: str | None = None,
) -> Decision:
    """Say, with proof, how a call ended of which nobody knows. The law lets `not_executed` count after lease and grace only."""

    def decide(agent: Agent | None) -> Sequence[Data]:
        card = card_at(existing(agent), at)
        if card.effect.status != "unknown":
            raise Refused(f"card {at}: its effect is {card.effect.status}, not unknown: there is nothing to resolve")
        if outcome == "executed" and not platform_id:
            raise Refused(f"card {at}: what was executed has an id on the platform: give --platform-id")
        return [
            EffectEnded(
                campaign=at.campaign,
                ordinal=at.ordinal,
                attempt=card.task.attempt,
                claim=card.effect.claim,
                outcome=outcome,
                proof=proof,
                platform_id=platform_id,
                url=url,
                reason="found by a person",
            )
        ]

    return decide


def _with_text(old: EffectProposal, text: str, salt: str) -> EffectProposal:
    """The same act with other words."""
    new = old.model_copy(
        update={
            "arguments": {**old.arguments, "text": text},
            "salt": salt,
            "text_hash": text_hash(text),
            "simhash": f"{simhash(text):016x}",
        }
    )
    return new.model_copy(update={"effect_hash": digest(effect_body(new))})


def _waits(card: Card) -> None:
    if card.effect.status == "people":
        return
    if card.effect.status == "proposed":
        raise Refused(f"card {card.address}: judges are asked first, people are not asked yet: look again in a moment")
    raise Refused(f"card {card.address}: it waits for nobody, it is {card.effect.status}")


def _unchanged(card: Card, seen: Sight) -> None:
    if (card.effect.hash, card.effect.edit) != (seen.effect_hash, seen.edit):
        who = f" by {card.effect.editor}" if card.effect.editor else ""
        raise Refused(f"card {card.address}: it was changed{who} since it was shown: look at it again with `chimera review show`")


def _entitled(card: Card, actor: str) -> None:
    """What the law asks of approvers, with a sentence for each case."""
    policy = card.agent.policy
    approvers = _approvers(card)
    kind = card.effect.effect_class
    if actor not in approvers:
        way_out = f"{' or '.join(approvers)} may (use --as)" if approvers else f"the policy names nobody for {kind}"
        raise Refused(f"card {card.address}: '{actor}' may not approve {kind} effects of '{card.agent.name}': {way_out}")
    if actor == card.campaign.requester:
        raise Refused(
            f"card {card.address}: '{actor}' started the campaign and may not approve what comes of it: somebody else has to"
        )
    if policy is not None and actor == policy.editor:
        raise Refused(f"card {card.address}: '{actor}' edited the policy in force last and may not approve under it")
    if kind == "financial" and actor == card.effect.editor:
        raise Refused(f"card {card.address}: '{actor}' edited it, and what moves money is approved by others")


def _approvers(card: Card) -> Sequence[str]:
    policy = card.agent.policy
    return policy.inline.approvers.get(card.effect.effect_class, ()) if policy is not None else ()
