"""The whole: the fleet counted, the switches and what they stop, the law.

The rule not to break: a switch is turned by `set_switch` as from a shell, with Kafka and the key file alone; the rest looks.
"""

from __future__ import annotations

from chimera.commands import cards, switches, verbs, views
from chimera.commands.decision import Refused
from chimera.commands.room import Room
from chimera.commands.rotation import editions
from chimera.commands.switches import stopped
from chimera.commands.verbs import Reply
from chimera.eventlog.switches import BadScope
from chimera.settings import Settings


def fleet_status(room: Room, _: verbs.FleetStatus) -> Reply:
    """The fleet, counted."""
    service, note = room.service, Reply()
    if not service.whole:  # asked before the states are held still: it may take a while
        totals, note = room.past(lambda past: past.totals(), lambda: views.open_totals(service.agents.values()))
    with service.still():
        known = service.agents.values()
        waiting = cards.cards_of(known)
        if service.whole:
            look = views.fleet_status(known, room.seen.story)
        else:
            look = views.fleet_now(known) | {
                "campaigns": totals["campaigns"],
                "tasks": totals["tasks"],
                "executed": totals["effects"].get("executed", 0) if "effects" in totals else None,
                "rulings": totals.get("rulings", {}),
                "records": sum(service.offsets.values()),
                "last_record_ts": service.last_append_ts,
            }
        look |= {
            "cards": [{"card": str(card.address), "why": card.why, "since_ts": card.effect.opened_ts} for card in waiting[:100]],
            "held": [agent.name for agent in known if agent.held and agent.status != "retired"][:100],
        }
    return look | note


def switch_stopped(room: Room, _: verbs.SwitchStopped) -> Reply:
    """What closed switches hold back now."""
    with room.service.still():
        return {"stopped": [each._asdict() for each in stopped(room.service.agents.values())]}


def switch_list(room: Room, _: verbs.SwitchList) -> Reply:
    """Every switch that was ever set, and how many records on the topic do not count, by reason."""
    board = switches.board(_settings(room))
    return {"switches": [each._asdict() for each in board.switches.values()], "ignored": dict(board.ignored)}


def switch_turn(room: Room, verb: verbs.SwitchTurn) -> Reply:
    """Close or open a switch; what the topic says of it afterwards."""
    closed = verb.verb == "switch.close"
    try:
        answer = switches.set_switch(_settings(room), verb.scope, closed=closed, reason=verb.reason, actor=verb.actor)
    except BadScope as error:
        raise Refused(str(error)) from error
    switch = None if answer.switch is None else answer.switch._asdict()
    return {"scope": answer.scope, "outcome": answer.outcome, "reason": answer.reason, "changed": answer.changed, "switch": switch}


def _settings(room: Room) -> Settings:
    """This installation, whatever the process was told of addresses: the switches lie where the log does."""
    return Settings(home=room.home, kafka=room.service.bootstrap)


def law_show(room: Room, _: verbs.LawShow) -> Reply:
    """The law and the keys in force."""
    with room.service.still():
        room.service.signing.refresh()
        held = room.service.signing.role_keys.held
        signing = {room.service.keys.command.id, *(key.id for key in held.values())}
        return {"signing": room.service.keys.command.id, "editions": editions(room.service.laws, signing)}
