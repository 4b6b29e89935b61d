"""Taking a server's files into the media store at once: fetched by address or read from its folder, hashed, receipted.

The one rule: an address that a server gives is as suspect as any other words of it. It is dialled only as the egress guard
judged it, or where it is the very server that was asked.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from chimera.mcp.egress import EgressDenied, check_path, check_url, public_addresses
from chimera.mcp.places import SANDBOX_MEDIA, asset_at
from chimera.mcp.profiles import Rendered
from chimera.mcp.records import Outcome, Result
from chimera.mcp.results import Reading, at
from chimera.mcp.spec import CapabilitySpec, MediaRule
from chimera.media.facts import Facts, facts_apart
from chimera.media.place import open_media
from chimera.media.store import CHUNK, Asset, MediaError, MediaStore

log = logging.getLogger(__name__)

REDIRECTS = 5
WHOLE_FETCH_S = 120.0

Fetch = Callable[[str, str | None], AsyncIterator[bytes]]
"""(address, origin that may be local) -> its bytes. Raises FetchFailed or EgressDenied."""


class FetchFailed(Exception):
    """The bytes behind an address could not be had; the text says why."""


class Files:
    """The media store as the gate uses it. `where` it is (`open_media`); `media_url` is where platforms fetch its files in live
    mode; None: nowhere.
    """

    def __init__(self, home: Path, fetch: Fetch, media_url: str | None, where: str | None = None) -> None:
        self._home, self._fetch, self._media_url, self._where = home, fetch, media_url, where

    @cached_property
    def store(self) -> MediaStore:
        """The media store of this home, made when it is first needed."""
        return open_media(self._home, self._where)

    async def collected(self, spec: CapabilitySpec, outcome: Outcome, origin: str | None) -> Outcome:
        """A success with its file taken in. What was made and could not be fetched is a job that is still to be collected.

        `origin` is the asked server's own (scheme, host, port), where it may be local.
        """
        assert spec.result.media is not None
        try:
            asset = await self.take(spec.result.media, outcome.data, origin)
        except FetchFailed as error:
            handle = outcome.platform_id if spec.poll is not None else None
            told: Result = "unknown" if handle is None else "submitted"
            return replace(outcome, result=told, reason="not_collected", detail=str(error), handle=handle)
        return replace(outcome, assets=(asset,))

    def base(self, mode: str) -> str | None:
        """Under which address the files of the store are named in this mode; None: under none."""
        return SANDBOX_MEDIA if mode == "sandbox" else self._media_url

    async def not_ours(self, spec: CapabilitySpec, rendered: Rendered) -> str | None:
        """Which argument that must name a file of the media store does not, or None."""
        base = self.base(rendered.mode)
        for path in spec.egress.media:
            value = at(rendered.arguments, path)
            for each in value if isinstance(value, list) else [] if value is None else [value]:
                asset = asset_at(base, each) if base is not None and isinstance(each, str) else None
                if asset is None or not await self.store.has(asset):
                    return f"argument {path!r} names no file of the media store"
        return None

    async def facts(self, asset: Asset) -> Facts | None:
        """What a file of the store is; None where it cannot be read: it is kept and named all the same."""
        with tempfile.TemporaryDirectory(prefix="chimera-look-") as folder:
            file = Path(folder) / asset.name
            try:
                await self.store.save(asset, file)
                return await facts_apart(asset, file)
            except (MediaError, OSError) as error:
                log.warning("nobody knows how long or wide %s is: %s", asset.name, error)
                return None

    async def take(self, rule: MediaRule, data: dict[str, Any], origin: str | None) -> Asset:
        """The file that the data name, in the store. Raises FetchFailed."""
        place = at(data, rule.at)
        if not isinstance(place, str) or not place:
            raise FetchFailed(f"the answer names no file at {rule.at}")
        try:
            async with asyncio.timeout(WHOLE_FETCH_S):
                chunks = self._file(rule, place) if rule.roots else self._fetch(place, origin)
                asset = await self.store.put(chunks)
        except (EgressDenied, MediaError, OSError, TimeoutError) as error:
            raise FetchFailed(f"{type(error).__name__}: {error}"[:300]) from error
        if asset.kind != rule.kind:
            raise FetchFailed(f"the file is a {asset.extension}, and no {rule.kind}")
        return asset

    async def _file(self, rule: MediaRule, place: str) -> AsyncIterator[bytes]:
        path = check_path(place, [Path(root.replace("{home}", str(self._home))) for root in rule.roots])
        file = await asyncio.to_thread(path.open, "rb")
        try:
            while chunk := await asyncio.to_thread(file.read, CHUNK):
                yield chunk
        finally:
            file.close()


def cost_of(spec: CapabilitySpec, reading: Reading, by_table: Decimal) -> Decimal:
    """US dollars: what the answer says that it cost, else what the table says; nothing where nothing was done."""
    if reading.result in ("refused", "not_sent"):
        return Decimal(0)
    told = at(reading.data, spec.result.cost) if spec.result.cost is not None else None
    try:
        cost = Decimal(str(told)) if told not in (None, "") else by_table
    except InvalidOperation:
        return by_table
    return cost if cost.is_finite() and cost >= 0 else by_table


async def download(url: str, origin: str | None) -> AsyncIterator[bytes]:
    """The bytes behind an address. Every hop is judged, and the judged address dialled. Raises FetchFailed or EgressDenied."""
    target = httpx2.URL(url)
    for _ in range(REDIRECTS + 1):
        local = origin is not None and _origin(str(target)) == origin
        await check_url(str(target), allow_local=local)
        port = target.port or (443 if target.scheme == "https" else 80)
        address = (await public_addresses(target.host, port, allow_local=local))[0]
        # A client per hop: a pooled connection would be reused for another host name at the same address.
        async with httpx2.AsyncClient(trust_env=False, timeout=httpx2.Timeout(30.0)) as client:
            request = client.build_request(
                "GET",
                target.copy_with(host=address),
                headers={"Host": target.netloc.decode("ascii"), "User-Agent": "chimera-media/1"},
                extensions={"sni_hostname": target.host},
            )
            try:
                response = await client.send(request, stream=True)
                location = response.headers.get("location")
                if response.status_code in (301, 302, 303, 307, 308) and location:
                    target = target.join(location)
                    continue
                if response.status_code != 200:
                    raise FetchFailed(f"HTTP {response.status_code}")
                async for chunk in response.aiter_bytes():
                    yield chunk
                return
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                raise FetchFailed(f"{type(error).__name__} {error}") from error
    raise FetchFailed(f"more than {REDIRECTS} redirects")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
