"""Keys of personal subjects, one file each, outside the log: destroying the file is the erasure.

The rule not to break: a key once destroyed is never made again for the same subject; a tombstone keeps its place.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from pathlib import Path
from typing import Literal

from chimera.errors import ChimeraError

KEYS = Path("keys") / "subjects"
"""Where they lie, below the home."""
KEY_BYTES = 32
_GONE = b"gone"


class SubjectForgotten(ChimeraError):
    """The subject's key was destroyed: nothing may be sealed for it again."""


class SubjectKeyFiles:
    """`chimera.events.sealed.SubjectKeys` over a directory (mode 0700, files 0600). File names are hashes of the subjects."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._looked_at: dict[str, int] = {}
        self._gone: set[str] = set()

    def key_for(self, subject: str) -> bytes:
        """32-byte key, made on first use; safe when several processes do it at once. Raises `SubjectForgotten`."""
        path = self._path(subject)
        if not path.exists():
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh = path.with_suffix(f".{secrets.token_hex(4)}.new")
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):  # whoever links first wins; the other reads theirs
                os.link(fresh, path)
            fresh.unlink()
            self._keep_names()
        key = self.known_key(subject)
        if key is None:
            raise SubjectForgotten(f"subject {self._path(subject).stem[:12]} was forgotten: nothing is sealed for it any more")
        return key

    def known_key(self, subject: str) -> bytes | None:
        """The key, or None when there is none (never made, or destroyed)."""
        try:
            content = self._path(subject).read_bytes()
        except FileNotFoundError:
            return None
        return content if len(content) == KEY_BYTES else None

    def standing(self, subject: str) -> Literal["there", "none", "gone"]:
        """Is there a key, was there never one, or was it destroyed?"""
        path = self._path(subject)
        return "none" if not path.exists() else "gone" if self.known_key(subject) is None else "there"

    def forget(self, subject: str) -> None:
        """Destroy the key, so that no power cut brings it back. Repeating it is harmless; one that never was is never made."""
        path = self._path(subject)
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = path.with_suffix(f".{secrets.token_hex(4)}.new")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(_GONE)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        self._keep_names()

    def _keep_names(self) -> None:
        """What was made or replaced in the directory is there after a power cut too."""
        directory = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def gone(self) -> set[str]:
        """The subjects whose keys were destroyed, by the names of their files. What was looked at is not looked at again."""
        try:
            entries = {entry.name: entry.inode() for entry in os.scandir(self._directory) if entry.name.endswith(".key")}
        except FileNotFoundError:
            return set()
        for name in [name for name, inode in entries.items() if self._looked_at.get(name) != inode]:
            if (self._directory / name).stat().st_size == len(_GONE):
                self._gone.add(name.removesuffix(".key"))
        self._looked_at = entries
        return set(self._gone)

    def _path(self, subject: str) -> Path:
        return self._directory / f"{hashlib.sha256(subject.encode()).hexdigest()}.key"
