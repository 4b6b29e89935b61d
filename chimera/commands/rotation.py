"""Another command key, without a moment in which none counts: first both are law, then the new one signs, then the old one goes.

The rule not to break: a key signs only after every partition has adopted it, and leaves the law only after it no longer signs. Each
step can be repeated: whatever cut a rotation short, running it again finishes it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from chimera.commands.keys import KeyTrouble, create_private, law_entry, load_keys, log_topics, read_key
from chimera.commands.service import CommandService
from chimera.eventlog.append import Appender
from chimera.events.envelope import SigningKey
from chimera.events.records import LawAdopted
from chimera.events.state import Law

ROLE = "command"
NEXT = "command.key.next"
"""The key that a rotation has made and not put in force yet."""


class Rotated(NamedTuple):
    """What a step did: key ids, and in how many partitions a new edition was adopted."""

    old: str
    new: str
    partitions: int


def rotate(home: Path, service: CommandService, bootstrap: str) -> Rotated:
    """Make a command key, adopt it beside the present ones in every partition, then let it sign.

    A running command service finds it by its file; the old key counts until `drop`. Raises `KeyTrouble` and what appending and
    reading raise.
    """
    with _alone(home):
        keys = load_keys(home)
        path = home / "keys" / NEXT
        if not path.exists():
            create_private(path, SigningKey.generate().private_bytes())
        new = read_key(path)
        adopted = _adopt(service, bootstrap, lambda listed: [*listed, *({new.public} - set(listed))])
        path.replace(home / "keys" / "command.key")
        _settle(home / "keys")
    return Rotated(keys.command.id, new.id, adopted)


def drop(home: Path, key: str, service: CommandService, bootstrap: str) -> Rotated:
    """Take a command key that no longer signs out of the law: what is appended with it from then on is void(forged).

    `key`: its id. Raises `KeyTrouble` for the key that signs now, and for one that no partition lists.
    """
    with _alone(home):
        keys = load_keys(home)
        if key == keys.command.id:
            raise KeyTrouble(f"key {key} signs commands now: run `chimera keys rotate command` first")
        service.catch_up()
        known = {id_: public for law in service.laws.values() for id_, public in law.public.items()}
        listed = {id_ for law in service.laws.values() for id_ in law.keys.get(ROLE, ())}
        if key not in listed:
            raise KeyTrouble(f"no partition lists '{key}' as a command key: `chimera keys list` shows those in force")
        adopted = _adopt(service, bootstrap, lambda publics: [public for public in publics if public != known[key]])
    return Rotated(key, keys.command.id, adopted)


def editions(laws: dict[int, Law], signing: str) -> list[dict[str, Any]]:
    """The laws in force, those alike together: edition, law, partitions, and per role the key ids (`signing` marked)."""
    groups: dict[tuple[int, int, tuple[tuple[str, tuple[str, ...]], ...]], list[int]] = {}
    for partition, law in sorted(laws.items()):
        roles = tuple((role, tuple(sorted(ids))) for role, ids in sorted(law.keys.items()))
        groups.setdefault((law.edition, law.number, roles), []).append(partition)
    return [
        {
            "edition": edition,
            "law": number,
            "partitions": partitions,
            "keys": {role: [{"id": id_, "signs": id_ == signing} for id_ in ids] for role, ids in roles},
        }
        for (edition, number, roles), partitions in groups.items()
    ]


def _adopt(service: CommandService, bootstrap: str, change: Callable[[list[str]], list[str]]) -> int:
    """Adopt the next edition wherever `change` of the command keys differs from what is in force; returns in how many."""
    service.catch_up()
    wanted = {partition: law for partition, law in service.laws.items() if _differs(law, change)}
    if not wanted:
        return 0
    entries = []
    for partition, law in wanted.items():
        listed = _publics(law)
        listed[ROLE] = change(listed.get(ROLE, []))
        adopted = LawAdopted(edition=law.edition + 1, law=law.number, keys=listed)
        entries.append(law_entry(service.keys, partition, service.topic, adopted))
    with Appender(bootstrap, log_topics(service.topic), "chimera-installer") as appender:
        positions = appender.append_many(entries)
    service.reach({position.partition: position.offset + 1 for position in positions})
    left = [partition for partition in wanted if _differs(service.laws[partition], change)]
    if left:
        raise KeyTrouble(f"partitions {left} adopted another law meanwhile: run the same command again")
    return len(wanted)


def _differs(law: Law, change: Callable[[list[str]], list[str]]) -> bool:
    listed = _publics(law).get(ROLE, [])
    return sorted(change(listed)) != sorted(listed)


def _publics(law: Law) -> dict[str, list[str]]:
    return {role: [law.public[id_] for id_ in sorted(ids)] for role, ids in law.keys.items()}


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """One rotation at a time per home; the kernel's lock, so a killed one leaves nothing behind."""
    fd = os.open(home / "keys" / "rotation.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise KeyTrouble(f"another rotation runs in {home}: wait for it to end") from None
        yield
    finally:
        os.close(fd)


def _settle(directory: Path) -> None:
    """Make a rename survive a power cut."""
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
