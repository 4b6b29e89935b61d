"""Verbs on cards, performed: list, show, approve, reject, edit, withdraw, resolve.

The rule not to break: a decision on a card must name what was shown of it here, or what is shown of it now.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any

from chimera.commands import cards, reviews, triage, verbs, views
from chimera.commands.cards import Address, Card, Sight
from chimera.commands.decision import NO_CHANGE, Answer, Decision, Refused
from chimera.commands.differences import changes
from chimera.commands.rereading import reread
from chimera.commands.room import Room, order_id
from chimera.commands.verbs import Reply, answered
from chimera.errors import ChimeraError
from chimera.events.records import ArtifactProduced, CardHoldSet


def card_list(room: Room, verb: verbs.CardList) -> Reply:
    """Effects in some statuses, each as a reviewer is shown it: what waits for people first, of that what nobody holds, and of
    that what weighs most."""
    with room.service.still():
        waiting = cards.cards_of(room.service.agents.values(), verb.statuses)
        found = [(card.address, card.agent.key, card.effect.wait_reason) for card in waiting]
    shown = []
    for at, key, waits_because in found:
        try:
            seen = _look(room, at, key)
            shown.append(_sight_reply(seen) | _place(room, at, key, seen) | {"waits_because": waits_because})
        except Refused:
            continue  # decided by somebody else while the list was made
    shown.sort(
        key=lambda row: (
            row["card"]["status"] != "people",
            row["held"] is not None,
            -row["score"],
            row["card"]["waiting_since_ts"],
        )
    )
    return {"cards": shown}


def card_show(room: Room, verb: verbs.CardShow) -> Reply:
    """What a decision on one card should rest on."""
    at, key = _addressed(room, verb.card)
    with room.service.still():
        closed = cards.closed_as(room.service.agents[key], at)
        version = room.service.agents[key].version
    if verb.deciding and closed == verb.deciding:
        return {"closed_as": closed, "address": str(at), "stream": key, "state_version": version}
    seen = _look(room, at, key)
    return {"closed_as": "", "address": str(at), "stream": key, **_sight_reply(seen), **_place(room, at, key, seen)}


def card_holds(room: Room, verb: verbs.CardHolds) -> Reply:
    """Which waiting cards somebody holds now: by whom, and until when (ms since the epoch, 0: until it is released)."""
    now = int(time.time() * 1000)
    with room.service.still():
        return {
            "held": {
                f"{agent.name}/{campaign.number}.{task.ordinal}.{task.attempt}": {"by": mark.by, "until_ts": mark.until}
                for agent in room.service.agents.values()
                for campaign in agent.campaigns.values()
                for task in campaign.tasks.values()
                if task.effect is not None
                and task.effect.status == "people"
                and (mark := task.effect.held) is not None
                and mark.stands(now)
            }
        }


def card_reread(room: Room, verb: verbs.CardReread) -> Reply:
    """What the judge's rules say of other words for a card."""
    at, key = _addressed(room, verb.card)
    seen = _look(room, at, key)
    with room.service.still():
        card = cards.card_at(room.service.agents[key], at)
    return {"card": str(card.address), "effect_hash": seen.effect_hash, **reread(card, seen, verb.text, room.service.read_data)}


def _sight_reply(seen: Sight) -> dict[str, Any]:
    return {"card": seen.card, "shown_hash": seen.shown_hash, "effect_hash": seen.effect_hash, "edit": seen.edit}


def _place(room: Room, at: Address, key: str, seen: Sight) -> dict[str, Any]:
    """Where the card stands in the queue: beside what is shown, since it changes by the minute."""
    with room.service.still():
        card = cards.card_at(room.service.agents[key], at)
        now, mark = int(time.time() * 1000), card.effect.held
        stands = mark if mark is not None and card.effect.status == "people" and mark.stands(now) else None
        placed = triage.place(card, seen.card["mode"], now)._asdict() | {"shadow": views.shadow(card.agent), "held": None}
        placed |= _course(card, seen)
    if stands is None:
        return placed
    said = room.service.read_data(stands.ref)
    why = said.reason if isinstance(said, CardHoldSet) else ""
    return placed | {"held": {"by": stands.by, "until_ts": stands.until, "reason": why}}


def _course(card: Card, seen: Sight) -> dict[str, Any]:
    """What may be done with the card when, and how sure one is. `undo_ms`: how long an approval can be undone; `lost_ts`: from
    when on a lost call may be called off (ms since the epoch); `confidence_raw`: the worker's; `confidence`: what that is worth."""
    effect, policy = card.effect, card.agent.policy
    raw = seen.artifact.confidence_score if isinstance(seen.artifact, ArtifactProduced) else None
    return {
        "tool_class": effect.tool_class,
        "undo_ms": policy.inline.undo_ms if policy is not None else 0,
        "claimed_ts": effect.claimed_ts,
        "lost_ts": effect.lease_until + (policy.inline.grace_ms if policy is not None else 0) if effect.claimed_ts else 0,
        "confidence_raw": raw,
        "confidence": effect.confidence,
    }


def _addressed(room: Room, card: str) -> tuple[Address, str]:
    at = cards.parse_card(card)
    return at, room.fresh(lambda: room.agent(at.agent)).key


def _look(room: Room, at: Address, key: str) -> Sight:
    """What is to be seen of a card now. Records are fetched while the fold goes on; if the card moved meanwhile, once more."""
    service = room.service
    for _ in range(20):
        with service.still():
            card = cards.card_at(service.agents[key], at)
            ref, votes = card.effect.ref, tuple(card.effect.decided_by)
        content, voted = service.read_data(ref), [service.read_at(vote) for vote in votes]
        with service.still():
            card = cards.card_at(service.agents[key], at)
            if (card.effect.ref, tuple(card.effect.decided_by)) == (ref, votes):
                return room.remember(cards.sight(card, content, voted))
    raise ChimeraError(f"card {at} changes faster than it can be read: look again in a moment")


def _seen(room: Room, at: Address, key: str, shown: verbs.Shown) -> Sight:
    """The very sight that the reviewer names. Raises `Refused` where nothing like it was shown and the card looks otherwise now."""
    known = room.was_shown(shown.shown_hash)
    found = known if known is not None else _look(room, at, key)
    # The sight's own card tells the agent, task and attempt: one shown for another card is no sight of this one.
    card = cards.parse_card(str(found.card["card"]))
    same = (card.agent, card.campaign, card.ordinal) == (at.agent, at.campaign, at.ordinal)
    if not same or (found.shown_hash, found.effect_hash, found.edit) != (shown.shown_hash, shown.effect_hash, shown.edit):
        now = f"effect {found.effect_hash[:12]}, edit {found.edit}"
        raise Refused(f"card {at}: it is not what was shown, by now it is {now}: look at it again with `chimera review show`")
    return found


def _decide_card(room: Room, verb: verbs.CardWish, already: str, decide: Callable[[Address, str], Decision]) -> Reply:
    at, key = _addressed(room, verb.card)
    id_ = order_id(verb, key)
    before = room.service.answered(key, id_)
    if before is not None:
        return answered([(str(at), before)])
    with room.service.still():
        agent = room.service.agents[key]
        if already and cards.closed_as(agent, at) == already:
            return answered([(str(at), verbs.nothing_to_do(key, agent.version, id_))])
    try:
        if verb.dry_run:
            return answered([(str(at), _tried(room, verb, at._replace(agent=agent.name), key, decide))])
        return answered([(str(at), _submit(room, verb, at._replace(agent=agent.name), key, decide))])
    except reviews.Changed as refusal:
        raise Refused(f"{refusal}{_what_changed(room, verb, at, key)}") from None
    except Refused:
        # Votes leave no number behind in the state: what this very command brought about before the snapshots refuses it now.
        recalled = room.recalled(key, id_)
        if recalled is None:
            raise
        return answered([(str(at), recalled)])


def _what_changed(room: Room, verb: verbs.CardWish, at: Address, key: str) -> str:
    """What of the card is not as this person saw it, where that was shown here and can be seen now; else nothing."""
    shown = getattr(verb, "shown", None)
    known = room.was_shown(shown.shown_hash) if shown is not None else None
    if known is None:
        return ""
    try:
        return f" (changed: {'; '.join(changes(known.card, _look(room, at, key).card))})"
    except Refused:
        return ""  # it is closed by now; that it was changed before is said already


def _tried(room: Room, verb: verbs.CardWish, at: Address, key: str, decide: Callable[[Address, str], Decision]) -> Answer:
    """What the command would append as things are."""
    decision = decide(at, key)
    with room.service.still():
        agent = room.service.agents[key]
        wanted = decision(agent)
        reason = f"would append {', '.join(data.TYPE for data in wanted)}" if wanted else NO_CHANGE
        return Answer(key, order_id(verb, key), "applied", reason, agent.version)


def _submit(room: Room, verb: verbs.Wish, at: Address, key: str, decide: Callable[[Address, str], Decision]) -> Answer:
    ref = room.fresh(lambda: cards.card_at(room.service.agents[key], at).effect.ref)
    made_from = room.service.read_at(ref)
    order = room.order(verb, room.service.agents[key], decide(at, key), made_from.id, made_from.correlation)
    return room.service.submit(
        order.decide,
        key=key,
        tenant=order.tenant,
        actor=order.actor,
        command_id=order.id,
        causation=order.causation,
        correlation=order.correlation,
    )


def approve(room: Room, verb: verbs.Approve) -> Reply:
    """The actor's vote for what was shown."""
    return _decide_card(
        room,
        verb,
        "",
        lambda at, key: reviews.approve(at, verb.actor, _seen(room, at, key, verb.shown), verb.comment),
    )


def reject(room: Room, verb: verbs.Reject) -> Reply:
    """Close the card and its task."""

    def decide(at: Address, key: str) -> Decision:
        if verb.shown is None:
            raise Refused(f"card {at}: say what was shown of it: look at it with `chimera review show`")
        return reviews.reject(at, verb.reason_code, _seen(room, at, key, verb.shown), verb.comment)

    return _decide_card(room, verb, "rejected", decide)


def edit(room: Room, verb: verbs.Edit) -> Reply:
    """Other words in place of those shown."""
    return _decide_card(
        room,
        verb,
        "",
        lambda at, key: reviews.edit(
            at, verb.actor, _seen(room, at, key, verb.shown), verb.text, secrets.token_hex(16), verb.comment
        ),
    )


def withdraw(room: Room, verb: verbs.Withdraw) -> Reply:
    """Undo an approval that nobody has claimed."""
    return _decide_card(room, verb, "withdrawn", lambda at, _: reviews.withdraw(at, verb.reason))


def hold(room: Room, verb: verbs.Hold) -> Reply:
    """Mark a card as the actor's."""
    now = int(time.time() * 1000)
    return _decide_card(room, verb, "", lambda at, _: reviews.hold(at, verb.actor, verb.reason, verb.until, now=now))


def release(room: Room, verb: verbs.Release) -> Reply:
    """Take the mark off a card."""
    return _decide_card(room, verb, "", lambda at, _: reviews.release(at, verb.reason))


def resolve(room: Room, verb: verbs.Resolve) -> Reply:
    """Say how a call ended whose end nobody knows."""
    proof = {"kind": "person", "by": verb.actor, "finding": verb.proof}
    return _decide_card(room, verb, "", lambda at, _: reviews.resolve(at, verb.outcome, proof, verb.platform_id, verb.url))
