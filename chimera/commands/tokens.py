"""Who may come in over TCP: tokens in a file, each with the name that it speaks for.

The rule not to break: only a token's digest is kept in memory, and looking one up takes as long for a wrong one as for a right one.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from chimera.commands.keys import KeyTrouble

TOKENS = Path("keys") / "tokens"
SHORTEST_TOKEN = 32


class Tokens:
    """`home/keys/tokens` (mode 0600): one `name token` per line. Read again when it changes, so a line taken out ends its use."""

    def __init__(self, home: Path) -> None:
        self._path = home / TOKENS
        self._stamp: tuple[int, int, int] | None = None
        self._digests: list[tuple[str, bytes]] = []
        self.load()

    def load(self) -> None:
        """Read the file where it changed. Raises `KeyTrouble` for a file that is missing, open to others, or not in this form."""
        try:
            found = self._path.stat()
            stamp = (found.st_mtime_ns, found.st_ino, found.st_mode)
            if stamp == self._stamp:
                return
            if found.st_mode & 0o077:
                raise KeyTrouble(f"{self._path} may be read by others: run `chmod 600 {self._path}`")
            lines = self._path.read_text().splitlines()
        except OSError as error:
            raise KeyTrouble(
                f"{self._path} cannot be read ({error.strerror}): write `name token` lines, mode 0600, or unset command_listen"
            ) from error
        digests = []
        for number, line in enumerate(lines, start=1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            name, _, token = line.strip().partition(" ")
            if len(token.strip()) < SHORTEST_TOKEN:
                raise KeyTrouble(f"{self._path}, line {number}: not `name token` with at least {SHORTEST_TOKEN} signs of token")
            digests.append((name, hashlib.sha256(token.strip().encode()).digest()))
        self._stamp, self._digests = stamp, digests

    def name_of(self, token: str) -> str | None:
        """Whose token that is. Takes as long for a wrong one as for a right one."""
        self.load()
        shown, found = hashlib.sha256(token.encode()).digest(), None
        for name, known in self._digests:
            if hmac.compare_digest(shown, known):
                found = name
        return found
