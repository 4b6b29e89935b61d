"""What the gate costs: CPU per call beside a bare SDK call on the same transport, many slow calls at once, all sandboxes up.

    python benchmarks/gate.py [--calls N] [--at-once N] [--json]

The rule not to break: the bare call speaks to the very same server process in the same run, in alternating rounds; CPU time is
that of this process, so that neither the server nor a busy machine counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from chimera.mcp.gate import Gate
from chimera.mcp.profiles import load_profiles
from chimera.mcp.records import ToolCallRecord
from chimera.mcp.sandbox.faults import FaultBook, Wish

ROUNDS = 5
SLOW_S = 2.0
SANDBOXES = ("x", "feeds", "writer", "vendors")


@contextmanager
def sandbox(name: str, home: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """One sandbox process and its address."""
    argv = [sys.executable, "-m", f"chimera.mcp.sandbox.{name}", "--port", "0", "--data", str(home / "mcp" / name)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def _kept(_: ToolCallRecord) -> None:
    return None


async def by_gate(gate: Gate, account: str) -> None:
    outcome = await gate.call("social.me", {}, agent="a", tenant="t", account=account, platform="x")
    assert outcome.result == "ok", outcome


async def by_sdk(client: Client, account: str) -> None:
    answer = await client.call_tool("getUsersMe", {}, read_timeout_seconds=30, meta={"chimera/account": account})  # type: ignore[arg-type]
    assert not answer.is_error, answer.content


async def cpu_ms(one: Callable[[str], Awaitable[None]], calls: int, name: str) -> float:
    """CPU milliseconds of this process per call, one call after the other, an account each (so that no rate limit speaks)."""
    began = time.process_time()
    for number in range(calls):
        await one(f"{name}{number}")
    return (time.process_time() - began) * 1000 / calls


async def wall_s(one: Callable[[str], Awaitable[None]], at_once: int, name: str) -> float:
    began = time.monotonic()
    await asyncio.gather(*(one(f"{name}{number}") for number in range(at_once)))
    return time.monotonic() - began


async def calls(home: Path, url: str, count: int, at_once: int) -> dict[str, float]:
    """The figures of one server over HTTP."""
    book = FaultBook(home / "mcp" / "x")
    limits = httpx2.Limits(max_connections=512, max_keepalive_connections=64)
    http = httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(limits=limits, trust_env=False), timeout=httpx2.Timeout(30.0))
    gate = Gate(load_profiles(), {"x_url": url}, on_call=_kept, home=home)
    async with http, gate, Client(streamable_http_client(f"{url}/mcp", http_client=http), read_timeout_seconds=30) as client:

        async def ours(account: str) -> None:
            await by_gate(gate, account)

        async def bare(account: str) -> None:
            await by_sdk(client, account)

        for one in (ours, bare):
            await cpu_ms(one, 20, "warm")
        rounds = [(await cpu_ms(ours, count, f"g{n}-"), await cpu_ms(bare, count, f"s{n}-")) for n in range(ROUNDS)]
        figures = {
            "gate CPU ms per call": statistics.median(gated for gated, _ in rounds),
            "limit: SDK CPU ms per call": statistics.median(raw for _, raw in rounds),
            "gate over SDK, CPU ms per call": statistics.median(gated - raw for gated, raw in rounds),
        }
        for name, one in (("slow calls at once, s", ours), ("limit: slow calls by SDK, s", bare)):
            book.ask(Wish("slow", "getUsersMe", at_once, 1.0, SLOW_S))
            figures[name] = await wall_s(one, at_once, name[:4].strip(": "))
    book.close()
    return figures


def up(home: Path) -> dict[str, float]:
    """All sandboxes from nothing to answering, together, and what they then hold in memory."""
    began, argv = time.monotonic(), [sys.executable, "-m"]
    words = {name: ["--port", "0", "--data", str(home / "mcp" / name)] for name in SANDBOXES}
    processes = [
        subprocess.Popen([*argv, f"chimera.mcp.sandbox.{name}", *more], stdout=subprocess.PIPE, text=True)
        for name, more in words.items()
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            with urllib.request.urlopen(f"{process.stdout.readline().strip()}/healthz", timeout=60) as answer:
                assert answer.read() == b"ok"
        took = time.monotonic() - began
        return {"sandboxes up, s": took, "sandboxes, MB": sum(_rss_mb(process.pid) for process in processes)}
    finally:
        for process in processes:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def _rss_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=200, help="calls a round")
    parser.add_argument("--at-once", type=int, default=200, help="two-second calls at once")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chimera-bench-") as place:
        home = Path(place)
        figures = up(home / "up")
        with sandbox("x", home) as (_, url):
            figures |= asyncio.run(calls(home, url, given.calls, given.at_once))
    if given.json:
        print(json.dumps(figures))
    else:
        for name, figure in figures.items():
            print(f"{name:36} {figure:10.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
