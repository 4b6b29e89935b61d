"""Every page beside the review desk, one module each: what the application serves of them."""

from __future__ import annotations

from starlette.routing import Route

from chimera.control import agent, campaigns, fleet, records, schedule, story
from chimera.control.place import Place

MODULES = (fleet, agent, story, campaigns, schedule, records)


def routes(place: Place) -> list[Route]:
    """All their addresses."""
    return [each for module in MODULES for each in module.routes(place)]
