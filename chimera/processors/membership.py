"""Who a process of a role set is to the others: which roles it has, and which seat it holds in the consumer group.

The rule not to break: a role belongs to one set and a seat to one process; a second holder is refused before it joins, because
two processes that answer to one name throw each other out for ever.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from chimera.errors import ChimeraError

ROLE_SETS: Mapping[str, Sequence[str]] = {"brain": ("planner", "worker", "judge"), "gate": ("executor",)}
"""Role sets are named once per installation; a role is in exactly one (design section 6)."""

WRITES_SNAPSHOTS = "brain"
"""The one role set that writes snapshots; all read them."""

SESSION_TIMEOUT_S = 10.0
"""A member that is silent for so long is dead to the group; others take over."""
REBALANCE_TIMEOUT_S = 60.0
"""So long the group waits for a member to come to a rebalance. Every deadline of a process that could keep it away lies below."""

_SEAT = re.compile(r"[a-zA-Z0-9._-]{1,64}")


def roles_of(role_set: str, table: Mapping[str, Sequence[str]] = ROLE_SETS) -> Sequence[str]:
    """The roles of a set. Raises `ChimeraError` for a set that the table does not name, and for a table with a role in two sets."""
    holder: dict[str, str] = {}
    for name, roles in table.items():
        for role in roles:
            if role in holder:
                raise ChimeraError(
                    f"role '{role}' is in two sets, '{holder[role]}' and '{name}': two would owe its jobs; take it out of one"
                )
            holder[role] = name
    if role_set not in table:
        raise ChimeraError(f"no role set '{role_set}': there are {', '.join(table)}")
    return table[role_set]


class Seat:
    """A named seat of this home, held until the process ends (the kernel's lock) or `leave`.

    `member` is what the consumer group knows it by: stable over restarts, so that a short one moves no partition.
    """

    def __init__(self, home: Path, installation: str, role_set: str, name: str) -> None:
        """Raises `ChimeraError` when the name is not usable or another process holds the seat."""
        if _SEAT.fullmatch(name) is None:
            raise ChimeraError(f"instance '{name}' is no name for a member: use letters, digits, '.', '_' and '-', at most 64")
        self.member = f"{installation}-{name}"
        path = home / "run" / f"{role_set}.{name}.seat"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip()
            os.close(self._fd)
            raise ChimeraError(
                f"{role_set} '{name}' already runs in {home} (pid {pid or 'unknown'}): stop it, or choose another --instance"
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, str(os.getpid()).encode(), 0)

    def leave(self) -> None:
        """Give the seat free."""
        os.close(self._fd)
