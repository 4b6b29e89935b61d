"""Secret references: `env:NAME` or `file:PATH`, resolved only when a connection is made.

The one rule: a resolved secret goes into a child's environment or a header and nowhere else; errors name the reference.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from chimera.observe.logs import SECRETS


def resolve_secret(reference: str, environment: Mapping[str, str] = os.environ) -> str:
    """The secret behind a reference, hidden in every log line from now on.

    Raises KeyError or OSError naming the reference, never the value.
    """
    secret = _resolved(reference, environment)
    SECRETS.learn(secret)
    return secret


def _resolved(reference: str, environment: Mapping[str, str]) -> str:
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
    raise ValueError(f"secret {reference!r}: begin it with env: or file:")
