"""Security events of a command line: what a person administered from this shell.

The rule not to break: it comes after the act, and never changes what the act came to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chimera.settings import Settings

if TYPE_CHECKING:
    from chimera.events.security import What


def note(settings: Settings, what: What, **told: Any) -> None:
    """Note that something was done here by `settings.actor` (or `who`); the rest as `chimera.events.security.noted` takes it."""
    from chimera.commands import security
    from chimera.events.security import noted

    security.note_now(settings, noted(what, door="shell", **({"who": settings.actor} | told)))
