"""Faults on demand, for every sandbox server: asked for by flag, environment or `chimera sandbox fault`, each taken by one call.

The one rule: a fault behaves like bad weather outside. What goes wrong before the write leaves nothing behind, `_after_write` loses
only the answer, and nothing here tells the gate that it was made.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import re
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mcp.types import CallToolResult, TextContent, Tool

from chimera.errors import ChimeraError
from chimera.mcp.sandbox.book import open_book, open_memory, writing
from chimera.mcp.sandbox.serving import CallContext, Handler, error_result, json_result

KINDS = {
    "429": "too many requests, before the write",
    "503": "the server fails before the write",
    "503_after_write": "the server fails after the write",
    "hang": "no answer, nothing written",
    "hang_after_write": "written, but no answer",
    "die": "the process is killed before the write",
    "die_after_write": "the process is killed after the write",
    "nonsense": "an answer that means nothing, nothing written",
    "nonsense_after_write": "written, and an answer that means nothing",
    "error_as_success": "a refusal, told as a success; nothing written",
    "success_as_error": "written, and the success told as an error",
    "drift": "a tool is listed with another schema (counts listings, which a client asks for when it connects)",
    "slow": "the answer takes so many seconds more: slow(2.5)",
}
ENVIRONMENT = "CHIMERA_SANDBOX_FAULTS"
FILE = "faults.sqlite3"
_NONSENSE = "colourless green ideas sleep furiously"
_WISH = re.compile(
    r"(?:(?P<tool>\w+):)?(?P<kind>\w+)(?:\((?P<s>\d+(?:\.\d+)?)\))?(?:=(?P<calls>\d+))?(?:@(?P<chance>[01]?\.?\d+))?"
)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS faults (
  n INTEGER PRIMARY KEY, kind TEXT NOT NULL, tool TEXT, seconds REAL NOT NULL, chance REAL NOT NULL, seed INTEGER NOT NULL,
  remaining INTEGER NOT NULL, seen INTEGER NOT NULL DEFAULT 0, origin TEXT NOT NULL DEFAULT '');
"""


class BadWish(ChimeraError, ValueError):
    """A fault that cannot be asked for."""


@dataclass(frozen=True)
class Wish:
    """`calls` calls of `tool` (None = any) go wrong, each drawn with `chance`; `seconds` where it is about time."""

    kind: str
    tool: str | None = None
    calls: int = 1
    chance: float = 1.0
    seconds: float = 0.0

    def __str__(self) -> str:
        tool, seconds = f"{self.tool}:" if self.tool else "", f"({self.seconds:g})" if self.seconds else ""
        return f"{tool}{self.kind}{seconds}={self.calls}" + (f"@{self.chance:g}" if self.chance < 1 else "")


@dataclass(frozen=True)
class Words:
    """How a server says what a fault makes it say."""

    busy: str
    """Nothing happened, later it may: a 429."""
    refusal: str
    """Nothing happened, and nothing will."""
    broken: str = "HTTP error 503: Service Unavailable"


def read_wish(text: str, tools: Sequence[str]) -> Wish:
    """`[tool:]kind[(seconds)][=calls][@chance]`. Raises `BadWish` naming the part that is wrong."""
    found = _WISH.fullmatch(text)
    if found is None:
        raise BadWish(f"fault '{text}': write it as [tool:]kind[(seconds)][=calls][@chance], e.g. {tools[0]}:429=3@0.5")
    kind, tool = found["kind"], found["tool"]
    if kind not in KINDS:
        raise BadWish(f"fault '{text}': there is no kind '{kind}': use one of {', '.join(KINDS)}")
    if tool is not None and tool not in tools:
        raise BadWish(f"fault '{text}': this server has no tool '{tool}': it has {', '.join(tools)}")
    if (kind == "slow") != (found["s"] is not None):
        raise BadWish(f"fault '{text}': seconds go with slow and with nothing else: slow(2.5)")
    chance = float(found["chance"] or 1)
    if not 0 < chance <= 1:
        raise BadWish(f"fault '{text}': a chance lies above 0 and up to 1")
    return Wish(kind, tool, int(found["calls"] or 1), chance, float(found["s"] or 0))


class FaultBook:
    """The faults that one server still owes, in a file of its directory: the server and the command line hold it side by side."""

    def __init__(self, directory: Path | None) -> None:
        """Without a directory the book is this process's own."""
        self._db = open_memory(_SCHEMA) if directory is None else open_book(directory / FILE, _SCHEMA)
        self._blank = directory is None
        """Nothing is owed, surely: nobody else can write into it, and nobody here has. Each query lets go of the interpreter."""

    def close(self) -> None:
        self._db.close()

    def ask(self, wish: Wish, seed: int = 0, origin: str = "") -> None:
        """Owe a fault. What came from the same `origin` before is not owed again: a server that dies of it is started anew."""
        self._blank = False
        values = (wish.kind, wish.tool, wish.seconds, wish.chance, seed, wish.calls, origin)
        self._db.execute(
            "INSERT INTO faults (kind, tool, seconds, chance, seed, remaining, origin) SELECT ?, ?, ?, ?, ?, ?, ?"
            " WHERE ? = '' OR NOT EXISTS (SELECT 1 FROM faults WHERE origin = ?)",
            (*values, origin, origin),
        )

    def left(self) -> list[Wish]:
        """What is still owed, in the order in which it is taken."""
        rows = self._db.execute("SELECT kind, tool, remaining, chance, seconds FROM faults WHERE remaining > 0 ORDER BY n")
        return [Wish(*row) for row in rows]

    def clear(self) -> int:
        """Owe nothing any more; how many calls are spared."""
        spared = sum(wish.calls for wish in self.left())
        self._db.execute("DELETE FROM faults")
        return spared

    def take(self, tool: str, *, listing: bool = False) -> Wish | None:
        """The fault that this call (or listing of a tool) runs into, if any. The draw is the same for the same seed."""
        if self._blank:
            return None
        owed = "FROM faults WHERE remaining > 0 AND (tool IS NULL OR tool = ?) AND (kind = 'drift') = ? ORDER BY n"
        if self._db.execute(f"SELECT 1 {owed}", (tool, listing)).fetchone() is None:
            return None
        with writing(self._db):
            for row in self._db.execute(f"SELECT n, chance, seed, seen, kind, seconds {owed}", (tool, listing)).fetchall():
                number, chance, seed, seen, kind, seconds = row
                hit = _draw(f"{seed}:{number}:{seen}") < chance
                self._db.execute("UPDATE faults SET seen = seen + 1, remaining = remaining - ? WHERE n = ?", (hit, number))
                if hit:
                    return Wish(kind, tool, 1, chance, seconds)
            return None


def _draw(name: str) -> float:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


class Faults:
    """A server's weather: its book, and how it says what goes wrong."""

    def __init__(self, book: FaultBook, words: Words) -> None:
        self.book, self.words = book, words

    def over(self, handle: Handler) -> Handler:
        """The handler, in this weather."""

        async def weathered(tool: str, arguments: dict[str, object], context: CallContext) -> CallToolResult:
            return await self.around(tool, lambda: handle(tool, arguments, context))

        return weathered

    async def around(
        self,
        tool: str,
        act: Callable[[], Awaitable[CallToolResult]],
        spoiled: Callable[[], Awaitable[object]] | None = None,
    ) -> CallToolResult:
        """Act, or go wrong. What the server itself refuses after all is answered as it is.

        `spoiled` is awaited before anything goes wrong: what the server does of a call that `act` may never hear of.
        """
        fault = self.book.take(tool)
        if fault is None:
            return await act()
        if spoiled is not None:
            await spoiled()
        if fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
            return await act()
        if not (fault.kind.endswith("_after_write") or fault.kind == "success_as_error"):
            return await self._instead(fault.kind)
        result = await act()
        if result.is_error:
            return result
        if fault.kind == "success_as_error":
            return result.model_copy(update={"is_error": True})
        return await self._instead(fault.kind.removesuffix("_after_write"))

    async def _instead(self, kind: str) -> CallToolResult:
        """What comes in place of an answer."""
        if kind == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind in ("hang", "die"):
            await asyncio.Event().wait()
        if kind == "429":
            return error_result(self.words.busy)
        if kind == "503":
            return error_result(self.words.broken)
        if kind == "error_as_success":
            return CallToolResult(content=[TextContent(type="text", text=self.words.refusal)])
        return json_result({"oracle": _NONSENSE})

    def listed(self, tools: Sequence[Tool]) -> list[Tool]:
        """The tools as listed this time."""
        return [_drifted(tool) if self.book.take(tool.name, listing=True) else tool for tool in tools]


def _drifted(tool: Tool) -> Tool:
    """The tool with one more argument that it wants."""
    schema = dict(tool.input_schema)
    schema["properties"] = {**schema.get("properties", {}), "api_version": {"type": "string"}}
    schema["required"] = [*schema.get("required", []), "api_version"]
    return tool.model_copy(update={"input_schema": schema})


def faults_of(options: argparse.Namespace, server: str, tools: Sequence[Tool], words: Words) -> Faults:
    """A server's weather from `--faults` and the environment, where a part may name the server: `x/createPosts:429=3`.

    Raises SystemExit naming the part that cannot be read.
    """
    book, names = FaultBook(options.data), [tool.name for tool in tools]
    named = {"--faults": options.faults, ENVIRONMENT: os.environ.get(ENVIRONMENT, "")}
    for source, line in named.items():
        for number, part in enumerate(filter(None, (part.strip() for part in line.split(",")))):
            whose, _, wish = part.rpartition("/")
            if whose not in ("", server):
                continue
            try:
                book.ask(read_wish(wish, names), options.fault_seed, f"{source} {number} {part}")
            except BadWish as error:
                raise SystemExit(f"{source}: {error}") from None
    return Faults(book, words)
