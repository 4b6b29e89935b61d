"""What a command service signs with, as its home holds it now: a key that was changed signs from the next command on.

The rule not to break: a file that cannot be read leaves the key in hand in use, since pausing an agent must not stop over it.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from chimera.commands.keys import SIGNING_ROLES, KeyFile, Keys, RoleKeys, load_keys

log = logging.getLogger(__name__)


class Signing:
    """The command key and what else signs here. Thread-safe. `keys`: these and no others, whatever the home holds."""

    def __init__(self, home: Path, keys: Keys | None = None) -> None:
        self.keys = keys or load_keys(home)
        self.role_keys = RoleKeys(home, SIGNING_ROLES)
        """What this home holds of the keys of other roles; the courier, which lives beside the service, signs with its own."""
        self._file = None if keys is not None else KeyFile(home)
        self._looking = threading.Lock()

    def refresh(self) -> bool:
        """Take the command key from its file where that has changed; True when another key signs from now on.

        The keys of other roles that lie in this home are looked at as well.
        """
        self.role_keys.refresh()
        if self._file is None:
            return False
        with self._looking:
            found = self._file.changed()
            if found is None or found.id == self.keys.command.id:
                return False
            log.info("command key %s is replaced by %s", self.keys.command.id, found.id)
            self.keys = self.keys._replace(command=found)
            return True
