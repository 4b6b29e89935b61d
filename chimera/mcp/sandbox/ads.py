"""The ads sandbox: boosts of posts, billed to an account once per idempotency key. A real MCP server over a durable order book.

`python -m chimera.mcp.sandbox.ads --data DIR [--port P]`. The one rule: an order and the key it answers to are on disk in one
transaction before the answer leaves, so a killed server never bills one key twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
from mcp.server import Server
from mcp.types import CallToolResult, Tool

from chimera.mcp.sandbox.book import open_book, writing
from chimera.mcp.sandbox.faults import FaultBook, Faults, Words, faults_of
from chimera.mcp.sandbox.serving import CallContext, error_result, json_result, serve, serving_arguments, tool_server

_ACCOUNT = re.compile(r"^[A-Za-z0-9_.-]{1,64}$")
WORDS = Words(
    busy='HTTP error 429: Too Many Requests - {"title":"Too Many Requests","status":429}',
    refusal='HTTP error 403: Forbidden - {"title":"Forbidden","status":403}',
    broken='HTTP error 503: Service Unavailable - {"title":"Service Unavailable","status":503}',
)
RATES_USD = {"small": Decimal("5.00"), "medium": Decimal("20.00"), "large": Decimal("80.00")}
"""The first day of a tier."""
SHARES = {1: Decimal(1), 3: Decimal("2.5"), 7: Decimal(5)}
"""Days -> how many first days they cost; the medium and large tiers are a little dearer for longer."""
LONGER = {"small": Decimal(1), "medium": Decimal("1.05"), "large": Decimal("1.05")}
BOOST_POST = Tool(
    name="boostPost",
    description="Boost Post. Shows a Post of the authorized account to more people; the account is billed at once.",
    input_schema={
        "type": "object",
        "properties": {
            "post_id": {"type": "string", "pattern": "^[0-9]{1,19}$", "description": "The ID of the Post to be boosted."},
            "tier": {"type": "string", "maxLength": 64, "description": "How many people are shown it: small, medium or large."},
            "days": {"type": "integer", "minimum": 1, "maximum": 366, "description": "For how long: 1, 3 or 7."},
        },
        "required": ["post_id", "tier", "days"],
    },
)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
  id INTEGER PRIMARY KEY, account TEXT NOT NULL, key TEXT, arguments_sha256 TEXT NOT NULL, answer TEXT NOT NULL,
  charged_usd TEXT NOT NULL, at REAL NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS orders_of_key ON orders (account, key) WHERE key IS NOT NULL;
"""


class OrderBook:
    """Orders on disk; `clock` is wall seconds. Blocking."""

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = directory / "orders.sqlite3"
        self._clock = clock
        self._db = open_book(self.path, "PRAGMA synchronous=FULL;" + _SCHEMA)

    def close(self) -> None:
        self._db.close()

    def order(self, account: str, key: str | None, arguments: dict[str, Any]) -> tuple[dict[str, Any], bool] | None:
        """(answer, whether it is a repeated one); None for a key that belongs to another order."""
        sha256 = hashlib.sha256(orjson.dumps(arguments, option=orjson.OPT_SORT_KEYS)).hexdigest()
        with writing(self._db):
            known = self._db.execute(
                "SELECT arguments_sha256, answer FROM orders WHERE account = ? AND key = ? AND key IS NOT NULL", (account, key)
            ).fetchone()
            if known is None:
                number = int(self._db.execute("SELECT coalesce(max(id), 0) + 1 FROM orders").fetchone()[0])
                charged = price(arguments["tier"], arguments["days"])
                answer = {"id": f"boost-{number}", **arguments, "charged_usd": str(charged), "status": "ACTIVE"}
                row = (number, account, key, sha256, orjson.dumps(answer).decode(), str(charged), self._clock())
                self._db.execute("INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        if known is None:
            return answer, False
        return (dict(orjson.loads(known[1])), True) if known[0] == sha256 else None

    def charged_usd(self) -> Decimal:
        """All that was ever billed."""
        return sum((Decimal(row[0]) for row in self._db.execute("SELECT charged_usd FROM orders")), Decimal(0))


def price(tier: str, days: int) -> Decimal:
    """What the platform bills; its own table, so that a profile that disagrees is seen."""
    return (RATES_USD[tier] * SHARES[days] * (LONGER[tier] if days > 1 else 1)).quantize(Decimal("0.01"))


class AdsSandbox:
    """The tool over one order book. All SQLite work runs in one thread of its own, in order."""

    def __init__(self, book: OrderBook, faults: Faults | None = None) -> None:
        self.book = book
        self._faults = faults or Faults(FaultBook(book.path.parent), WORDS)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="orders")

    async def handle(self, tool: str, arguments: dict[str, Any], context: CallContext) -> CallToolResult:
        """One tool call, with the faults that were asked for."""
        account = (context.account or "").removeprefix("@")
        if not _ACCOUNT.match(account):
            return _http_error(401, "Unauthorized", "no account is signed in (_meta chimera/account).")
        if arguments["tier"] not in RATES_USD or arguments["days"] not in SHARES:
            return _http_error(400, "Invalid Request", "There is no such tier.")

        async def act() -> CallToolResult:
            loop = asyncio.get_running_loop()
            done = await loop.run_in_executor(self._thread, self.book.order, account, context.key, arguments)
            if done is None:
                return _http_error(422, "Unprocessable", "This idempotency key belongs to another request.")
            answer, repeated = done
            return json_result({"data": answer}, {"chimera/duplicate": True} if repeated else None)

        return await self._faults.around(tool, act)

    def server(self) -> Server[Any]:
        return tool_server("ads-sandbox", (BOOST_POST,), self.handle, self._faults.listed)


def _http_error(status: int, title: str, detail: str) -> CallToolResult:
    problem = orjson.dumps({"title": title, "detail": detail, "status": status}).decode()
    return error_result(f"HTTP error {status}: {title} - {problem}")


def main() -> None:
    parser = serving_arguments("Ads sandbox: boosts behind an MCP tool")
    parser.add_argument("--data", type=Path, required=True, help="folder of the order book")
    options = parser.parse_args()
    serve(AdsSandbox(OrderBook(options.data), faults_of(options, "ads", (BOOST_POST,), WORDS)).server(), options)


if __name__ == "__main__":
    main()
