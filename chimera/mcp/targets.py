"""Where a profile's servers are: the target of a connection with its secrets, and the addresses that people are shown.

The one rule: a secret goes into a `Target` and nowhere else; whoever lacks one hears its reference.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mcp.server import Server

from chimera.mcp.connections import Target
from chimera.mcp.profiles import Profile
from chimera.mcp.secrets import PROGRAMS, resolve_secret
from chimera.mcp.spec import CapabilitySpec, ServerSpec

Address = str | Server[Any]
"""Where a server is: an http(s) address, `/mcp` by default, or a server object in this process."""


def origin_of(profile: Profile, mode: str, addresses: Mapping[str, Address]) -> str | None:
    """Scheme, host and port of the profile's server, where it has an address."""
    server = profile.spec.servers.get("live" if mode == "live" else "sandbox")
    address = addresses.get(server.address or "") if server is not None else None
    if not isinstance(address, str) or not address:
        return None
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


def post_url(spec: CapabilitySpec, mode: str, account: str | None, platform_id: str, origin: str | None) -> str | None:
    """Where a post is to be seen, by the profile's template; None where there is none, or no origin that it asks for."""
    template = spec.result.url.get(mode)
    if template is None or ("{origin}" in template and origin is None):
        return None
    return template.format(id=platform_id, account=account or "", origin=origin)


def target_of(
    name: str, server: ServerSpec, account: str | None, addresses: Mapping[str, Address], home: Path, own: str | None = None
) -> Target:
    """Where a server is, with its secrets. `own` is the account's own reference, in place of those that the profile has by account.

    Raises KeyError, OSError or ValueError naming what is missing, never a value.
    """
    secrets = {}
    for variable, reference in server.secrets.items():
        there = own if own and "{account}" in reference else reference.replace("{account}", account or "")
        secrets[variable] = resolve_secret(there, programs=home / PROGRAMS)
    address = addresses.get(server.address or "")
    if isinstance(address, Server):
        return Target(key=name, server=address)
    if address:
        url = address if urlsplit(address).path.strip("/") else address.rstrip("/") + "/mcp"
        return Target(key=name, url=url, headers=secrets)
    if server.stdio is None:
        raise ValueError(f"no address {server.address!r} in the settings and no command in profile {name!r}")
    fill = partial(filled, python=sys.executable, home=str(home), account=account or "")
    return Target(
        key=name,
        command=fill(server.stdio.command),
        args=tuple(fill(arg) for arg in server.stdio.args),
        env={variable: fill(value) for variable, value in server.stdio.env.items()} | secrets,
    )


def filled(text: str, **values: str) -> str:
    """The text with `{name}` replaced by each value; other braces stay."""
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text
