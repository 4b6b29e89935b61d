"""The search sandboxes: Brave's and Tavily's tools and words, over the articles of feeds that lie in folders.

The one rule: what is found stands in a feed; words that no article holds find nothing.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
from mcp.types import CallToolResult, TextContent

from chimera.mcp.sandbox.faults import Words
from chimera.mcp.sandbox.feed_text import BrokenFeed, parse_feed
from chimera.mcp.sandbox.serving import error_result
from chimera.mcp.sandbox.timeline import PlatformRefused
from chimera.mcp.sandbox.vendor import Vendor, recorded_tools

BRAVE_TOOLS, TAVILY_TOOLS = recorded_tools("brave"), recorded_tools("tavily")
BRAVE_WORDS = Words(busy="429 Too Many Requests", refusal="422 Unprocessable Entity", broken="503 Service Unavailable")
TAVILY_WORDS = Words(
    busy="Tavily API error: 429 Your request has been blocked due to excessive requests",
    refusal="Tavily API error: 400 Query is invalid",
    broken="Tavily API error: 503 Service Unavailable",
)
_WORD = re.compile(r"\w{3,}")


class Index:
    """The articles of all feeds under some folders, and the calls that came."""

    def __init__(self, directory: Path, roots: Sequence[Path], clock: Callable[[], float] = time.time) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._roots, self._clock = roots, clock
        self._db = sqlite3.connect(directory / "calls.sqlite3", timeout=30, isolation_level=None, check_same_thread=False)
        self._db.execute("CREATE TABLE IF NOT EXISTS calls (n INTEGER PRIMARY KEY, tool TEXT, account TEXT, key TEXT, at REAL)")

    def close(self) -> None:
        self._db.close()

    def count_call(self, tool: str, account: str, key: str | None) -> None:
        """A call came in, whatever becomes of it."""
        self._db.execute("INSERT INTO calls (tool, account, key, at) VALUES (?, ?, ?, ?)", (tool, account, key, self._clock()))

    def find(self, query: str, most: int) -> list[dict[str, Any]]:
        """Articles that hold words of the query, the best first; a word in the title counts three times."""
        wanted = {word.lower() for word in _WORD.findall(query)}
        scored = []
        for article in self._articles():
            title = {word.lower() for word in _WORD.findall(article["title"])}
            text = {word.lower() for word in _WORD.findall(article["summary"] + " " + article["text"])}
            score = 3 * len(wanted & title) + len(wanted & text)
            if score:
                scored.append((score, article["url"], article))
        return [article for _, _, article in sorted(scored, key=lambda each: (-each[0], each[1]))[:most]]

    def _articles(self) -> list[dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for root in self._roots:
            for path in sorted(root.glob("*.xml")):
                try:
                    articles = parse_feed(path.read_bytes(), 100)["articles"]
                except (BrokenFeed, OSError):
                    continue  # a feed that nobody can read holds nothing to find
                found |= {article["url"]: article for article in articles}
        return list(found.values())


def brave(index: Index) -> Vendor:
    """Brave: one text block of JSON for each result."""

    async def act(tool: str, arguments: dict[str, Any], account: str, key: str | None) -> CallToolResult:
        if tool not in ("brave_web_search", "brave_news_search"):
            raise PlatformRefused(501, "Not Implemented", f"the sandbox does not play {tool}")
        found = await asyncio.to_thread(index.find, arguments["query"], arguments.get("count", 10))
        if not found:
            return CallToolResult(content=[TextContent(type="text", text="No results found")])
        return CallToolResult(content=[TextContent(type="text", text=orjson.dumps(_brave(each)).decode()) for each in found])

    def no(tool: str, refused: PlatformRefused) -> CallToolResult:
        return error_result(f"{refused.status} {refused.detail}")

    return Vendor("brave", BRAVE_TOOLS, BRAVE_WORDS, act, no, index)


def _brave(article: dict[str, Any]) -> dict[str, Any]:
    text = article["text"] or article["summary"]
    return {"url": article["url"], "title": article["title"], "description": text[:600], "page_age": article.get("published")}


def tavily(index: Index) -> Vendor:
    """Tavily: one text, a paragraph for each result."""

    async def act(tool: str, arguments: dict[str, Any], account: str, key: str | None) -> CallToolResult:
        if tool != "tavily_search":
            raise PlatformRefused(501, "Not Implemented", f"the sandbox does not play {tool}")
        found = await asyncio.to_thread(index.find, arguments["query"], int(arguments.get("max_results", 5)))
        lines = ["Detailed Results:"]
        for article in found:
            content = (article["text"] or article["summary"]).replace("\n", " ")
            lines += [f"\nTitle: {article['title']}", f"URL: {article['url']}", f"Content: {content[:800]}"]
        return CallToolResult(content=[TextContent(type="text", text="\n".join(lines))])

    def no(tool: str, refused: PlatformRefused) -> CallToolResult:
        return error_result(f"Tavily API error: {refused.status} {refused.detail}")

    return Vendor("tavily", TAVILY_TOOLS, TAVILY_WORDS, act, no, index)
