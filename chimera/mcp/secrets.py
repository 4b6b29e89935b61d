"""Secret references: `env:NAME`, `file:PATH` or `command:PROGRAM ARGUMENTS`, resolved only when a connection is made.

The one rule: a resolved secret goes into a child's environment or a header and nowhere else; errors name the reference. References
stand in the log, where whoever may command puts them: a program must lie in the home's own folder, and no shell reads the line.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

from chimera.observe.logs import SECRETS

PROGRAMS = Path("secret-commands")
"""Below the home: the programs that references may name."""
KINDS = ("env", "file", "command")
PROGRAM_S = 10.0
"""So long a program may take to tell a secret."""


def resolve_secret(reference: str, environment: Mapping[str, str] = os.environ, programs: Path | None = None) -> str:
    """The secret behind a reference, hidden in every log line from now on. `programs`: the folder of programs, None: none may run.

    Raises KeyError, OSError or ValueError naming the reference, never the value.
    """
    secret = _resolved(reference, environment, programs)
    SECRETS.learn(secret)
    return secret


def _resolved(reference: str, environment: Mapping[str, str], programs: Path | None) -> str:
    kind, _, where = reference.partition(":")
    if kind == "env":
        if where not in environment:
            raise KeyError(f"secret {reference!r}: the environment variable is not set")
        return environment[where]
    if kind == "file":
        try:
            return Path(where).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise OSError(f"secret {reference!r}: {error.strerror}") from None
    if kind == "command":
        return _told(reference, where, programs)
    raise ValueError(f"secret {reference!r}: begin it with env:, file: or command:")


def _told(reference: str, line: str, programs: Path | None) -> str:
    """What the program says on its standard output."""
    words = shlex.split(line)
    if programs is None or not words or Path(words[0]).name != words[0]:
        raise ValueError(f"secret {reference!r}: name a program in {programs or 'the home'}, without a path")
    try:
        done = subprocess.run(
            [programs / words[0], *words[1:]], stdin=subprocess.DEVNULL, capture_output=True, timeout=PROGRAM_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise OSError(f"secret {reference!r}: no answer within {PROGRAM_S:g} s") from None
    except OSError as error:
        raise OSError(f"secret {reference!r}: {programs / words[0]}: {error.strerror}") from None
    secret = done.stdout.decode("utf-8", "replace").strip()
    if done.returncode or not secret:  # what it says on standard error may hold the secret
        raise OSError(f"secret {reference!r}: the program ended with {done.returncode} and {len(done.stdout)} bytes")
    return secret
