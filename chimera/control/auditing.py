"""The audit page: how far the notary has signed each partition, by which keys, and how to take a proof or an export home.

The rule not to break: it repeats what checkpoints say and checks nothing; who wants to know checks for themselves, without us.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chimera.commands.security import Told, newest
from chimera.control.accounts import Login
from chimera.control.place import Place, Row, route
from chimera.errors import ChimeraError
from chimera.observe.doctor import lives, statuses
from chimera.settings import Settings
from chimera.stack.addresses import load_kafka

LOOKED_AT = 2_000
"""So many of the newest security events are looked at for exports and for the notary's keys."""
MOST = 8
_SHOWN = {
    "export_made": "export made",
    "notary_key_made": "notary's key made",
    "notary_key_rotated": "notary's key rotated",
    "notary_key_retired": "notary's key retired",
}


class Signed(NamedTuple):
    """A signed checkpoint (C2SP tlog-checkpoint), as it lies there. `signers`: names on its signatures; a witness is one more."""

    topic: str
    partition: int
    size: int
    root: str
    signers: tuple[str, ...]
    at: float


def routes(place: Place) -> list[Route]:
    """The page's address."""
    return [route(place, "/audit", shown)]


async def shown(request: Request, login: Login, place: Place) -> Response:
    """Trees of the whole installation."""
    trees = checkpoints(place.home)
    noted, trouble = await asyncio.to_thread(_noted, place.home)
    notary: Row = next((s for s in statuses(place.home) if s["role_set"] == "notary" and lives(int(s["pid"]))), {})
    return place.page(
        "audit.html",
        login,
        trees=trees,
        notary=notary,
        origins=sorted({name for tree in trees for name in tree.signers}),
        witnessed=sum(len(tree.signers) > 1 for tree in trees),
        signed_at=max((tree.at for tree in trees), default=0.0),
        noted=noted,
        trouble=trouble,
        words=_SHOWN,
    )


def _noted(home: Path) -> tuple[list[Told], str]:
    """The newest exports and acts on the notary's keys, the newest first; and why they cannot be told."""
    try:
        found = newest(load_kafka(Settings(home=home)), LOOKED_AT)
    except ChimeraError as error:
        return [], str(error)
    mine = [told for told in found if told.said.what in _SHOWN]
    return sorted(mine, key=lambda told: told.appended, reverse=True)[:MOST], ""


def checkpoints(home: Path) -> list[Signed]:
    """Every checkpoint of the home, by topic and partition."""
    found = [_read(path) for path in (home / "audit").glob("*/*/checkpoint")]
    return sorted((one for one in found if one is not None), key=lambda one: (one.topic, one.partition))


def _read(path: Path) -> Signed | None:
    """None for what is no checkpoint (yet)."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        at = path.stat().st_mtime
    except (OSError, UnicodeDecodeError):
        return None
    if len(lines) < 3 or not lines[1].isdecimal() or not path.parent.name.isdecimal():
        return None
    signers = tuple(line.split(" ")[1] for line in lines if line.startswith("— ") and line.count(" ") >= 2)
    return Signed(path.parent.parent.name, int(path.parent.name), int(lines[1]), lines[2], signers, at)
