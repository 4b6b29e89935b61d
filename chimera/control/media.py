"""Media beside a card, from an origin of their own: signed addresses, and the listener that answers them.

The rule not to break: a file leaves only under its own hash, for an address that this desk signed for a login that still is one;
nothing that is served here can run, and no cookie is read or set.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from chimera.control.accounts import Accounts, Login
from chimera.media.serving import played
from chimera.media.store import MEDIA_TYPES, Asset, MediaError, MediaStore, named

log = logging.getLogger(__name__)

KEY_FILE = Path("control") / "media-key"
LIVES_S = 600
"""An address is good for at least so long, and at most twice; so long it also stays the same, for browsers to keep the file."""

HEADERS = {
    "Content-Security-Policy": "sandbox; default-src 'none'; media-src 'self'; img-src 'self'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "cross-origin",  # the desk's pages are of another origin; what is signed is not guessed
    "Cache-Control": f"private, max-age={LIVES_S}, immutable",
}


class Links:
    """Signs addresses of media for one login each, and reads them back. `origin`: where the listener is reached."""

    def __init__(self, home: Path, origin: str, now: Callable[[], float] = time.time) -> None:
        self.origin, self._key, self._now = origin, _key(home), now

    def address(self, login: Login, name: str) -> str:
        """Where this login's browser gets the asset of that name (`<sha256>.<extension>`) for the next minutes."""
        until = str((int(self._now()) // LIVES_S + 2) * LIVES_S)
        who = self._who(login.csrf)
        return f"{self.origin}/media/{name}?{urlencode({'until': until, 'who': who, 'signed': self._signed(name, until, who)})}"

    def opens(self, url: str, logins: Iterable[str]) -> str | None:
        """The asset's name, where the address is one of ours, not over, and of one of these logins (their tokens); else None."""
        parts = urlsplit(url)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        name, until, who = parts.path.rpartition("/")[2], asked.get("until", ""), asked.get("who", "")
        if not hmac.compare_digest(self._signed(name, until, who).encode(), asked.get("signed", "").encode()):
            return None
        if int(until) <= self._now() or not any(hmac.compare_digest(self._who(token), who) for token in logins):
            return None
        return name

    def _who(self, token: str) -> str:
        return self._sign(f"login {token}")[:32]

    def _signed(self, name: str, until: str, who: str) -> str:
        return self._sign(f"media {name} {until} {who}")

    def _sign(self, words: str) -> str:
        return hmac.new(self._key, words.encode(), hashlib.sha256).hexdigest()


def in_call(arguments: Any) -> list[str]:
    """Names of the assets whose addresses stand in a call's rendered arguments, in their order, each once."""
    if isinstance(arguments, str):
        name = arguments.rpartition("/")[2]
        return [name] if named(name) is not None else []
    inside = arguments.values() if isinstance(arguments, dict) else arguments if isinstance(arguments, list) else ()
    return list(dict.fromkeys(name for each in inside for name in in_call(each)))


async def kept_as(store: MediaStore, sha256: str) -> str | None:
    """The name under which a file of that hash is kept; None where it is not here."""
    for extension in MEDIA_TYPES:
        asset = Asset(sha256, extension, 0)
        if await store.has(asset):
            return asset.name
    return None


def allowing(policy: str, origin: str) -> str:
    """A page's Content-Security-Policy that lets in pictures and films of that origin besides, and nothing else of it."""
    rules = [rule.strip() for rule in policy.split(";") if rule.strip()]
    shown = [f"{rule} {origin}" if rule.split()[0] == "img-src" else rule for rule in rules if rule.split()[0] != "media-src"]
    return "; ".join([*shown, f"media-src {origin}"])


def application(store: MediaStore, accounts: Accounts, links: Links) -> ASGIApp:
    """The listener: one route, whole files and parts of them."""
    sound: dict[str, tuple[int, datetime]] = {}

    async def media(request: Request) -> Response:
        name = links.opens(str(request.url), accounts.tokens())
        parts = None if name is None else named(name)
        if name is None or parts is None:
            return PlainTextResponse("this address is over or was never given: load the card again\n", 403, HEADERS | _NOT_KEPT)
        try:
            seen = await store.stamp(name)
            asset = None if seen is None else Asset(*parts, seen[0])
            if asset is not None and sound.get(name) != seen:  # read whole once: a part alone proves nothing
                async for _ in store.chunks(asset):
                    continue
        except MediaError as error:
            log.warning("%s", error)
            asset = None
        if asset is None or seen is None:
            return PlainTextResponse("it is not here, or is damaged: see `chimera media verify`\n", 404, HEADERS | _NOT_KEPT)
        sound[name] = seen
        return await played(store, asset, request, HEADERS)

    return Starlette(routes=[Route("/media/{name}", media)])


_NOT_KEPT = {"Cache-Control": "no-store"}


def _key(home: Path) -> bytes:
    """The installation's key for these addresses, made once."""
    path = home / KEY_FILE
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(32))
    except FileExistsError:
        pass
    return path.read_bytes()
