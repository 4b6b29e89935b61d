"""Files of the media store as a platform's own ids: they go up first, in the time of the very call that shows them.

The one rule: people approved an address that names its bytes by their hash. Exactly those bytes go up, and only the id that the
platform gave for them takes the address's place; nothing else of the approved arguments changes.
"""

from __future__ import annotations

import asyncio
import base64
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from chimera.mcp.places import asset_at
from chimera.mcp.profiles import files_in, with_files
from chimera.mcp.records import Outcome
from chimera.mcp.results import at
from chimera.mcp.spec import UploadRule
from chimera.media.store import Asset, MediaError, MediaStore

Ask = Callable[[str, Mapping[str, Any]], Awaitable[Outcome]]
"""(capability, inputs) -> what came of it, for the account that shows the file."""

_KEPT = 1024
"""Files whose ids are remembered, so that a call that has to wait does not send them again."""
_ASK_EVERY_S = 1.0
_SLACK_S = 600.0
"""An id that dies sooner is not used any more."""


class NotUp(Exception):
    """A file is not there (yet); the text says why. Nothing is shown to anybody, so trying again is right."""


@dataclass(frozen=True)
class _There:
    id: str
    until: float
    """Monotonic seconds."""
    finished: bool


class Uploads:
    """What went up, by whose account. `clock` is monotonic seconds."""

    def __init__(self, store: Callable[[], MediaStore], clock: Callable[[], float]) -> None:
        self._store, self._clock = store, clock
        self._there: OrderedDict[tuple[str, ...], _There] = OrderedDict()

    async def in_place(
        self, rule: UploadRule, arguments: Mapping[str, Any], base: str, whose: tuple[str, ...], ask: Ask, within_s: float
    ) -> dict[str, Any]:
        """Arguments with the platform's ids in place of addresses below `base`. Raises NotUp, after `within_s` at the latest."""
        ids = []
        try:
            async with asyncio.timeout(within_s):
                for address in files_in(rule, arguments):
                    asset = asset_at(base, address)
                    if asset is None:
                        raise NotUp(f"argument {rule.at!r} names no file of the media store")
                    ids.append(await self._id_of(rule, asset, (*whose, asset.name), ask))
        except TimeoutError:
            raise NotUp(f"not all files were up within {within_s:.0f} s") from None
        except MediaError as error:
            raise NotUp(str(error)) from error
        return with_files(rule, arguments, ids)

    async def _id_of(self, rule: UploadRule, asset: Asset, name: tuple[str, ...], ask: Ask) -> str:
        there = self._there.get(name)
        if there is None or there.until <= self._clock() + _SLACK_S:
            there = self._kept(name, await self._sent(rule, asset, ask))
        while not there.finished:
            if rule.status is None:
                raise NotUp("the platform is still busy with it, and the profile does not say how to ask")
            told = _ok(await ask(rule.status, {"id": there.id}), rule.status)
            there = self._kept(name, _There(there.id, there.until, self._finished(rule, told, name)))
            if not there.finished:
                await asyncio.sleep(_ASK_EVERY_S)
        return there.id

    async def _sent(self, rule: UploadRule, asset: Asset, ask: Ask) -> _There:
        """Begin, every piece in order, finish."""
        body = await self._store().get(asset)
        opening = {"media_type": asset.media_type, "total_bytes": len(body), "category": rule.categories[asset.kind]}
        began = _ok(await ask(rule.begin, opening), rule.begin)
        handle = str(at(began, rule.id))
        for number, start in enumerate(range(0, len(body), rule.piece_bytes)):
            piece = base64.b64encode(body[start : start + rule.piece_bytes]).decode()
            _ok(await ask(rule.append, {"id": handle, "segment_index": number, "media": piece}), rule.append)
        told = _ok(await ask(rule.finish, {"id": handle}), rule.finish)
        lives_s = at(told, rule.lives_s)
        until = self._clock() + (float(lives_s) if isinstance(lives_s, int | float) else 0.0)
        return _There(handle, until, self._finished(rule, told, ()))

    def _finished(self, rule: UploadRule, told: Mapping[str, Any], name: tuple[str, ...]) -> bool:
        """Whether the platform is done with the file. Raises NotUp where it gave it up, which is forgotten: it goes up anew."""
        state = at(told, rule.state)
        if state == rule.failed:
            self._there.pop(name, None)
            raise NotUp("the platform could not read the file")
        return state in (None, rule.done)

    def _kept(self, name: tuple[str, ...], there: _There) -> _There:
        self._there[name] = there
        self._there.move_to_end(name)
        while len(self._there) > _KEPT:
            self._there.popitem(last=False)
        return there


def _ok(outcome: Outcome, capability: str) -> dict[str, Any]:
    if outcome.result != "ok":
        raise NotUp(f"{capability}: {outcome.result} {outcome.reason} {outcome.detail}"[:300].rstrip())
    return outcome.data
