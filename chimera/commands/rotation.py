"""Keys in and out of the law. Another key without a moment in which none counts: first both are law, then the new one signs, then
the old one goes.

The rule not to break: a key signs only after every partition has adopted it, and leaves the law only after it no longer signs. Each
step can be repeated: whatever cut a rotation short, running it again finishes it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from chimera.commands.keys import SIGNING_ROLES, KeyTrouble, create_private, key_path, law_entry, log_topics, read_key
from chimera.commands.service import CommandService
from chimera.eventlog.append import Appender
from chimera.events.envelope import SigningKey
from chimera.events.records import LawAdopted
from chimera.events.state import Law


class Rotated(NamedTuple):
    """What a step did: key ids, and in how many partitions a new edition was adopted."""

    old: str
    new: str
    partitions: int


def harden(home: Path, role: str, service: CommandService, bootstrap: str) -> Rotated:
    """Have the law ask for the signature of a role: make its key where there is none, and list it in every partition.

    Running processes of the role find the key by its file. What one appended unsigned just before is void(forged) and owed again.
    Raises `KeyTrouble` for a role that never signs, or one whose listed key lies in another home, and what appending and
    reading raise.
    """
    _may_sign(role, SIGNING_ROLES)
    with _alone(home):
        path = key_path(home, role)
        service.catch_up()
        listed = {id_ for law in service.laws.values() for id_ in law.keys.get(role, ())}
        if listed and not path.exists():
            raise KeyTrouble(
                f"the law lists a key for the {role} already, and {path} is missing: bring it from the home that holds it"
            )
        if not path.exists():
            create_private(path, SigningKey.generate().private_bytes())
            _settle(home / "keys")
        key = read_key(path)
        adopted = _adopt(service, bootstrap, role, lambda publics: [*publics, *({key.public} - set(publics))])
    return Rotated("", key.id, adopted)


def soften(home: Path, role: str, service: CommandService, bootstrap: str) -> Rotated:
    """Have the law ask for no signature of a role any more. Its key file stays; what it signed keeps counting.

    Raises `KeyTrouble` for a role that the law lists no key for, and what appending and reading raise.
    """
    _may_sign(role, SIGNING_ROLES)
    with _alone(home):
        service.catch_up()
        listed = sorted({id_ for law in service.laws.values() for id_ in law.keys.get(role, ())})
        if not listed:
            raise KeyTrouble(f"the law lists no key for the {role}: `chimera keys list` shows those in force")
        adopted = _adopt(service, bootstrap, role, lambda _: [])
    return Rotated(", ".join(listed), "", adopted)


def rotate(home: Path, service: CommandService, bootstrap: str, role: str = "command") -> Rotated:
    """Make another key for a role, adopt it beside the present one in every partition, then let it sign.

    Running processes find it by its file; the old key counts until `drop`. Raises `KeyTrouble` and what appending and reading
    raise.
    """
    _may_sign(role, ("command", *SIGNING_ROLES))
    with _alone(home):
        path = key_path(home, role)
        if not path.exists():
            raise KeyTrouble(f"there is no {path} to rotate: `chimera keys harden {role}` makes one")
        old, draft = read_key(path), path.with_suffix(".key.next")
        if not draft.exists():
            create_private(draft, SigningKey.generate().private_bytes())
        new = read_key(draft)
        adopted = _adopt(service, bootstrap, role, lambda publics: [*publics, *({new.public} - set(publics))])
        draft.replace(path)
        _settle(home / "keys")
    return Rotated(old.id, new.id, adopted)


def drop(home: Path, key: str, service: CommandService, bootstrap: str) -> Rotated:
    """Take a key that no longer signs out of the law: what is appended with it from then on is void(forged).

    `key`: its id. Raises `KeyTrouble` for a key that signs now, and for one that no partition lists.
    """
    with _alone(home):
        service.catch_up()
        known = {id_: public for law in service.laws.values() for id_, public in law.public.items()}
        roles = {role for law in service.laws.values() for role, ids in law.keys.items() if key in ids}
        if not roles:
            raise KeyTrouble(f"no partition lists '{key}' as a key in force: `chimera keys list` shows those that are")
        (role,) = roles
        path = key_path(home, role)
        signing = read_key(path).id if path.exists() else ""
        if key == signing:
            what, way = (
                ("commands", "") if role == "command" else (f"for the {role}", f", or `chimera keys soften {role}` to end it")
            )
            raise KeyTrouble(f"key {key} signs {what} now: run `chimera keys rotate {role}` first{way}")
        adopted = _adopt(service, bootstrap, role, lambda publics: [public for public in publics if public != known[key]])
    return Rotated(key, signing, adopted)


def _may_sign(role: str, roles: tuple[str, ...]) -> None:
    if role not in roles:
        raise KeyTrouble(f"'{role}' is none of {', '.join(roles)}: the root key is pinned for good, and no other role signs")


def editions(laws: dict[int, Law], signing: Collection[str]) -> list[dict[str, Any]]:
    """The laws in force, those alike together: edition, law, partitions, and per role the key ids (those of `signing` marked)."""
    groups: dict[tuple[int, int, tuple[tuple[str, tuple[str, ...]], ...]], list[int]] = {}
    for partition, law in sorted(laws.items()):
        roles = tuple((role, tuple(sorted(ids))) for role, ids in sorted(law.keys.items()))
        groups.setdefault((law.edition, law.number, roles), []).append(partition)
    return [
        {
            "edition": edition,
            "law": number,
            "partitions": partitions,
            "keys": {role: [{"id": id_, "signs": id_ in signing} for id_ in ids] for role, ids in roles},
        }
        for (edition, number, roles), partitions in groups.items()
    ]


def _adopt(service: CommandService, bootstrap: str, role: str, change: Callable[[list[str]], list[str]]) -> int:
    """Adopt the next edition wherever `change` of the role's keys differs from what is in force; returns in how many.

    A role that is left without a key is listed no more.
    """
    service.catch_up()
    wanted = {partition: law for partition, law in service.laws.items() if _differs(law, role, change)}
    if not wanted:
        return 0
    entries = []
    for partition, law in wanted.items():
        listed = _publics(law)
        listed[role] = change(listed.get(role, []))
        if not listed[role]:
            del listed[role]
        adopted = LawAdopted(edition=law.edition + 1, law=law.number, keys=listed)
        entries.append(law_entry(service.keys, partition, service.topic, adopted))
    with Appender(bootstrap, log_topics(service.topic), "chimera-installer") as appender:
        positions = appender.append_many(entries)
    service.reach({position.partition: position.offset + 1 for position in positions})
    left = [partition for partition in wanted if _differs(service.laws[partition], role, change)]
    if left:
        raise KeyTrouble(f"partitions {left} adopted another law meanwhile: run the same command again")
    return len(wanted)


def _differs(law: Law, role: str, change: Callable[[list[str]], list[str]]) -> bool:
    listed = _publics(law).get(role, [])
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
