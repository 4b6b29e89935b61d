"""`chimera mcp`, `chimera media` and `chimera sandbox show`: what they tell, what they refuse, and with which exit code."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from mcp import Client
from typer.testing import CliRunner, Result

from chimera.cli import mcp as mcp_cli
from chimera.cli import media as media_cli
from chimera.cli import sandbox as sandbox_cli
from chimera.cli.drift import DRIFTED
from chimera.commands import switches
from chimera.errors import ChimeraError
from chimera.eventlog.switches import Switch
from chimera.mcp import pin as pins_module
from chimera.mcp.own import Readers, guarded, own_server
from chimera.mcp.pin import differences
from chimera.mcp.profiles import PROFILES_DIR
from chimera.mcp.sandbox.art import picture
from chimera.mcp.sandbox.gram import Gram
from chimera.mcp.sandbox.jobs import JobBook
from chimera.mcp.sandbox.search import TAVILY_TOOLS
from chimera.mcp.sandbox.timeline import Timeline
from chimera.media.store import MediaStore

PNG = picture("a boat", longest=64)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CHIMERA_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "300")
    return tmp_path


def given(app: Any, *words: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [*words, "--json"])
    assert result.exit_code == code, (result.output, result.exception)
    return orjson.loads(result.stdout)


def plain(app: Any, *words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_list_names_every_profile_what_it_offers_and_which_is_chosen(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {row["profile"]: row for row in given(mcp_cli.app, "list")["profiles"]}
    assert set(rows) == {path.stem for path in PROFILES_DIR.glob("*.yaml")}
    assert (rows["ideogram"]["serves"], rows["midjourney"]["serves"]) == (["image"], [])
    monkeypatch.setenv("CHIMERA_PROVIDERS", '{"image": "midjourney"}')
    rows = {row["profile"]: row for row in given(mcp_cli.app, "list")["profiles"]}
    assert (rows["ideogram"]["serves"], rows["midjourney"]["serves"]) == ([], ["image"])
    assert "social.publish" in plain(mcp_cli.app, "list").stdout


def test_a_provider_that_offers_nothing_of_the_kind_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHIMERA_PROVIDERS", '{"image": "brave"}')
    result = plain(mcp_cli.app, "list")
    assert isinstance(result.exception, ChimeraError)
    assert "provider 'brave' of 'image'" in str(result.exception)


def test_a_dry_run_shows_exactly_what_would_be_sent(home: Path) -> None:
    words = ("call", "social.publish", "--platform", "x", "-i", "text=A boat.", "-i", "disclosure_level=automated")
    told = given(mcp_cli.app, *words, "--dry-run")
    assert told["outcome"] == "would be sent"
    assert told["call"]["arguments"] == {"text": "A boat.", "made_with_ai": True}
    assert (told["call"]["tool_class"], told["call"]["cost_usd"], told["call"]["mode"]) == ("reconcilable", "0.01", "live")
    assert given(mcp_cli.app, *words, "--dry-run", "--mode", "sandbox")["call"]["tool_class"] == "keyed"
    assert plain(mcp_cli.app, *words).exit_code == 2, "nothing is ever sent from here"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("search.web",), "needs query"),
        (("social.publish", "-i", "text=a", "-i", "disclosure_level=none"), "name the platform"),
        (("image.generate", "-i", "prompt=a", "-i", "aspect=2:1"), "cannot be had here"),
        (("video.generate", "-i", "prompt=a", "-i", "aspect=1:1", "-i", "image_url=https://evil.example/a.png"), "media store"),
    ],
)
def test_what_would_be_refused_says_why_with_exit_code_3(words: tuple[str, ...], says: str, home: Path) -> None:
    assert says in given(mcp_cli.app, "call", *words, "--dry-run", code=3)["detail"]


def test_a_tool_that_is_not_as_pinned_is_shown_pinned_again_and_then_as_pinned(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profiles = home / "profiles"
    profiles.mkdir()
    for path in PROFILES_DIR.glob("tavily.*"):
        shutil.copy(path, profiles)
    monkeypatch.setenv("CHIMERA_PROFILES", str(profiles))
    monkeypatch.setattr("chimera.mcp.profiles.PROVIDERS", {"search": "tavily"})

    async def listed(*_: Any, **__: Any) -> list[dict[str, Any]]:
        return [tool.model_dump(by_alias=True, exclude_none=True, mode="json") for tool in TAVILY_TOOLS]

    monkeypatch.setattr(pins_module, "listed_tools", listed)  # as over any transport (test_vendors_served.py), at once
    assert given(mcp_cli.app, "verify", "tavily")["profiles"] == [{"profile": "tavily", "drift": {}, "error": "", "listed": {}}]
    pins = profiles / "tavily.schemas.json"
    body = json.loads(pins.read_text())
    body["tools"]["tavily_search"]["schema"]["properties"]["query"]["type"] = "integer"
    pins.write_text(json.dumps(body))
    told = given(mcp_cli.app, "verify", "tavily", "--quarantine", "--dry-run", code=3)
    assert told["profiles"][0]["drift"] == {"tavily_search": ['$.properties.query.type: "integer" -> "string"']}
    assert (told["quarantined"], told["would_quarantine"]) == ([], ["tool:tavily.tavily_search"])
    assert given(mcp_cli.app, "pin", "tavily", "--dry-run")["pinned"] == []
    assert json.loads(pins.read_text()) == body
    assert given(mcp_cli.app, "pin", "tavily", "--yes")["pinned"] == ["tavily"]
    assert given(mcp_cli.app, "verify", "tavily")["profiles"][0]["drift"] == {}
    (search,) = [row for row in given(mcp_cli.app, "tools", "tavily")["tools"] if row["tool"] == "tavily_search"]
    assert (search["pinned"], search["used_by"]) == ("as pinned", ["search.news", "search.web"])
    assert [row["is"] for row in given(mcp_cli.app, "status")["servers"]] == ["well"]
    closed = Switch("tool:tavily.tavily_search", True, DRIFTED, 1, "kim", 0, "k", 0)
    other = Switch("tool:x.createPosts", True, "", 1, "kim", 0, "k", 0)
    board = SimpleNamespace(switches={each.scope: each for each in (closed, other)})
    monkeypatch.setattr(switches, "board", lambda settings: board)
    (row,) = given(mcp_cli.app, "status", code=1)["servers"]
    assert (row["is"], row["stopped"]) == ("quarantined", {"tavily.tavily_search": f"{DRIFTED} (kim)"})
    assert "tavily_search is stopped" in plain(mcp_cli.app, "status").stdout


def test_differences_name_what_went_came_and_changed() -> None:
    def pin(**tools: Any) -> dict[str, Any]:
        return {"tools": {name: {"sha256": str(schema), "schema": schema} for name, schema in tools.items()}}

    old, new = pin(a={"x": 1, "y": 2}, b={}, c={}), pin(a={"x": 2, "z": 3}, c={}, d={})
    assert differences(old, new) == {
        "a": ["$.x: 1 -> 2", "$.y is gone", "$.z is new"],
        "b": ["is not listed any more"],
        "d": ["is not pinned"],
    }
    assert differences(old, old) == {}


def test_media_are_listed_verified_and_copied_out(home: Path) -> None:
    async def put() -> str:
        async def chunks() -> AsyncIterator[bytes]:
            yield PNG

        return (await MediaStore(home / "media").put(chunks())).sha256

    digest = asyncio.run(put())
    assert given(media_cli.app, "list")["media"] == [{"sha256": digest, "type": "image/png", "bytes": len(PNG)}]
    told = given(media_cli.app, "verify")
    assert (told["sound"], told["damaged"], told["missing"]) == (1, [], None), "without read models nobody knows what is missing"
    copy = home / "copy.png"
    assert plain(media_cli.app, "get", digest[:8], "--to", str(copy)).exit_code == 0
    assert copy.read_bytes() == PNG
    assert isinstance(plain(media_cli.app, "get", digest[:8], "--to", str(copy)).exception, ChimeraError)
    (home / "media" / "sha256" / digest[:2] / f"{digest}.png").write_bytes(PNG + b"x")
    assert given(media_cli.app, "verify", code=1)["damaged"][0]["name"] == f"{digest}.png"


def test_a_sandbox_shows_what_it_keeps(home: Path) -> None:
    timeline = Timeline(home / "mcp" / "x")
    timeline.post("ava", "a <b>post</b>", None, {})
    gram = Gram(home / "mcp" / "instagram")
    gram.publish("ava", gram.contain("ava", "m.png", "image", "a picture"), None, 1)
    JobBook(home / "mcp" / "ideogram").order("ava", "k", "ideogram_generate", {"prompt": "a boat"}, Decimal("0.06"))
    assert [row["text"] for row in given(sandbox_cli.app, "show", "x")["rows"]] == ["a <b>post</b>"]
    assert [row["text"] for row in given(sandbox_cli.app, "show", "instagram", "--account", "ava")["rows"]] == ["a picture"]
    assert [row["prompt"] for row in given(sandbox_cli.app, "show", "ideogram")["rows"]] == ["a boat"]
    assert "a boat" in plain(sandbox_cli.app, "show", "ideogram").stdout
    assert given(sandbox_cli.app, "show", "x", "--account", "nobody")["rows"] == []
    assert plain(sandbox_cli.app, "show", "nothing").exit_code == 2


# --- Chimera's own server --------------------------------------------------------------------------------------------


def readers_of() -> Readers:
    def broken() -> dict[str, Any]:
        raise ChimeraError("no stack runs here: start it with `chimera up`")

    def trace(target: str) -> dict[str, Any]:
        return {"target": target, "tree": []}

    return Readers(lambda: {"agents": 6}, broken, trace, lambda: {"questions": []}, lambda name: {"name": name})


def test_chimeras_own_server_reads_and_has_no_tool_that_acts() -> None:
    async def story() -> None:
        async with Client(own_server(readers_of())) as client:
            tools = (await client.list_tools()).tools
            assert {tool.name for tool in tools} == {"fleet_status", "waiting_cards", "trace", "sample_questions", "ask_question"}
            assert all(tool.annotations is not None and tool.annotations.read_only_hint for tool in tools)
            assert (await client.call_tool("fleet_status", {})).structured_content == {"agents": 6}
            assert (await client.call_tool("trace", {"target": "ava/1"})).structured_content == {"target": "ava/1", "tree": []}
            refused = await client.call_tool("waiting_cards", {})
            assert refused.is_error
            assert "chimera up" in str(refused.content)
            assert (await client.call_tool("approve", {"card": "ava/1.4.1"})).is_error
            assert (await client.call_tool("fleet_status", {"verb": "agent.pause"})).is_error

    asyncio.run(story())


@pytest.mark.parametrize(("shown", "status"), [(b"Bearer right", 200), (b"Bearer wrong", 401), (b"", 401), (b"right", 401)])
def test_over_http_only_who_shows_the_token_comes_in(shown: bytes, status: int) -> None:
    sent: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            sent.append(message["status"])

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    headers = [(b"authorization", shown)] if shown else []
    asyncio.run(guarded(app, "right")({"type": "http", "headers": headers}, receive, send))  # type: ignore[arg-type]
    assert sent == [status]


def test_without_a_long_token_nothing_is_served_over_http(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(mcp_cli.TOKEN, "short")
    result = plain(mcp_cli.app, "serve", "--http")
    assert isinstance(result.exception, ChimeraError)
    assert "openssl rand" in str(result.exception)
