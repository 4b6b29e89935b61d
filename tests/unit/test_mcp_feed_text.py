"""Feeds become plain text or a clear complaint."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera.mcp.sandbox.feed_text import BrokenFeed, parse_feed, plain_text

RSS = b"""<?xml version="1.0"?><rss version="2.0" xmlns:content="http://purl.org/rss/1.0/modules/content/"><channel>
<title>News &amp; more</title><link>https://news.example/</link>
<item><guid>g1</guid><title>First &lt;b&gt;story&lt;/b&gt;</title><link>https://news.example/1</link>
<pubDate>Sun, 22 Nov 2026 10:00:00 +0100</pubDate><description>&lt;p&gt;Short.&lt;/p&gt;</description>
<content:encoded><![CDATA[<p>Long text.</p><script>alert(1)</script><ul><li>one</li><li>two</li></ul>]]></content:encoded></item>
<item><title>Second</title><link>javascript:alert(1)</link><description>Body</description></item>
</channel></rss>"""
ATOM = b"""<feed xmlns="http://www.w3.org/2005/Atom"><title>A</title><link href="https://a.example/"/>
<entry><id>urn:1</id><title>T</title><link href="https://a.example/1"/><updated>2026-11-22T10:00:00Z</updated>
<summary>S</summary></entry></feed>"""


def test_rss_articles_come_out_as_text_with_times_in_utc() -> None:
    found = parse_feed(RSS, 10)
    assert found["feed"] == {"title": "News & more", "link": "https://news.example/"}
    first, second = found["articles"]
    assert first == {
        "id": "g1",
        "title": "First story",
        "url": "https://news.example/1",
        "published": "2026-11-22T09:00:00+00:00",
        "summary": "Short.",
        "text": "Long text.\none\ntwo",
    }
    assert second["url"] is None
    assert second["published"] is None
    assert len(parse_feed(RSS, 1)["articles"]) == 1


def test_an_atom_entry_is_an_article_and_an_empty_feed_has_none() -> None:
    (article,) = parse_feed(ATOM, 10)["articles"]
    assert (article["id"], article["published"], article["text"]) == ("urn:1", "2026-11-22T10:00:00+00:00", "S")
    assert parse_feed(b'<rss version="2.0"><channel><title>E</title></channel></rss>', 10)["articles"] == []


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (RSS[:-60], "line 6, column 53"),
        (b"<rss version='2.0'><channel><title>a</titel></channel></rss>", "line 1, column"),
        (b"<html><body>hello</body></html>", "neither RSS nor Atom"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "line 1"),
        (b"", "neither RSS nor Atom|line 1"),
    ],
)
def test_a_broken_feed_is_named_with_line_and_column(raw: bytes, says: str) -> None:
    with pytest.raises(BrokenFeed, match=says):
        parse_feed(raw, 10)


def test_entities_from_outside_are_never_opened() -> None:
    raw = (
        b'<?xml version="1.0"?><!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
        b'<rss version="2.0"><channel><title>a</title><item><title>t &x;</title></item></channel></rss>'
    )
    try:
        found = str(parse_feed(raw, 10))
    except BrokenFeed as error:
        found = str(error)
    assert "root:" not in found


@given(st.text())
def test_text_has_no_markup_left_that_a_reader_would_not_see(markup: str) -> None:
    text = plain_text(f"<p>a</p><script>{markup.replace('<', '')}</script><p>b</p>")
    assert text == "a\nb"


@given(st.binary(max_size=400))
def test_random_bytes_are_a_feed_or_broken_and_nothing_else(raw: bytes) -> None:
    with contextlib.suppress(BrokenFeed):
        assert parse_feed(raw, 5)["articles"] is not None


@pytest.mark.parametrize("when", [b"0000-01-01T00:00:00Z", b"9999-12-31T23:59:59-12:00", b"0001-01-01T00:00:00+12:00"])
def test_an_item_with_a_date_that_no_calendar_has_takes_no_other_item_along(when: bytes) -> None:
    raw = (
        b"<rss version='2.0'><channel><title>t</title><item><title>one</title></item>"
        b"<item><title>two</title><pubDate>" + when + b"</pubDate></item></channel></rss>"
    )
    assert [(a["title"], a["published"]) for a in parse_feed(raw, 10)["articles"]] == [("one", None), ("two", None)]


@pytest.mark.parametrize("reference", [b"&#xD800;", b"&#xFFFFFFFFFFFF;", b"&#99999999999;"])
def test_a_reference_to_what_is_no_character_breaks_a_feed_and_not_its_reader(reference: bytes) -> None:
    with pytest.raises(BrokenFeed, match="line 1"):
        parse_feed(b"<rss version='2.0'><channel><title>t" + reference + b"</title></channel></rss>", 10)
