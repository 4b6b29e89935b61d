"""`python -m chimera.mcp.pin [NAME ...] [--check]`: write the pinned schemas of profiles from the servers as they run now.

The one rule: pinning is a person's decision. The gate never pins; it only compares.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from chimera.mcp.connections import Answer, Connection
from chimera.mcp.pins import closed, pins_path, tool_sha256, write_pins
from chimera.mcp.profiles import PROFILES_DIR, read_profile
from chimera.mcp.spec import ProfileError
from chimera.mcp.targets import target_of


async def live_pins(path: Path, addresses: Mapping[str, str], *, home: Path, mode: str = "sandbox") -> dict[str, Any]:
    """What the pins of a profile file would be now. Raises ProfileError when the server or one of its tools is missing."""
    spec, listed = read_profile(path), await listed_tools(path, addresses, home=home, mode=mode)
    by_name = {str(tool["name"]): tool for tool in listed}
    wanted = sorted({capability.tool for capability in spec.capabilities.values()})
    missing = [name for name in wanted if name not in by_name]
    if missing:
        raise ProfileError(f"profile {path}: the server lists no {', '.join(missing)}; it lists {', '.join(sorted(by_name))}")
    return {
        "profile": spec.name,
        "tools": {name: {"sha256": tool_sha256(by_name[name]), "schema": closed(by_name[name]["inputSchema"])} for name in wanted},
    }


async def listed_tools(path: Path, addresses: Mapping[str, str], *, home: Path, mode: str = "sandbox") -> list[dict[str, Any]]:
    """All tools that the server of a profile lists now. Raises ProfileError when it does not answer."""
    spec = read_profile(path)
    server = spec.servers.get(mode)  # type: ignore[call-overload]
    if server is None:
        raise ProfileError(f"profile {path}: no server for mode {mode!r}")
    connection = Connection(partial(target_of, spec.name, server, None, addresses, home))
    try:
        listed = await connection.listing()
    finally:
        await connection.close()
    if isinstance(listed, Answer):
        raise ProfileError(f"profile {path}: its {mode} server does not answer: {listed.reason} {listed.detail}")
    return listed


def differences(pinned: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list[str]]:
    """Tool -> what of it is not as it was pinned; empty where all is. Both are pins as `live_pins` makes them."""
    found: dict[str, list[str]] = {}
    for name, tool in pinned["tools"].items():
        there = now["tools"].get(name)
        if there is None:
            found[name] = ["is not listed any more"]
        elif there != tool:
            found[name] = _changed("$", tool["schema"], there["schema"]) or ["its description, output or hints changed"]
    return found | {name: ["is not pinned"] for name in now["tools"] if name not in pinned["tools"]}


def _changed(at: str, old: Any, new: Any) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        lines = [f"{at}.{key} is gone" for key in old if key not in new] + [f"{at}.{key} is new" for key in new if key not in old]
        for key in old.keys() & new.keys():
            lines += _changed(f"{at}.{key}", old[key], new[key])
        return sorted(lines)
    return [] if old == new else [f"{at}: {json.dumps(old)[:60]} -> {json.dumps(new)[:60]}"]


def as_text(pins: Mapping[str, Any]) -> str:
    """The file's text, the same for the same pins."""
    return json.dumps(pins, indent=1, sort_keys=True) + "\n"


async def _main(options: argparse.Namespace) -> int:
    paths = [PROFILES_DIR / f"{name}.yaml" for name in options.names] or sorted(PROFILES_DIR.glob("*.yaml"))
    addresses = dict(pair.split("=", 1) for pair in options.address)
    drifted = 0
    with tempfile.TemporaryDirectory() as home:
        for path in paths:
            text = as_text(await live_pins(path, addresses, home=Path(home)))
            pins = pins_path(path)
            same = pins.exists() and pins.read_text(encoding="utf-8") == text
            drifted += not same
            if not same and not options.check:
                write_pins(pins, text)
            print(f"{path.stem}: {'unchanged' if same else 'drifted' if options.check else 'pinned'}")
    return 3 if options.check and drifted else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="profiles; all when none is named")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 3 when a server differs from its pins")
    parser.add_argument(
        "--address", action="append", default=[], metavar="SETTING=URL", help="e.g. x_url=http://127.0.0.1:8000/mcp"
    )
    try:
        return asyncio.run(_main(parser.parse_args()))
    except ProfileError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
