"""The audit page: how far the notary has signed each partition, by which keys, and how to take a proof or an export home.

The rule not to break: it repeats what checkpoints say and checks nothing; who wants to know checks for themselves, without us.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chimera.control.accounts import Login
from chimera.control.place import Place, Row, route
from chimera.observe.doctor import lives, statuses


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
    notary: Row = next((s for s in statuses(place.home) if s["role_set"] == "notary" and lives(int(s["pid"]))), {})
    return place.page(
        "audit.html",
        login,
        trees=trees,
        notary=notary,
        origins=sorted({name for tree in trees for name in tree.signers}),
        witnessed=sum(len(tree.signers) > 1 for tree in trees),
        newest=max((tree.at for tree in trees), default=0.0),
    )


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
