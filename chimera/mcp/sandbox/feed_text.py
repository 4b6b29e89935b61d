"""RSS 2.0 and Atom bytes to plain articles. Pure.

The one rule: what comes out is text. No markup, script or entity of the outside world survives into an article.
"""

from __future__ import annotations

import calendar
import hashlib
import io
import re
import time
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any
from xml.parsers import expat
from xml.sax import SAXParseException

import feedparser

_BLOCKS = frozenset(
    re.findall(
        r"\w+",
        """
    address article aside blockquote br dd div dl dt figcaption figure footer h1 h2 h3 h4 h5 h6 header hr li main nav ol p
    pre section table td th tr ul""",
    )
)
_SILENT = frozenset(("script", "style", "template", "noscript", "iframe", "object", "svg", "head", "title"))
_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\u00ad\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class BrokenFeed(Exception):
    """The bytes are no usable feed; the text says what and, where known, at which line and column."""


class _TextOnly(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._silent: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _SILENT:
            self._silent.append(tag)
        elif tag in _BLOCKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._silent:
            while self._silent.pop() != tag:
                continue
        elif tag in _BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.parts.append(data)


def plain_text(markup: str) -> str:
    """HTML to readable text: blocks become lines, scripts and invisible characters go, blanks are folded."""
    reader = _TextOnly()
    reader.feed(markup)
    reader.close()
    text = _INVISIBLE.sub("", "".join(reader.parts)).replace("\xa0", " ")
    lines = (re.sub(r"[ \t\r]+", " ", line).strip() for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


def parse_feed(raw: bytes, limit: int) -> dict[str, Any]:
    """`{feed: {title, link}, articles: [{id, title, url, published, summary, text}]}`, at most `limit` articles.

    `published` is ISO 8601 in UTC or None; `url` is http(s) or None. Raises BrokenFeed.
    """
    try:
        parsed = feedparser.parse(io.BytesIO(raw), sanitize_html=False, resolve_relative_uris=False)  # `plain_text` keeps no markup
    except (ValueError, OverflowError) as error:  # what is no XML it reads on by itself, and fails at half a surrogate pair
        raise BrokenFeed(_first_fault(raw) or type(error).__name__) from error
    trouble = parsed.get("bozo_exception")
    if isinstance(trouble, SAXParseException):
        raise BrokenFeed(_first_fault(raw) or trouble.getMessage())
    if not parsed.get("version"):
        raise BrokenFeed("this is neither RSS nor Atom")
    return {
        "feed": {"title": plain_text(parsed.feed.get("title", "")), "link": _web_address(parsed.feed.get("link"))},
        "articles": [_article(entry) for entry in parsed.entries[:limit]],
    }


def _first_fault(raw: bytes) -> str | None:
    """Where the bytes themselves stop being XML (feedparser counts lines after adding a declaration of its own)."""
    reader = expat.ParserCreate()
    try:
        reader.Parse(raw, True)
    except expat.ExpatError as error:
        return f"line {error.lineno}, column {error.offset + 1}: {expat.ErrorString(error.code)}"
    return None


def _article(entry: Any) -> dict[str, Any]:
    summary = plain_text(entry.get("summary", ""))
    contents = [plain_text(content.get("value", "")) for content in entry.get("content", [])]
    url = _web_address(entry.get("link"))
    title = plain_text(entry.get("title", ""))
    identity = entry.get("id") or url or hashlib.sha256(f"{title}\n{summary}".encode()).hexdigest()
    when = entry.get("published_parsed") or entry.get("updated_parsed")
    return {
        "id": str(identity)[:500],
        "title": title,
        "url": url,
        "published": _iso(when),
        "summary": summary,
        "text": max([*contents, summary], key=len),
    }


def _iso(when: time.struct_time | None) -> str | None:
    """A date in UTC; None for one that the calendar does not have (the year 0), which takes nobody else's with it."""
    try:
        return datetime.fromtimestamp(calendar.timegm(when), UTC).isoformat() if when else None
    except (ValueError, OverflowError):
        return None


def _web_address(link: Any) -> str | None:
    text = str(link or "").strip()
    return text if text.lower().startswith(("http://", "https://")) else None
