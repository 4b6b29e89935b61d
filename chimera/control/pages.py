"""Every page beside the review desk, one module each: what the application serves of them."""

from __future__ import annotations

from starlette.routing import Route

from chimera.control import (
    agent,
    analytics,
    auditing,
    builds,
    campaigns,
    fleet,
    operations,
    parked,
    policies,
    records,
    schedule,
    statement,
    story,
    switches,
)
from chimera.control.place import Place

MODULES = (
    fleet, agent, story, campaigns, schedule, operations, switches, parked, builds, policies, auditing, analytics, statement,
    records,
)  # fmt: skip


def routes(place: Place) -> list[Route]:
    """All their addresses."""
    return [each for module in MODULES for each in module.routes(place)]
