"""Verbs on people's data, performed: forget a person.

The rule not to break: the record comes first; a key is destroyed only for a `SubjectForgotten` that counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from chimera.commands import tenants, verbs
from chimera.commands.decision import Order
from chimera.commands.room import Room, order_id
from chimera.commands.security import note
from chimera.commands.subjects import KEYS, SubjectKeyFiles
from chimera.commands.verbs import Reply
from chimera.events.security import noted


def _forget(room: Room, verb: verbs.PrivacyForget) -> Reply:
    """Say what would be destroyed, or record it and destroy it. Given again it destroys what a first run cut short left."""
    keys = SubjectKeyFiles(room.home / KEYS)
    room.service.catch_up()
    with room.service.still():
        tenant = room.tenant(verb.tenant)
        key, name = tenant.key, tenant.tenant
    if verb.dry_run:
        return {"tenant": name, "subject": verb.subject, "key": keys.standing(verb.subject)}
    order = Order(key, name, verb.actor, tenants.forget(verb.subject, verb.reason), order_id(verb, key))
    reply = room.submit([order], [name])
    counts = reply["answers"][0]["outcome"] == "applied"
    if counts:
        keys.forget(verb.subject)
    event = noted(
        "forget_asked",
        door="command_service",
        who=verb.actor,
        tenant=name,
        outcome="done" if counts else "refused",
        resource=verb.subject,
        reason=str(reply["answers"][0]["reason"]),
    )
    note(room.home, event)
    return reply | {"key": keys.standing(verb.subject)}


PERFORM: Mapping[type, Callable[[Room, Any], Reply]] = {verbs.PrivacyForget: _forget}
"""Verb -> what it does."""
