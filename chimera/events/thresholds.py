"""Which confidence is enough: the policy's default, and what it says more strictly of a platform or a risk tag.

The rule not to break: of all that apply the strictest counts, so no further line of a policy ever lets more pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from chimera.events.records.agents import Threshold


class Says(Protocol):
    """What a policy says of confidence: as its file has it, or as the fold does (PolicyInline)."""

    @property
    def approve_above(self) -> float: ...
    @property
    def people_from(self) -> float: ...
    @property
    def platform_thresholds(self) -> Mapping[str, Threshold]: ...
    @property
    def tag_thresholds(self) -> Mapping[str, Threshold]: ...


class Borders(NamedTuple):
    """What a confidence is held against."""

    approve_above: float
    """Above it nobody is asked."""
    people_from: float
    """From it on people are asked; below it the attempt failed."""


def borders(p: Says, platform: str, tags: Iterable[str]) -> Borders:
    """The strictest of the default, the platform's thresholds and those of each tag. A draft has no platform: `""`."""
    if not p.platform_thresholds and not p.tag_thresholds:
        return Borders(p.approve_above, p.people_from)
    found = [p.platform_thresholds.get(platform), *(p.tag_thresholds.get(tag) for tag in tags)]
    apply = [each for each in found if each is not None]
    return Borders(
        max([p.approve_above, *(each.approve_above for each in apply if each.approve_above is not None)]),
        max([p.people_from, *(each.people_from for each in apply if each.people_from is not None)]),
    )
