"""The installation's keys and name: made once, kept in private files, and the law adopted under them in every partition.

The rule not to break: a set-up replaces no key that exists, and makes none anew that is missing where the installation names it;
both would cut the log off from those who can prove it. Only a rotation replaces one (`chimera.commands.rotation`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from chimera.errors import ChimeraError
from chimera.eventlog.append import Appender
from chimera.eventlog.bulk import Entry
from chimera.eventlog.partitioner import law_key
from chimera.eventlog.read import end_offsets, read_until
from chimera.eventlog.topics import TopicSet, load_topics
from chimera.events.envelope import NewRecord, SigningKey, decode, encode, record_id, verify
from chimera.events.hashes import digest
from chimera.events.raw import RawRecord
from chimera.events.records import LawAdopted
from chimera.events.state import Law
from chimera.settings import Settings
from chimera.stack.addresses import load_kafka

log = logging.getLogger(__name__)

LOG = "chimera.log"
PARTITIONS = 24
LAW = 1
INSTALLER = "installer"
LAW_TENANT = "installation"
MEDIA_KEY = "media.pem"
"""Signs content credentials (`chimera.media.credentials`)."""
HEAD = 64
"""Records at the head of a partition that are searched for its law; a law adopted twice is harmless (void), so few are enough."""


class KeyTrouble(ChimeraError):
    """A key file or the installation file is missing, readable by others, or not what it should be."""


class Installation(BaseModel):
    """`installation.json`: the name that agent ids are derived from, and the root key that every reader pins."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    installation: str
    root: str
    """Key id of the root key."""
    root_public: str
    """Its public key (base64)."""


class Keys(NamedTuple):
    """What the command service holds: the pinned installation and its signing keys."""

    installation: Installation
    root: SigningKey
    command: SigningKey


SIGNING_ROLES = ("judge", "executor", "courier")
"""Roles whose records the law can ask to be signed beside the command service's (law, rule 5: hardened installs)."""


def key_path(home: Path, role: str) -> Path:
    """Where the private key of a role lies."""
    return home / "keys" / f"{role}.key"


class KeyFile:
    """The file of a role's key, watched: it may come, or be replaced, while a process runs (`chimera keys harden | rotate`)."""

    def __init__(self, home: Path, role: str = "command") -> None:
        self._path = key_path(home, role)
        self._seen = _stamp(self._path)
        self._trouble = ""

    def changed(self) -> SigningKey | None:
        """The key in the file where that was touched since the last look, else None.

        A file that cannot be read leaves the key in hand in use, with a word in the log: pausing must not stop over it.
        """
        stamp = _stamp(self._path)
        if stamp == self._seen:
            return None
        try:
            found = read_key(self._path)
        except KeyTrouble as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                log.warning("%s; going on with the key that was read before", error)
            return None
        self._seen, self._trouble = stamp, ""
        return found


class RoleKeys:
    """The keys of roles that sign where the law lists one for them: what this home holds of them, kept up to date.

    A role without a file signs nothing, which is right as long as the law lists no key for it.
    """

    def __init__(self, home: Path, roles: Iterable[str]) -> None:
        self._files = {role: KeyFile(home, role) for role in roles if role in SIGNING_ROLES}
        self.held: dict[str, SigningKey] = {role: read_key(path) for role in self._files if (path := key_path(home, role)).exists()}
        """Role -> the key that signs for it. Live: the same dictionary goes on with every `refresh`."""

    def refresh(self) -> None:
        """Take what changed in the files; one that is gone or cannot be read leaves its key in use."""
        for role, file in self._files.items():
            found = file.changed()
            if found is not None:
                self.held[role] = found
                log.info("the %s signs with key %s from now on", role, found.id)

    def missing(self, law: Law) -> list[str]:
        """The roles of this process whose records cannot count: the law lists keys for them, and none that is held here."""
        return [
            role for role in self._files if role in law.keys and (role not in self.held or self.held[role].id not in law.keys[role])
        ]


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_mode


def log_topics(topic: str = LOG) -> TopicSet:
    """The log's topic as topics.yaml has it, under the name `topic` (which may put a prefix before it)."""
    return load_topics().only(LOG).with_prefix(topic.removesuffix(LOG))


def agent_key(installation: str, tenant: str, name: str) -> str:
    """Stream key of the agent of that name: the same name is the same agent, so enrolling again is harmless."""
    return f"agent/{uuid.uuid5(uuid.NAMESPACE_URL, f'chimera:{installation}/{tenant}/{name}')}"


def tenant_key(installation: str, tenant: str) -> str:
    """Stream key of the tenant of that name."""
    return f"tenant/{uuid.uuid5(uuid.NAMESPACE_URL, f'chimera:{installation}/{tenant}')}"


def load_installation(home: Path) -> Installation:
    """The installation that lives in `home`. Raises `KeyTrouble` when there is none or the file is broken."""
    path = home / "installation.json"
    try:
        return Installation.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise KeyTrouble(f"no installation in {home}: set one up with `chimera up`, or set CHIMERA_HOME to where it is") from None
    except ValidationError as error:
        field = ".".join(str(part) for part in error.errors()[0]["loc"]) or "it"
        raise KeyTrouble(f"{path}: {field} cannot be read: restore the file from a backup") from error


def load_keys(home: Path) -> Keys:
    """The keys that exist in `home`. Raises `KeyTrouble` naming the file and the way out."""
    installation = load_installation(home)
    root = read_key(home / "keys" / "root.key")
    if root.id != installation.root:
        raise KeyTrouble(
            f"{home / 'keys' / 'root.key'} is key {root.id}, but {home / 'installation.json'} pins {installation.root}: "
            "restore the key that belongs to this installation"
        )
    return Keys(installation, root, read_key(home / "keys" / "command.key"))


def make_keys(home: Path) -> Keys:
    """The keys of `home`, made where this is its first set-up; safe when several processes do it at once.

    Raises `KeyTrouble`.
    """
    pinned = home / "installation.json"
    directory = home / "keys"
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in ("root.key", "command.key"):
        path = directory / name
        if not path.exists():
            if pinned.exists():
                raise KeyTrouble(f"{path} is gone, but {pinned} names its installation: restore the key from a backup")
            create_private(path, SigningKey.generate().private_bytes())
    if not pinned.exists():
        root = read_key(directory / "root.key")
        made = Installation(installation=f"chimera-{secrets.token_hex(4)}", root=root.id, root_public=root.public)
        create_private(pinned, orjson.dumps(made.model_dump(), option=orjson.OPT_INDENT_2) + b"\n")
    keys = load_keys(home)
    if not (directory / MEDIA_KEY).exists():
        from chimera.media.credentials import make_key  # here: certificates are made once in an installation's life

        make_key(directory / MEDIA_KEY, keys.installation.installation)
    return keys


def ensure_installation(settings: Settings, appender: Appender, bootstrap: str | None = None, topic: str = LOG) -> Keys:
    """Keys, installation and, in each partition of the log that has none, the law signed by root. Repeating it is harmless.

    Raises `KeyTrouble` also when the log belongs to another root key than the one pinned here, and what reading and
    appending raise.
    """
    keys = make_keys(settings.home)
    address = bootstrap or load_kafka(settings)
    have = _partitions_with_law(address, topic, keys.installation)
    missing = [partition for partition in range(PARTITIONS) if partition not in have]
    if missing:
        appender.append_many([law_entry(keys, partition, topic) for partition in missing])
    return keys


def law_entry(keys: Keys, partition: int, topic: str, law: LawAdopted | None = None) -> Entry:
    """A law to be adopted in one partition, signed by root; the first edition when None."""
    key = law_key(partition)
    law = law or LawAdopted(edition=1, law=LAW, keys={"command": [keys.command.public]})
    new = NewRecord(
        key=key,
        data=law,
        tenant=LAW_TENANT,
        actor=INSTALLER,
        time=datetime.now(UTC).isoformat(timespec="milliseconds"),
        id=_law_id(keys, key, law),
    )
    wire = encode(new, keys.root)
    return Entry(topic, wire.key, wire.value, wire.headers, partition)


def _law_id(keys: Keys, key: str, law: LawAdopted) -> str:
    """The same law is the same record, whoever adopts it; two that differ never share an id."""
    listed = f"/{digest(law.keys)}" if law.edition > 1 else ""
    return record_id(keys.installation.installation, f"{LawAdopted.TYPE}/{key}{listed}", law.edition)


def _partitions_with_law(bootstrap: str, topic: str, installation: Installation) -> set[int]:
    found: set[int] = set()
    for raw in _heads(bootstrap, topic):
        record = decode(raw)
        if record.key != law_key(raw.partition) or not isinstance(record.data, LawAdopted):
            continue
        if verify(record, raw, installation.root_public):
            found.add(raw.partition)
        elif raw.offset == 0:
            raise KeyTrouble(
                f"{topic} at {bootstrap} is the log of another installation (its root key is not {installation.root}): "
                "set CHIMERA_HOME to the home that holds its keys, or CHIMERA_KAFKA to this installation's brokers"
            )
    return found


def _heads(bootstrap: str, topic: str) -> Iterator[RawRecord]:
    ends = end_offsets(bootstrap, topic, list(range(PARTITIONS)))
    upto = {partition: min(end, HEAD) for partition, end in ends.items() if end > 0}
    if upto:
        for batch in read_until(bootstrap, topic, list(upto), dict.fromkeys(upto, 0), upto):
            yield from batch


def read_key(path: Path) -> SigningKey:
    """The private key in a file that only its owner may read. Raises `KeyTrouble`."""
    try:
        mode = path.stat().st_mode & 0o777
        raw = path.read_bytes()
    except FileNotFoundError:
        raise KeyTrouble(f"{path} is missing: restore it from a backup") from None
    except PermissionError as error:
        raise KeyTrouble(f"{path} may not be read by this user: run as the user who set the installation up") from error
    if mode & 0o077:
        raise KeyTrouble(f"{path} may be read by others (mode {mode:04o}): run `chmod 600 {path}`")
    if len(raw) != 32:
        raise KeyTrouble(f"{path} holds {len(raw)} bytes instead of a 32-byte key: restore it from a backup")
    return SigningKey.from_bytes(raw)


def create_private(path: Path, content: bytes) -> None:
    """Write a private file whole, or leave the one that somebody else made first: never half a key, never a second one."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
