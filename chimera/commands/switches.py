"""Commands of whoever stops the fleet: close and open kill switches.

The rule not to break: nothing here needs more than Kafka and the key file, and no log is folded first: a switch closes at once.
An answer is what the topic says afterwards, never what was appended.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from chimera.commands.decision import NO_CHANGE, Refused
from chimera.commands.keys import LOG, Keys, KeyTrouble, load_keys
from chimera.commands.security import note
from chimera.errors import ChimeraError
from chimera.eventlog.append import Appender
from chimera.eventlog.switches import CLOSED, TOPIC, Board, Switch, SwitchSet, parse_scope, read_board, read_keys
from chimera.eventlog.topics import load_topics
from chimera.events.envelope import NewRecord, encode
from chimera.events.security import EVERY_TENANT, Door, What, noted
from chimera.events.state import Agent
from chimera.settings import Settings
from chimera.stack.addresses import load_kafka

TRIES = 5
"""How often a switch is set again after somebody else took its number."""
TENANT = "installation"
"""What SwitchSet records carry as their tenant: switches stand above tenants."""


class SwitchAnswer(NamedTuple):
    """What became of setting a switch. `outcome`: applied | void; `changed` False: it was so already."""

    scope: str
    outcome: str
    reason: str
    changed: bool
    switch: Switch | None


class Stopped(NamedTuple):
    """An effect that was sent back to approved because a switch was closed. `scope` is what stopped it."""

    scope: str
    agent: str
    card: str
    tenant: str = ""


def set_switch(
    settings: Settings,
    scope: str,
    *,
    closed: bool,
    reason: str,
    actor: str,
    door: Door = "shell",
    topic: str = TOPIC,
    log_topic: str = LOG,
) -> SwitchAnswer:
    """Close or open a switch and say what the topic says of it afterwards. Repeating it is harmless.

    What was changed is noted as a security event, which a process of this home sends, or `security.send`.

    Raises `BadScope`, `Refused` (opening without a reason), `KeyTrouble`, and what reading and appending raise.
    """
    scope = parse_scope(scope)
    if not closed and not reason.strip():
        raise Refused(f"opening {scope} needs a reason: say with --reason why it is safe to go on")
    bootstrap = load_kafka(settings)
    keys = load_keys(settings.home)
    known = _in_force(bootstrap, keys, topic, log_topic)
    topics = load_topics().only(TOPIC).with_prefix(topic.removesuffix(TOPIC))
    answer = SwitchAnswer(scope, "void", "others set it at the same time: look with `chimera switch list`, and repeat", False, None)
    with Appender(bootstrap, topics, "chimera-switch") as appender:
        for _ in range(TRIES):
            found = known.switches.get(scope)
            if (found is not None and found.closed) == closed and not _weak(known, found):
                return SwitchAnswer(scope, "applied", NO_CHANGE, False, found)
            number = 1 if found is None else found.number + 1
            said = SwitchSet(scope=scope, closed=closed, reason=reason.strip(), number=number)
            position = appender.append_blocking(topic, scope, *_wire(said, actor, keys))
            known = read_board(bootstrap, known.keys, topic)
            found = known.switches.get(scope)
            if found is not None and found.offset >= position.offset and found.closed == closed:
                _note(settings, found, actor, door)
                return SwitchAnswer(scope, "applied", "", True, found)
    return answer


def _note(settings: Settings, now: Switch, actor: str, door: Door) -> None:
    kind, _, name = now.scope.partition(":")
    tenant = name if kind == "tenant" else EVERY_TENANT
    what: What = "switch_closed" if now.closed else "switch_opened"
    note(settings.home, noted(what, door=door, who=actor, tenant=tenant, resource=now.scope))


def board(settings: Settings, *, topic: str = TOPIC, log_topic: str = LOG) -> Board:
    """The switches as they are now. Raises `KeyTrouble` and what reading raises."""
    bootstrap = load_kafka(settings)
    return _read(bootstrap, load_keys(settings.home), topic, log_topic)


def stopped(agents: Iterable[Agent]) -> list[Stopped]:
    """Every effect that waits because of a switch, by what the executor wrote when it deferred it."""
    return [
        Stopped(
            t.effect.wait_reason.removeprefix(CLOSED), agent.name, f"{agent.name}/{c.number}.{t.ordinal}.{t.attempt}", agent.tenant
        )
        for agent in agents
        for c in agent.campaigns.values()
        for t in c.tasks.values()
        if t.effect is not None and t.effect.status == "approved" and t.effect.wait_reason.startswith(CLOSED)
    ]


def _weak(known: Board, found: Switch | None) -> bool:
    """Is it closed by a key that is not in force any more? Then closing it again makes it hold against such keys."""
    return found is not None and found.closed and found.key not in known.keys.current


def _in_force(bootstrap: str, keys: Keys, topic: str, log_topic: str) -> Board:
    known = _read(bootstrap, keys, topic, log_topic)
    if keys.command.id not in known.keys.current:
        raise KeyTrouble(
            f"the command key {keys.command.id} of this home is not in the law in force: no gate would heed it; "
            "restore the key that `chimera keys list` names"
        )
    return known


def _read(bootstrap: str, keys: Keys, topic: str, log_topic: str) -> Board:
    known = read_keys(bootstrap, keys.installation.root_public, log_topic)
    if known is None:
        raise ChimeraError(f"{log_topic} at {bootstrap} holds no law yet: run `chimera keys init`")
    return read_board(bootstrap, known, topic)


def _wire(said: SwitchSet, actor: str, keys: Keys) -> tuple[bytes, list[tuple[str, bytes]]]:
    new = NewRecord(
        key=said.scope,
        data=said,
        tenant=TENANT,
        actor=actor,
        time=datetime.now(UTC).isoformat(timespec="milliseconds"),
        id=str(uuid.uuid4()),
    )
    wire = encode(new, keys.command)
    return wire.value, wire.headers
