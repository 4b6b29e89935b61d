"""A role process that is here to be broken: `chimera run`, armed by a file of its home, in seconds instead of minutes.

The rule not to break: only how long things are waited for differs from what `chimera run` does.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from chimera.cli.main import main
from chimera.failpoints import VARIABLE
from chimera.processors import worker
from chimera.snapshots import keeper
from chimera.stack.supervisor import Child

START_LEASE_MS = 8_000
SNAPSHOT_EVERY_S = 1.0


def breakable(child: Child) -> Child:
    """The row of a role process, to be run by this file."""
    at = list(child.argv).index("chimera.cli.main")
    return replace(child, argv=[sys.executable, __file__, *child.argv[at + 1 :]])


def orders(home: Path, role: str) -> Path:
    """The file that holds what the next process of this role is armed with; none: with nothing."""
    return home / "files" / f"failpoints.{role}"


def run() -> None:
    """What the row runs: `breakable.py run ROLE ...`."""
    told = orders(Path(os.environ["CHIMERA_HOME"]), sys.argv[2])
    if told.exists():
        os.environ[VARIABLE] = told.read_text()
    worker.START_LEASE_MS = START_LEASE_MS
    keeper.EVERY_S = SNAPSHOT_EVERY_S
    main()


if __name__ == "__main__":
    run()
