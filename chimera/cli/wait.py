"""`--wait visible`: after a command counted, wait until the read models show it.

The rule not to break: waiting changes nothing about the command; it counted already, and what is said of it stays said.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from chimera.commands import wiring
from chimera.commands.decision import Answer
from chimera.errors import ChimeraError
from chimera.settings import Settings

LONGEST_S = 30.0


def invisible(answers: Iterable[Answer], settings: Settings, longest_s: float | None = None) -> str | None:
    """Wait until the projector has passed every answer's position; None when it has, else what to tell the person."""
    wanted: dict[int, int] = {}
    for answer in answers:
        if answer.position is not None:
            partition, offset = answer.position
            wanted[partition] = max(wanted.get(partition, 0), offset + 1)
    if not wanted:
        return None
    # Here and not above: few commands wait, and these are heavy.
    import psycopg

    from chimera.projections.engine import MODEL_SET
    from chimera.stack.addresses import load

    longest = LONGEST_S if longest_s is None else longest_s
    deadline, pause_s, why = time.monotonic() + longest, 0.01, ""
    while True:
        try:
            with psycopg.connect(load(settings).postgres, connect_timeout=2, autocommit=True) as connection:
                while True:
                    rows = connection.execute(
                        "SELECT partition, next_offset FROM core.checkpoints WHERE model_set = %s AND topic = %s",
                        (MODEL_SET, wiring.LOG_TOPIC),
                    ).fetchall()
                    at = {int(partition): int(offset) for partition, offset in rows}
                    behind = {
                        partition: end - at.get(partition, 0) for partition, end in wanted.items() if at.get(partition, 0) < end
                    }
                    if not behind:
                        return None
                    why = f"the projector is {sum(behind.values())} records behind it (`chimera logs projector` says why)"
                    if time.monotonic() > deadline:
                        break
                    time.sleep(pause_s)
                    pause_s = min(pause_s * 1.5, 0.25)
        except (psycopg.OperationalError, psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
            why = f"PostgreSQL does not tell ({str(error).splitlines()[0]})"
        except ChimeraError as error:
            why = str(error)
        if time.monotonic() > deadline:
            return f"the command counted, but was not visible within {longest:g} s: {why}"
        time.sleep(0.2)
