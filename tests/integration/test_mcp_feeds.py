"""The feed reader over real transports, reading real files and a real web server."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from chimera.mcp.gate import Gate
from chimera.mcp.profiles import load_profiles
from chimera.mcp.records import Outcome, ToolCallRecord
from chimera.mcp.sandbox.feeds import LARGEST_FEED

PROFILES = load_profiles(names=["feeds"])
RSS = (
    '<?xml version="1.0"?><rss version="2.0"><channel><title>Local</title><link>https://l.example/</link>'
    "<item><guid>1</guid><title>One</title><description>&lt;b&gt;Bold&lt;/b&gt; words</description></item></channel></rss>"
)


class _Web(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, headers, body = 200, {"Content-Type": "application/rss+xml"}, RSS.encode()
        if self.path == "/moved":
            status, headers, body = 302, {"Location": "/feed"}, b""
        elif self.path == "/loop":
            status, headers, body = 302, {"Location": "/loop"}, b""
        elif self.path == "/inside":
            status, headers, body = 302, {"Location": "file:///etc/passwd"}, b""
        elif self.path == "/big":
            body = b" " * (LARGEST_FEED + 10)
        elif self.path == "/gone":
            status = 410
        elif self.path == "/down":
            status = 503
        elif self.path == "/page":
            body = b"<html></html>"
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the reader hangs up on what is too large
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return None


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Web)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@contextlib.contextmanager
def reader(*options: str) -> Iterator[str]:
    command = [sys.executable, "-m", "chimera.mcp.sandbox.feeds", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def read(source: str, home: Path, addresses: dict[str, str] | None = None, **more: object) -> Outcome:
    async def go() -> Outcome:
        async def on_call(record: ToolCallRecord) -> None:
            assert record.capability == "feeds.read"

        async with Gate(PROFILES, addresses or {}, on_call=on_call, home=home, **more) as gate:  # type: ignore[arg-type]
            return await gate.call("feeds.read", {"source": source, "limit": 5}, agent="a", tenant="t")

    return asyncio.run(asyncio.wait_for(go(), 60))


def test_files_are_read_over_stdio_and_a_broken_one_is_named_with_its_line(tmp_path: Path) -> None:
    folder = tmp_path / "mcp" / "feeds"
    folder.mkdir(parents=True)
    (folder / "good.xml").write_text(RSS)
    (folder / "broken.xml").write_text(RSS[:-30])
    good = read(str(folder / "good.xml"), tmp_path)
    assert (good.result, good.taint) == ("ok", "allowlisted"), good
    assert [article["text"] for article in good.data["articles"]] == ["Bold words"]
    broken = read(str(folder / "broken.xml"), tmp_path)
    assert (broken.result, broken.reason) == ("refused", "broken_feed")
    assert "broken.xml: line 1, column" in broken.detail
    assert read(str(folder / "none.xml"), tmp_path).reason == "not_found"
    assert read(str(tmp_path / "secret.xml"), tmp_path).reason == "egress"


def test_the_web_is_read_over_http_with_redirects_followed_and_limits_kept(web: str, tmp_path: Path) -> None:
    with reader("--allow-local", "--data", str(tmp_path)) as url:
        expected = {
            "/feed": ("ok", ""),
            "/moved": ("ok", ""),
            "/loop": ("not_sent", "unreachable"),
            "/inside": ("refused", "not_allowed"),
            "/big": ("refused", "too_large"),
            "/gone": ("refused", "not_found"),
            "/down": ("not_sent", "unreachable"),
            "/page": ("refused", "broken_feed"),
        }
        found = {}
        for path in expected:
            outcome = read(web + path, tmp_path, {"feeds_url": url}, allow_local=True)
            found[path] = (outcome.result, outcome.reason)
    assert found == expected


def test_the_reader_itself_refuses_private_addresses_even_if_the_gate_let_one_pass(web: str, tmp_path: Path) -> None:
    with reader("--data", str(tmp_path)) as url:
        outcome = read(web + "/feed", tmp_path, {"feeds_url": url}, allow_local=True)
    assert (outcome.result, outcome.reason) == ("refused", "not_allowed"), outcome
    assert read(web + "/feed", tmp_path).reason == "egress"
