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

MODULES = (fleet, agent, story, campaigns, schedule, parked, builds, policies, auditing, analytics, statement, records)


def routes(place: Place) -> list[Route]:
    """All their addresses."""
    board = switches.Board()
    every = [each for module in MODULES for each in module.routes(place)]
    return [*every, *operations.routes(place, board), *switches.routes(place, board)]
