"""The real servers that registries offer, started with dummy credentials: do they list the tools that our sandboxes play?

Each is looked for where an operator would have it: on the path, or in the folder that CHIMERA_REAL_SERVERS names (`npm install` and
virtual environments made by `python -m tests.integration.test_real_servers FOLDER`). What is not there is skipped, with the reason.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from mcp import Client, StdioServerParameters

from chimera.mcp.profiles import load_profiles
from chimera.mcp.sandbox.vendor import recorded_tools

FOLDER = os.environ.get("CHIMERA_REAL_SERVERS", "")
WORDS = ("description", "title", "examples")


class Real(NamedTuple):
    """A published server: how it is got, started, and what it must list."""

    package: str
    registry: str
    command: str
    args: tuple[str, ...]
    env: dict[str, str]


SERVERS = {
    "midjourney": Real("mcp-midjourney==2026.10.18.4", "pypi", "mcp-midjourney", (), {"ACEDATACLOUD_API_TOKEN": "dummy"}),
    "brave": Real(
        "@brave/brave-search-mcp-server@2.1.4",
        "npm",
        "brave-search-mcp-server",
        ("--transport", "stdio"),
        {"BRAVE_API_KEY": "dummy"},
    ),
    "tavily": Real("tavily-mcp@0.2.22", "npm", "tavily-mcp", (), {"TAVILY_API_KEY": "tvly-dummy"}),
    "x-twitter": Real(
        "x-twitter-mcp==0.1.15",
        "pypi",
        "x-twitter-mcp-server",
        (),
        {f"TWITTER_{name}": "dummy" for name in ("API_KEY", "API_SECRET", "ACCESS_TOKEN", "ACCESS_TOKEN_SECRET", "BEARER_TOKEN")},
    ),
}


def command_of(name: str) -> str:
    """Where the server's program is; skips with the reason where it is nowhere."""
    real = SERVERS[name]
    places = [str(Path(FOLDER) / name / "bin"), str(Path(FOLDER) / "node_modules" / ".bin")] if FOLDER else []
    found = shutil.which(real.command, path=os.pathsep.join([*places, os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip(f"{real.package} ({real.registry}) is not installed: python -m tests.integration.test_real_servers FOLDER")
    return found


async def listed(name: str) -> dict[str, dict[str, Any]]:
    env = {**SERVERS[name].env, "PATH": os.environ.get("PATH", ""), "HOME": os.environ.get("HOME", "/tmp")}
    parameters = StdioServerParameters(command=command_of(name), args=list(SERVERS[name].args), env=env)
    async with asyncio.timeout(120), Client(parameters, read_timeout_seconds=90) as client:
        tools = (await client.list_tools()).tools
    return {tool.name: tool.model_dump(by_alias=True, exclude_none=True, mode="json") for tool in tools}


def wordless(schema: Any, names: bool = False) -> Any:
    """A schema without what is said to models; `names`: its keys are names of properties."""
    if isinstance(schema, list):
        return [wordless(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if names or key not in WORDS or isinstance(value, dict)}
    return {key: wordless(value, key == "properties") for key, value in kept.items()}


@pytest.mark.parametrize("name", ["midjourney", "brave", "tavily"])
def test_a_sandbox_plays_the_tools_that_the_real_server_lists(name: str) -> None:
    there = asyncio.run(listed(name))
    for ours in recorded_tools(name):
        mine = ours.model_dump(by_alias=True, exclude_none=True, mode="json")
        theirs = there.get(ours.name)
        assert theirs is not None, f"{name} lists no {ours.name} any more"
        for part in ("inputSchema", "outputSchema"):
            assert wordless(mine.get(part)) == wordless(theirs.get(part)), f"{name}.{ours.name}: {part}"
    used = {spec.tool for spec in load_profiles().by_name[name].spec.capabilities.values()}
    assert used <= set(there)


def test_the_other_x_server_is_as_the_reference_tells() -> None:
    """It is no profile of ours: it cannot tell X that a post was made with AI. Here is what such a profile would have to know."""
    there = asyncio.run(listed("x-twitter"))
    assert {"post_tweet", "delete_tweet", "search_twitter", "get_user_mentions"} <= set(there)
    assert "made_with_ai" not in there["post_tweet"]["inputSchema"]["properties"]


def install(folder: Path) -> list[str]:
    """Get every server into a folder of its own, never into Chimera's environment; what could not be had, and why."""
    folder.mkdir(parents=True, exist_ok=True)
    failed = []
    for name, real in SERVERS.items():
        try:
            if real.registry == "npm":
                words = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), real.package]
            else:
                venv.create(folder / name, with_pip=True)
                words = [str(folder / name / "bin" / "pip"), "install", "--quiet", real.package]
            subprocess.run(words, check=True, capture_output=True, text=True, timeout=600)
        except (OSError, subprocess.SubprocessError) as error:
            said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1:]
            failed.append(f"{real.package} ({real.registry}) cannot be had: {' '.join(said)}")
    return failed


if __name__ == "__main__":
    print("\n".join(install(Path(sys.argv[1]))) or "all real servers are installed")
