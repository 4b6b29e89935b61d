"""What Mission Control tells those who guard the installation: log-ins, refusals, tokens (`chimera.security`).

The rule not to break: a name is told only where somebody of that name is known; what was typed into a form is not repeated.
"""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request

from chimera.commands.security import note
from chimera.events.security import EVERY_TENANT, UNKNOWN, Outcome, What, noted


class Watch:
    """Keeps events of one home; a process of it sends them."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def done(self, request: Request, what: What, who: str, *, resource: str = "", tenant: str = EVERY_TENANT) -> None:
        """Somebody known did it."""
        self._note(request, what, "done", who, resource=resource, tenant=tenant)

    def refused(
        self, request: Request, what: What, reason: str, who: str = UNKNOWN, *, action: str = "", resource: str = ""
    ) -> None:
        """Somebody was turned away, for a reason that is a code."""
        self._note(request, what, "refused", who, reason=reason, action=action, resource=resource)

    def _note(self, request: Request, what: What, outcome: Outcome, who: str, **said: str) -> None:
        origin = address_of(request)
        note(self._home, noted(what, door="mission_control", outcome=outcome, who=who, origin=origin, **said))  # type: ignore[arg-type]


def address_of(request: Request) -> str:
    """Where a request comes from; behind a proxy that is listed, what the proxy says."""
    return request.client.host if request.client is not None else ""
