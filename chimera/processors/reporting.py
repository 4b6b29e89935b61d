"""How a process fares, told twice a second in its status file, and what of that its watchdog asks.

The rule not to break: progress bars and quiescence read the file, so whatever they wait for is in it within a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from chimera.commands.keys import RoleKeys, key_path
from chimera.errors import ChimeraError
from chimera.observe.watch import Watch
from chimera.processors.recalling import Recalling
from chimera.processors.swarm import Swarm
from chimera.processors.threads import Asking
from chimera.processors.told import Teller
from chimera.processors.watchdog import Progress
from chimera.snapshots.keeper import Keeper

EVERY_S = 0.5


class Reporting:
    """The status of one process. `fatal`: why one of its producers can append no more, or None."""

    def __init__(
        self,
        swarm: Swarm,
        keeper: Keeper | None,
        watch: Watch,
        keys: RoleKeys,
        home: Path,
        recalling: Recalling,
        threads: Asking,
        fatal: Callable[[], str | None],
    ) -> None:
        self._swarm, self._keeper, self._watch, self._keys, self._home = swarm, keeper, watch, keys, home
        self._recalling, self._threads, self._fatal = recalling, threads, fatal
        self._teller = Teller(swarm, keeper)
        self.beat = 0
        """Counts the turns of the loop that this runs on."""

    def progress(self) -> Progress:
        """For the watchdog, which asks from its own thread."""
        positions = {p: fold.next_offset for p, fold in list(self._swarm.partitions.items())}
        return Progress(positions, frozenset(self._swarm.live), self._swarm.dark, self.beat)

    async def run(self) -> None:
        """Tell how it goes, twice a second. Raises `ChimeraError` where a producer can append no more."""
        while True:
            self._keys.refresh()
            self.write()
            self.beat += 1
            if fatal := self._fatal():
                raise ChimeraError(f"the producer can append no more: {fatal}")
            await asyncio.sleep(EVERY_S)

    def write(self) -> None:
        """The status file, as things stand now."""
        c = self._swarm.counters
        fatal = self._fatal()
        troubles = (*self._unsigned(), *((fatal,) if fatal is not None else ()))
        status = self._watch.tell(self._teller.look(troubles)) | {
            "partitions": sorted(self._swarm.live),
            "signs": {role: key.id for role, key in self._keys.held.items()},
            "offsets": {str(p): fold.next_offset for p, fold in list(self._swarm.partitions.items())},
            "idle": self._swarm.idle(),
            "next_wake_ms": self._swarm.next_wake_ms(),
            "running": self._swarm.running(),
            "folded": c.folded,
            "applied": c.applied,
            "rejected": c.rejected,
            "void": c.void,
            "jobs": c.jobs,
            "job_errors": c.job_errors,
            "snapshots": None if self._keeper is None else self._keeper.status(),
            "memory": self._recalling.trouble,
            "threads": self._threads.trouble,
        }
        self._watch.write_status(status)

    def _unsigned(self) -> list[str]:
        """The roles that work in vain here: the law asks for a signature that this home has no key for."""
        laws = [self._swarm.fold_for(p).law for p in self._swarm.live]
        roles = sorted({role for law in laws for role in self._keys.missing(law)})
        return [
            f"the law asks for the {role}'s signature, and {key_path(self._home, role)} holds no key that it lists: "
            f"bring the key here, or run `chimera keys soften {role}`"
            for role in roles
        ]
