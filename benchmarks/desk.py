"""How soon a page of the review desk is there while ten thousand cards wait.

    python benchmarks/desk.py [--cards N] [--posts N] [--rounds N] [--postgres DSN] [--json]

Made-up rows (`chimera demo-data`) with so many waiting cards besides, asked through the real application: sign-in, rights, the
queue's question, templates, headers. The card itself comes from a stand-in for the command service on its socket, which answers
at once. Limit beside it: the queue's questions alone, on one connection, in the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import http.server
import json
import socketserver
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import psycopg

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.analysts import server
from chimera.commands.client import SOCKET
from chimera.control import queue
from chimera.control.accounts import Accounts
from chimera.control.app import application
from chimera.projections import demo

PAGES = {
    "desk": "/review",
    "part": "/review",
    "sensitive": "/review?kind=sensitive",
    "campaign": "/review?campaign=demo-2&platform=x",
    "search": "/review?q=number+77",
    "unknown": "/review?kind=unknown",
}
"""Name -> address; `part` is what a browser asks for when the queue moved."""


def main() -> None:
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("--cards", type=int, default=10_000)
    told.add_argument("--posts", type=int, default=20_000, help="posts that are over, behind the cards")
    told.add_argument("--rounds", type=int, default=20)
    told.add_argument("--postgres")
    told.add_argument("--json", action="store_true", help="one JSON line at the end")
    given = told.parse_args()
    with server(given.postgres) as dsn, tempfile.TemporaryDirectory(prefix="chimera-bench-") as home:
        own = made(dsn, given.cards, given.posts)
        with stand_in(Path(home)):
            found = asyncio.run(measured(Path(home), own, given.rounds))
    if given.json:
        print(json.dumps(found))
    else:
        for name, figure in found.items():
            print(f"{name:<44} {figure:>12,.1f}")


def made(dsn: str, cards: int, posts: int) -> str:
    """Address of a made-up database in which so many cards wait."""
    demo.make(dsn, "bench_desk", demo.Size(posts, observations=1, asset_events=0))
    own = demo.address(dsn, "bench_desk")
    let_wait(own, cards)
    return own


def let_wait(dsn: str, cards: int) -> None:
    """Add so many waiting cards to a made-up database."""
    script = (demo.SCRIPT.parent / "waiting.sql").read_text(encoding="utf-8").replace(":cards:", str(cards))
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in filter(str.strip, script.split(";\n")):
            connection.execute(statement.encode())
        connection.execute("VACUUM ANALYZE")


async def measured(home: Path, dsn: str, rounds: int) -> dict[str, float]:
    """Milliseconds of each page and of its questions alone; CPU of this process for a page."""
    accounts = Accounts(home)
    accounts.put("kim", {"*": ["admin"]}, "kim's long password")
    app: Any = application(home, dsn)
    cookie = accounts.sign_in("kim", "kim's long password")
    assert cookie is not None
    found: dict[str, float] = {}
    begun, every = asyncio.Event(), []
    life = asyncio.create_task(lives(app, begun))
    await begun.wait()
    cpu, pages = 0.0, 0
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        for name, path in PAGES.items():
            part = {"hx-request": "true", "hx-target": "queue"} if name == "part" else {}
            wanted = queue.read_wanted(dict(parse_qsl(path.partition("?")[2])), None)
            spent = time.process_time()
            took = await timed(lambda path=path, part=part: page(app, path, cookie, part), rounds)
            cpu, pages = cpu + time.process_time() - spent, pages + rounds + 1
            bare = await timed(lambda wanted=wanted: queue.queue(connection, wanted), rounds)
            every += took
            found |= {f"{name} p50 ms": statistics.median(took), f"{name} p95 ms": p95(took)}
            found |= {f"{name}: SQL alone p50 ms": statistics.median(bare), f"{name}: SQL alone p95 ms": p95(bare)}
        asked = await timed(lambda: queue.mark(connection), rounds)
    life.cancel()
    await asyncio.gather(life, return_exceptions=True)
    return found | {
        "all pages p50 ms": statistics.median(every),
        "all pages p95 ms": p95(every),
        "looking whether the queue moved p50 ms": statistics.median(asked),
        "CPU of the application per page ms": cpu / pages * 1000,
    }


async def timed(act: Callable[[], Awaitable[Any]], rounds: int) -> list[float]:
    """Milliseconds of each of so many times, after a first one that is not counted."""
    took = []
    for _ in range(rounds + 1):
        begun = time.perf_counter()
        await act()
        took.append((time.perf_counter() - begun) * 1000)
    return took[1:]


def p95(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.95) - (len(values) < 20)]


async def lives(app: Any, begun: asyncio.Event) -> None:
    """The application's start, and its end when cancelled."""
    over = asyncio.Event()
    messages = iter(("lifespan.startup", "lifespan.shutdown"))

    async def receive() -> dict[str, str]:
        message = next(messages)
        if message == "lifespan.shutdown":
            try:
                await over.wait()
            except asyncio.CancelledError:
                return {"type": message}
        return {"type": message}

    async def send(message: Any) -> None:
        assert message["type"] != "lifespan.startup.failed", message
        begun.set()

    await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)


async def page(app: Any, path: str, cookie: str, headers: dict[str, str]) -> bytes:
    """One GET through the application. Raises AssertionError for anything but 200."""
    said = {"host": "desk", "cookie": f"__Host-chimera={cookie}", **headers}
    where, _, asked = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "https",
        "path": where,
        "raw_path": where.encode(),
        "query_string": asked.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in said.items()],
        "client": ("127.0.0.1", 1),
        "server": ("desk", 443),
    }
    status, body = 0, b""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status, body
        status = message.get("status", status)
        body += message.get("body", b"")

    await app(scope, receive, send)
    assert status == 200, (status, body[:2000])
    return body


@contextmanager
def stand_in(home: Path) -> Iterator[None]:
    """What answers on the command service's socket: no card is held, and every card looks like this one."""
    card = {
        "card": "demo1/1.1.1", "agent": "demo1", "tenant": "acme", "campaign": "demo-1", "status": "people", "why": "confidence",
        "waiting_since_ts": 1, "text": "Made-up words", "platform": "x", "account": "demo1_x", "thread": None,
        "tool": "x.createPosts", "mode": "sandbox", "effect_class": "publish", "arguments": {"text": "Made-up words"},
        "asset_hashes": [], "disclosure": "automated", "not_before": 0, "max_cost_usd": "1", "tags": [], "taint": "owner",
        "sources": [], "verdicts": [], "approvals": [], "approvals_needed": 1, "approvers": ["kim"], "edited_by": "", "edit": 0,
        "policy_edition": 1, "input_state_version": 1, "stale": False, "artifact_hash": "a", "effect_hash": "e",
    }  # fmt: skip
    shadow = {
        "in_shadow": False,
        "because": "",
        "decided": 0,
        "overridden": 0,
        "needed": None,
        "overrides": None,
        "demote_above": None,
    }
    shown = {
        "closed_as": "",
        "address": card["card"],
        "stream": "agent/1",
        "card": card,
        "shown_hash": "s",
        "effect_hash": "e",
        "edit": 0,
    }
    shown |= {
        "score": 1.0,
        "risk": 1.0,
        "deadline": 1.0,
        "reach": 1.0,
        "expires_ts": 0,
        "shadow": shadow,
        "held": None,
        "undo_ms": 0,
    }

    class Answers(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            verb = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["verb"]
            body = json.dumps({"held": {}} if verb == "review.holds" else shown).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nobody reads it."""

        def address_string(self) -> str:
            return "socket"

    (home / SOCKET).parent.mkdir(parents=True)

    class Threads(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True

    with Threads(str(home / SOCKET), Answers) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield
        served.shutdown()


if __name__ == "__main__":
    main()
