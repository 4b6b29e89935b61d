"""Questions about the whole, answered: the fleet, the switches' work, the law.

The rule not to break: they only look.
"""

from __future__ import annotations

from chimera.commands import cards, verbs, views
from chimera.commands.room import Room
from chimera.commands.rotation import editions
from chimera.commands.switches import stopped
from chimera.commands.verbs import Reply


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


def law_show(room: Room, _: verbs.LawShow) -> Reply:
    """The law and the keys in force."""
    with room.service.still():
        room.service.refresh_key()
        held = room.service.role_keys.held
        signing = {room.service.keys.command.id, *(key.id for key in held.values())}
        return {"signing": room.service.keys.command.id, "editions": editions(room.service.laws, signing)}
