"""What a snapshot of a partition is, and the way from a fold to one and back.

The rule not to break: a snapshot is the state at exactly one offset: all records below it are in, none from it on. So whoever goes
on from it reads from there, skips nothing and counts nothing twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import NamedTuple, Protocol

import orjson

import chimera.events
from chimera.errors import ChimeraError
from chimera.events.law import LAW
from chimera.events.partition import TENANT_KEY_PREFIX, PartitionFold
from chimera.events.state import Agent, Law
from chimera.events.state_codec import FORMAT, state_from_json, tenant_from_json
from chimera.events.tenant import Tenant


class SnapshotUnusable(ChimeraError):
    """A snapshot that cannot be gone on from; the fold starts at offset 0 instead."""


class Maker(NamedTuple):
    """Whose snapshots these are: only the same log, folded by the same law, format and code, gives the same state."""

    root: str
    """Key id of the pinned root key: another installation's log has another."""
    law: int
    format: int
    code: str
    """Digest of the code that folds, so that a repaired fold never goes on from what the broken one made."""


class AgentState(NamedTuple):
    """One agent, or tenant, at the cut: `state` is `state_to_json` of it."""

    key: str
    state: bytes


@dataclass(frozen=True)
class PartitionSnapshot:
    """A whole partition at one offset."""

    partition: int
    next_offset: int
    """The first record that is not in."""
    last_append_ts: int
    """Append time (ms) of the record before `next_offset`, 0 when there is none: by it the log is known again, and the time."""
    unreadable: int
    law: bytes
    """The law in force, with its keys: `law_to_json`."""
    agents: tuple[AgentState, ...]


@dataclass(frozen=True)
class Cut:
    """What changed in a partition since the snapshot at `since`: with that snapshot it makes the one at `next_offset`.

    `since` None: `agents` are all there are. `count` is how many agents the partition then has.
    """

    partition: int
    since: int | None
    next_offset: int
    last_append_ts: int
    unreadable: int
    law: bytes
    agents: tuple[AgentState, ...]
    count: int


class Saved(StrEnum):
    """What became of a cut."""

    KEPT = "kept"
    BEHIND = "behind"
    """The store already holds a later one (another process of the role set wrote it): nothing was changed."""
    GAP = "gap"
    """The store holds none, or one from before `since`: nothing was changed, a whole one is needed."""


class SnapshotStore(Protocol):
    """Where snapshots lie. Both raise `SnapshotUnavailable` when it cannot be reached; they may block, so they run in a thread."""

    def load(self, partition: int) -> PartitionSnapshot | None:
        """The partition's snapshot by this store's maker, or None. Raises `SnapshotUnusable` for one that is damaged."""

    def save(self, cut: Cut) -> Saved:
        """Keep a cut, whole or not at all."""


class SnapshotUnavailable(ChimeraError):
    """The store of snapshots cannot be reached, or is not there yet."""


def maker(root: str) -> Maker:
    """The maker that this process is, on the log of the root key with this id."""
    return Maker(root, LAW, FORMAT, _code())


def of_projector(everyones: Maker) -> Maker:
    """Whose snapshots the projector's own are: the same states, but never beyond the checkpoints of its rows."""
    return everyones._replace(code=f"{everyones.code}/projector")


def of_build(projectors: Maker, build: int) -> Maker:
    """Whose snapshots those of a build of the read models are, while it is not the live one."""
    return projectors._replace(code=f"{projectors.code}/build_{build}")


@cache
def _code() -> str:
    """Digest of the sources of `chimera.events`: all that decides what a record does to a state."""
    digest = hashlib.sha256()
    room = Path(chimera.events.__path__[0])
    for path in sorted(room.rglob("*.py")):
        digest.update(f"{path.relative_to(room)}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def law_to_json(law: Law) -> bytes:
    """The law in force as bytes; equal laws give equal bytes."""
    body = {
        "number": law.number,
        "edition": law.edition,
        "keys": {role: sorted(ids) for role, ids in law.keys.items()},
        "public": law.public,
        "ever": {role: sorted(ids) for role, ids in law.ever.items()},
        "root": law.root,
    }
    return orjson.dumps(body, option=orjson.OPT_SORT_KEYS)


def law_from_json(data: bytes) -> Law:
    """The law that `law_to_json` wrote."""
    body = orjson.loads(data)
    keys: Mapping[str, list[str]] = body["keys"]
    return Law(
        number=body["number"],
        edition=body["edition"],
        keys={role: frozenset(ids) for role, ids in keys.items()},
        public=body["public"],
        ever={role: frozenset(ids) for role, ids in body["ever"].items()},
        root=body["root"],
    )


def restore(fold: PartitionFold, snapshot: PartitionSnapshot) -> None:
    """Put an empty fold where the snapshot stands.

    Raises:
        SnapshotUnusable: it is not of this partition and root key, or does not read; the fold is as it was.
    """
    if snapshot.partition != fold.partition:
        raise SnapshotUnusable(f"a snapshot of partition {snapshot.partition} was given for {fold.partition}")
    try:
        law = law_from_json(snapshot.law)
        rows = {row.key: row.state for row in snapshot.agents}
        agents = {key: state_from_json(state) for key, state in rows.items() if not key.startswith(TENANT_KEY_PREFIX)}
        tenants = {key: tenant_from_json(state) for key, state in rows.items() if key.startswith(TENANT_KEY_PREFIX)}
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # pydantic's and orjson's errors are ValueErrors
        raise SnapshotUnusable(f"the snapshot of partition {fold.partition} does not read: {type(error).__name__}") from error
    if law.root != fold.law.root:
        raise SnapshotUnusable(f"the snapshot of partition {fold.partition} belongs to another root key ({law.root})")
    held: dict[str, Agent | Tenant] = {**agents, **tenants}
    wrong = next((key for key, state in held.items() if state.key != key), None)
    if wrong is not None:
        raise SnapshotUnusable(f"the snapshot of partition {fold.partition} holds another agent under {wrong}")
    fold.agents, fold.tenants, fold.law = agents, tenants, law
    fold.next_offset, fold.unreadable = snapshot.next_offset, snapshot.unreadable
