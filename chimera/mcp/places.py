"""Addresses under which media of the store are reached from outside: the base says where, the last part which file.

The one rule: an address names its bytes by their hash, so whoever approved the address approved the bytes.
"""

from __future__ import annotations

from chimera.media.store import Asset, named

SANDBOX_MEDIA = "https://media.sandbox.invalid/"
"""The base in the sandbox: a name that exists nowhere, which only sandbox servers know how to read."""


def address_of(base: str, asset: Asset) -> str:
    """Where a platform fetches this asset."""
    return base.rstrip("/") + "/" + asset.name


def asset_at(base: str, url: str) -> Asset | None:
    """The asset that an address names (its size unknown: 0), or None for an address that is none of ours."""
    root = base.rstrip("/") + "/"
    parts = named(url.removeprefix(root)) if url.startswith(root) else None
    return None if parts is None else Asset(parts[0], parts[1], 0)
