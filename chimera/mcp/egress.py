"""Which addresses and files a tool argument may name. Used by the gate before a call and by the feed reader at the dial.

The one rule: a host is judged by every address it resolves to, never by its name, and whoever dials must dial an address
that was judged (`public_addresses`), because a second look-up may answer differently.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import socket
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""(host, port) -> every address the host has, as text."""

_SCHEME = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]*:")
_UGLY = re.compile(r"[\s\\\x00-\x1f\x7f]")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class EgressDenied(Exception):
    """An argument names an address or a file that may not be reached; the text names the argument and the rule."""


def is_public(address: str) -> bool:
    """Whether an IP address (text) is routable on the public Internet, looking through IPv4-in-IPv6 forms."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if ip.is_site_local:  # fec0::/10: local by its old rules, and global by Python's
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


async def system_resolve(host: str, port: int) -> list[str]:
    """Every address of `host` by the system's resolver, within 5 s. Raises OSError or TimeoutError."""
    async with asyncio.timeout(5):
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def public_addresses(
    host: str, port: int, *, allow_hosts: Collection[str] = (), allow_local: bool = False, resolve: Resolve = system_resolve
) -> list[str]:
    """The addresses of `host` that may be dialled: all of them, or none.

    One private address among public ones refuses the whole host. Raises EgressDenied.
    """
    try:
        addresses = await resolve(host, port)
    except (OSError, UnicodeError) as error:
        raise EgressDenied(f"host {host!r} cannot be resolved: check the name and the network") from error
    if not addresses:
        raise EgressDenied(f"host {host!r} has no address")
    if allow_local or host in allow_hosts:
        return addresses
    inside = [address for address in addresses if not is_public(address)]
    if inside:
        raise EgressDenied(f"host {host!r} leads to a private or local address: allow-list the host in the profile")
    return addresses


async def check_url(
    url: str, *, allow_hosts: Collection[str] = (), allow_local: bool = False, resolve: Resolve = system_resolve
) -> None:
    """Pass or raise EgressDenied: http(s) only, no user info, no odd characters, public addresses only."""
    if _UGLY.search(url):
        raise EgressDenied("a URL may hold no blank, backslash or control character")
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme.lower() == "https" else 80)
    except ValueError as error:
        raise EgressDenied(f"not a URL: {error}") from error
    if parts.scheme.lower() not in ("http", "https"):
        raise EgressDenied(f"scheme {parts.scheme!r} is not http or https")
    if not parts.hostname:
        raise EgressDenied("a URL needs a host")
    if parts.username is not None or parts.password is not None:
        raise EgressDenied("a URL may carry no user name or password")
    await public_addresses(parts.hostname, port, allow_hosts=allow_hosts, allow_local=allow_local, resolve=resolve)


def check_path(path: str, roots: Collection[Path]) -> Path:
    """The real path, if it lies under one of `roots` after every link is followed. Raises EgressDenied."""
    if "\x00" in path:
        raise EgressDenied("a path may hold no NUL")
    real = _real(path)
    # No part of a real path is a link. So a root that stands in it as text is none either, and needs no look at the disk.
    if any(".." not in root.parts and _lies(real, os.path.abspath(os.path.expanduser(root))) for root in roots):
        return Path(real)
    if any(_lies(real, _real(root)) for root in roots):
        return Path(real)
    named = ", ".join(str(root) for root in roots) or "no folder at all"
    raise EgressDenied(f"a file path may only lie under {named}")


def _real(path: str | Path) -> str:
    """As text: `Path` does the same in twice the time."""
    return os.path.realpath(os.path.expanduser(path))


def _lies(path: str, folder: str) -> bool:
    return f"{path}/".startswith(f"{folder.rstrip('/')}/")


def _strings(value: Any, at: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield at, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _strings(inner, f"{at}.{key}" if at else str(key))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner, at)


async def check_arguments(
    arguments: Mapping[str, Any],
    *,
    content: Collection[str],
    locations: Collection[str],
    allow_hosts: Collection[str] = (),
    roots: Collection[Path] = (),
    allow_local: bool = False,
    resolve: Resolve = system_resolve,
) -> None:
    """Judge every string argument that is a place.

    `locations` are the argument paths (`source`, `media.url`) that always name a URL or a file; `content` are those that
    are words to be published and never a place. Every other string is judged when, as a whole, it looks like a URL or a
    rooted path: an argument nobody declared must not become a way out. Raises EgressDenied naming the argument.
    """
    places = {key: value for key, value in arguments.items() if key not in content}
    for at, text in _strings(places, ""):
        if at in content:
            continue
        declared = at in locations
        try:
            if _SCHEME.match(text) and (declared or "://" in text or text.lower().startswith(("file:", "data:"))):
                await check_url(text, allow_hosts=allow_hosts, allow_local=allow_local, resolve=resolve)
            elif declared or text.startswith(("/", "~", "\\\\")):
                check_path(text, roots)
        except EgressDenied as error:
            raise EgressDenied(f"argument {at!r}: {error}") from error
