"""What the media store may let go: what no record names, and what a rule lets go once nothing needs it any more. Pure.

The rule not to break: what a record names goes by a rule or not at all, and never while a card, a call or a standing post needs it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from chimera.media.store import Asset

ORPHAN_DAYS = 7
"""So old must be what nobody names: a record that names it may be on its way."""


class Standing(NamedTuple):
    """What the read models know of one hash, over all agents that have it."""

    roles: frozenset[str]
    newest: datetime
    """When a record named it last (UTC)."""
    needed: bool
    """An effect that is open, or a post that stands, shows it or is made from it."""


class LetGo(NamedTuple):
    """A file that may go, and why."""

    asset: Asset
    why: str
    put: datetime
    """When it was put last (UTC): put again meanwhile, it stays."""


def let_go(
    files: Iterable[tuple[Asset, datetime]],
    known: Mapping[str, Standing],
    keep_days: Mapping[str, int],
    now: datetime,
    orphan_days: int = ORPHAN_DAYS,
) -> list[LetGo]:
    """The files that may go at `now`. `keep_days`: role -> days; a role without a rule is kept for ever."""
    gone = []
    for asset, put in files:
        standing = known.get(asset.sha256)
        if standing is None:
            if now - put > timedelta(days=orphan_days):
                gone.append(LetGo(asset, f"no record names it, and it is here for {(now - put).days} days", put))
            continue
        if standing.needed or not standing.roles or not standing.roles <= keep_days.keys():
            continue
        longest = max(keep_days[role] for role in standing.roles)
        if now - max(standing.newest, put) > timedelta(days=longest):
            roles = " and ".join(sorted(standing.roles))
            gone.append(LetGo(asset, f"a {roles} is kept {longest} days, and nothing open or standing needs it", put))
    return gone
