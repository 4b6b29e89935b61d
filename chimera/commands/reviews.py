"""Commands of reviewers: approve, edit, reject a card, withdraw an approval, say how an unknown call ended.

The rule not to break: a person decides on the exact bytes that were shown. Every decision names the effect's hash as it was on
the screen, and is refused when the card has changed since.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from chimera.commands.cards import Address, Card, Sight, approvers, card_at, closed_as, text_of, words_in
from chimera.commands.decision import Decision, NotEntitled, Refused, existing
from chimera.commands.verbs import REASON_CODES
from chimera.events.hashes import commit_hash, digest, simhash, text_hash
from chimera.events.principals import is_machine
from chimera.events.records import (
    CardHoldSet,
    Data,
    EffectEnded,
    EffectProposal,
    EffectWithdrawn,
    HumanApproved,
    HumanEdited,
    HumanRejected,
    effect_body,
)
from chimera.events.state import ZERO, Agent


class Changed(Refused):
    """The card is not what the person was shown."""


def approve(at: Address, actor: str, seen: Sight, comment: str = "") -> Decision:
    """The actor's vote for exactly what was shown."""

    def decide(agent: Agent | None) -> Sequence[Data]:
        card = card_at(existing(agent), at)
        if actor in card.effect.approvals and card.effect.hash == seen.effect_hash:
            return []
        _unchanged(card, seen)
        _waits(card)
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
    """Close the card and its task; the reason feeds later tasks. Anybody may say no."""
    if reason_code not in REASON_CODES:
        raise Refused(f"'{reason_code}' is no reason code: use one of {', '.join(REASON_CODES)}")

    def decide(agent: Agent | None) -> Sequence[Data]:
        found = existing(agent)
        if closed_as(found, at) == "rejected":
            return []
        card = card_at(found, at)
        _unchanged(card, seen)
        _waits(card)
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
    if words_in(old.arguments) is None:
        raise Refused(
            f"card {at}: the tool {old.profile}.{old.tool} takes no text, so there is nothing to edit: approve or reject it"
        )
    if not text.strip():
        raise Refused(f"card {at}: the new text is empty: reject the card instead")

    def decide(agent: Agent | None) -> Sequence[Data]:
        card = card_at(existing(agent), at)
        if card.effect.editor == actor and card.effect.text_hash == text_hash(text) and card.effect.hash != seen.effect_hash:
            return []
        _unchanged(card, seen)
        _waits(card)
        if text == text_of(seen.artifact):
            return []
        _entitled(card, actor, "edit")
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


def hold(at: Address, actor: str, reason: str, until: int = 0, *, now: int = 0) -> Decision:
    """Say that the actor looks into the card, and why: it stands behind what nobody holds, its expiry goes on, and everybody may
    still decide on it. `until`, `now`: ms since the epoch; until 0 = until it is released."""

    def decide(agent: Agent | None) -> Sequence[Data]:
        card = card_at(existing(agent), at)
        _waits(card)
        if is_machine(actor):
            raise Refused(f"card {at}: '{actor}' is no person, and machines hold no cards")
        if until and until <= now:
            raise Refused(f"card {at}: --until is over already: give a later time, or leave it out")
        mark = card.effect.held
        if mark is not None and (mark.by, mark.until) == (actor, until):
            return []
        if mark is not None and mark.by != actor and mark.stands(now):
            raise Refused(f"card {at}: '{mark.by}' holds it already: ask them, or release it first (`chimera review release`)")
        return [_mark(card, held=True, until=until, reason=reason)]

    return decide


def release(at: Address, reason: str = "") -> Decision:
    """Take the mark off a card, whoever put it there."""

    def decide(agent: Agent | None) -> Sequence[Data]:
        card = card_at(existing(agent), at)
        if card.effect.held is None:
            return []
        _waits(card)
        return [_mark(card, held=False, reason=reason)]

    return decide


def _mark(card: Card, **said: Any) -> CardHoldSet:
    at = card.address
    named = {"campaign": at.campaign, "ordinal": at.ordinal, "attempt": at.attempt}
    return CardHoldSet(**named, effect_hash=card.effect.hash, edit=card.effect.edit, **said)


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
                # Nobody says what it cost: the most that it may have been stays spent.
                cost_usd=card.effect.max_cost if outcome == "executed" else ZERO,
                reason="found by a person",
            )
        ]

    return decide


def _with_text(old: EffectProposal, text: str, salt: str) -> EffectProposal:
    """The same act with other words."""
    new = old.model_copy(
        update={
            "arguments": {**old.arguments, words_in(old.arguments) or "text": text},
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
    """The bytes are those that were shown, judged under the policy that was shown."""
    again = "look at it again with `chimera review show`"
    if (card.effect.hash, card.effect.edit) != (seen.effect_hash, seen.edit):
        who = f" by {card.effect.editor}" if card.effect.editor else ""
        raise Changed(f"card {card.address}: it was changed{who} since it was shown: {again}")
    shown_under = seen.card.get("policy_edition")
    edition = card.agent.policy.edition if card.agent.policy is not None else 0
    if shown_under != edition:
        raise Changed(f"card {card.address}: it was judged anew under policy edition {edition} since it was shown: {again}")


def _entitled(card: Card, actor: str, act: str = "approve") -> None:
    """What the law asks of approvers and editors, a sentence for each case."""
    policy = card.agent.policy
    entitled = approvers(card)
    kind = card.effect.effect_class
    if actor not in entitled:
        way_out = f"{' or '.join(entitled)} may (use --as)" if entitled else f"the policy names nobody for {kind}"
        raise NotEntitled(f"card {card.address}: '{actor}' may not {act} {kind} effects of '{card.agent.name}': {way_out}")
    if is_machine(actor):
        raise NotEntitled(f"card {card.address}: '{actor}' is no person, and machines never {act}, whatever a policy says")
    if actor == card.campaign.requester:
        raise NotEntitled(
            f"card {card.address}: '{actor}' started the campaign and may not {act} what comes of it: somebody else has to"
        )
    if policy is not None and actor == policy.editor:
        raise NotEntitled(f"card {card.address}: '{actor}' edited the policy in force last and may not {act} under it")
    if act == "approve" and kind == "financial" and actor == card.effect.editor:
        raise NotEntitled(f"card {card.address}: '{actor}' edited it, and what moves money is approved by others")
