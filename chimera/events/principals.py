"""Who is a machine: the names under which our own processes and other software write to the log.

The rule not to break: a machine never approves, edits or votes as people do, whatever a policy lists (law: not_entitled).
"""

from __future__ import annotations

MACHINE_KINDS = ("service/", "agent/", "tenant/")
"""Beginnings of the names of accounts of software, and of streams."""
ROLES = frozenset(("planner", "worker", "judge", "executor", "courier", "command", "installer", "brain", "gate"))
"""Names of our own processes, alone or before `@<process>`."""


def is_machine(actor: str) -> bool:
    """Whether a record's actor is no person: `judge@brain-1`, `courier`, `service/ci` ..."""
    return actor.startswith(MACHINE_KINDS) or actor.split("@", 1)[0] in ROLES
