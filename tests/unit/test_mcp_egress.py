"""What may leave: addresses and paths, without a network."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from chimera.mcp.egress import EgressDenied, check_arguments, check_path, check_url, is_public

HOSTS = {
    "example.org": ["93.184.215.14"],
    "inside.example": ["10.0.0.7"],
    "mixed.example": ["93.184.215.14", "127.0.0.1"],
    "meta.example": ["169.254.169.254"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "nowhere.example": [],
}


async def resolve(host: str, port: int) -> list[str]:
    """A resolver like the system's: literals are themselves, odd spellings of numbers are numbers."""
    odd = {"2130706433": "127.0.0.1", "0x7f.1": "127.0.0.1", "127.1": "127.0.0.1", "localhost": "127.0.0.1"}
    if host in HOSTS:
        return HOSTS[host]
    if host in odd:
        return [odd[host]]
    if host.replace(".", "").isdigit() or ":" in host:
        return [host]
    raise OSError("name not known")


def ok(url: str, **more: Any) -> bool:
    try:
        asyncio.run(check_url(url, resolve=resolve, **more))
    except EgressDenied:
        return False
    return True


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07::1", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("fec0::1", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::5db8:d70e", True),
        ("2002:7f00:1::", False),
    ],
)
def test_only_addresses_of_the_open_internet_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://example.org/feed.xml", True),
        ("http://example.org:8080/feed", True),
        ("HTTPS://EXAMPLE.org/", True),
        ("ftp://example.org/", False),
        ("file:///etc/passwd", False),
        ("gopher://example.org/", False),
        ("https://", False),
        ("https://user:word@example.org/", False),
        ("https://example.org@127.0.0.1/", False),
        ("https://example.org\\@127.0.0.1/", False),
        ("https://example.org/ x", False),
        ("https://example.org:99999/", False),
        ("http://localhost/", False),
        ("http://127.0.0.1:8000/", False),
        ("http://127.1/", False),
        ("http://2130706433/", False),
        ("http://0x7f.1/", False),
        ("http://[::1]/", False),
        ("http://[::ffff:169.254.169.254]/", False),
        ("http://169.254.169.254/latest/meta-data", False),
        ("http://inside.example/", False),
        ("http://mixed.example/", False),
        ("http://meta.example/", False),
        ("http://mapped.example/", False),
        ("http://nowhere.example/", False),
        ("http://unknown.example/", False),
    ],
)
def test_a_url_may_only_lead_to_the_open_internet(url: str, allowed: bool) -> None:
    assert ok(url) is allowed


def test_an_allow_listed_host_may_be_private_and_no_other() -> None:
    assert ok("http://inside.example/", allow_hosts=["inside.example"])
    assert not ok("http://mixed.example/", allow_hosts=["inside.example"])
    assert ok("http://127.0.0.1:1/", allow_local=True)


def test_a_path_may_only_lie_under_the_named_folders(tmp_path: Path) -> None:
    root = tmp_path / "feeds"
    root.mkdir()
    (root / "a.xml").write_text("x")
    (root / "link.xml").symlink_to(tmp_path / "secret")
    assert check_path(str(root / "a.xml"), [root]) == root / "a.xml"
    assert check_path("/etc/hosts", [Path("/")]) == Path("/etc/hosts").resolve()
    (tmp_path / "other").symlink_to(root)
    assert check_path(str(root / "a.xml"), [tmp_path / "other"]) == root / "a.xml"
    assert check_path(str(root), [root]) == root
    (tmp_path / "far" / "feeds").mkdir(parents=True)
    (tmp_path / "away").symlink_to(tmp_path / "far" / "feeds")
    with pytest.raises(EgressDenied):  # what `away/..` means is where the link leads, and not where its name stands
        check_path(str(root / "a.xml"), [tmp_path / "away" / ".." / "feeds"])
    for path in (str(root / ".." / "secret"), "/etc/passwd", str(root / "link.xml"), str(root) + "-other/a", "~/x", "a\x00"):
        with pytest.raises(EgressDenied):
            check_path(path, [root])
    with pytest.raises(EgressDenied, match="no folder at all"):
        check_path("a.xml", [])


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        ({"text": "see http://localhost/admin and /etc/passwd"}, True),
        ({"text": "http://localhost/"}, True),
        ({"source": "https://example.org/feed"}, True),
        ({"source": "http://localhost/feed"}, False),
        ({"source": "data:text/xml,<rss/>"}, False),
        ({"source": "feeds/../../etc/passwd"}, False),
        ({"callback_url": "http://meta.example/"}, False),
        ({"media": {"paths": ["/etc/passwd"]}}, False),
        ({"media": {"url": "file:/etc/passwd"}}, False),
        ({"media_ids": ["12", "13"]}, True),
    ],
)
def test_places_are_judged_wherever_they_stand_and_words_are_not(arguments: dict[str, Any], allowed: bool, tmp_path: Path) -> None:
    async def go() -> None:
        await check_arguments(arguments, content=["text"], locations=["source"], roots=[tmp_path], resolve=resolve)

    if allowed:
        asyncio.run(go())
        return
    with pytest.raises(EgressDenied, match="argument '"):
        asyncio.run(go())
