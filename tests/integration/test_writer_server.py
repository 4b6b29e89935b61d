"""The writer as a real MCP server: over stdio and HTTP, through the gate, with a real HTTP endpoint behind it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, StdioServerParameters
from pydantic import SecretStr

from chimera.mcp.gate import Gate
from chimera.mcp.pins import tool_sha256
from chimera.mcp.profiles import PROFILES_DIR, load_profiles
from chimera.mcp.records import ToolCallRecord
from chimera.mcp.sandbox.writer.model import Endpoint, answer
from chimera.mcp.sandbox.writer.server import writer_server
from chimera.policy.boardkit import parse_soul
from chimera.policy.brief import load_brief
from chimera.policy.writing import AnglesRequest, AnglesResponse, Article, DraftRequest, DraftResponse, RateRequest, read_rating

ROOT = Path(__file__).resolve().parents[2]
SECRET = "sk-sentinel-5f2d"
BRIEF = load_brief(ROOT / "examples/briefs/autumn.yaml")
SOUL = parse_soul((ROOT / "examples/souls/dov.md").read_text(encoding="utf-8"))
ARTICLE = Article(
    id="repair",
    title="Repair café mends 312 things in a year",
    url="https://harbour-courier.example/2026/10/repair-cafe",
    text="The repair café in Mill Lane mended 312 of the 401 broken things that people carried in this year.",
)
ANGLES = AnglesRequest(brief=BRIEF, soul=SOUL, articles=[ARTICLE], count=1)
WRITER = [sys.executable, "-m", "chimera.mcp.sandbox.writer"]


@asynccontextmanager
async def writer_over_http(**env: str) -> AsyncIterator[str]:
    """A writer process; yields its address. Killed at the end, whatever happened."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("CHIMERA_LLM")}
    process = await asyncio.create_subprocess_exec(
        *WRITER, "--http", "--port", "0", stdout=asyncio.subprocess.PIPE, env={**clean, **env}, cwd=ROOT
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            line = await process.stdout.readline()
        yield line.decode().strip()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


Reply = Callable[[dict[str, Any], int], tuple[int, str]]
"""(request body, number of the call) -> (status, body); status 0 closes the connection without an answer."""


@asynccontextmanager
async def model_endpoint(reply: Reply) -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """A real HTTP server that speaks `/v1/chat/completions`; yields its address and what it was asked."""
    asked: list[dict[str, Any]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)}
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        asked.append({"path": head.split(" ")[1], "headers": headers, "body": body})
        status, text = reply(body, len(asked))
        if status:
            raw = text.encode()
            writer.write(f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(raw)}\r\n".encode())
            writer.write(b"connection: close\r\n\r\n" + raw)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", asked


def chat(content: str) -> str:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]})


async def complete(target: Any, purpose: str, request: Any) -> Any:
    async with Client(target, read_timeout_seconds=30) as client:
        return await client.call_tool(
            "complete", {"purpose": purpose, "request": request.model_dump(mode="json")}, read_timeout_seconds=30
        )


def draft_request(found: dict[str, Any]) -> DraftRequest:
    angle = AnglesResponse.model_validate(found).angles[0]
    return DraftRequest(brief=BRIEF, soul=SOUL, angle=angle, articles=[ARTICLE], platform="x", format="post", max_chars=280)


async def walk(target: Any) -> None:
    """Angles, a draft of the first, its rating: each answer fits its model."""
    found = await complete(target, "angles", ANGLES)
    made = await complete(target, "draft", draft_request(found.structured_content))
    text = DraftResponse.model_validate(made.structured_content).text
    rated = await complete(
        target, "rate", RateRequest(text=text, brief=BRIEF, soul=SOUL, criteria=BRIEF.acceptance, articles=[ARTICLE])
    )
    scored = read_rating(rated.structured_content)
    assert "312 of the 401" in text
    assert 0.7 < scored.score < 1
    assert all(c.met for c in scored.criteria)
    assert rated.structured_content["writer"] == "offline"


def test_the_whole_walk_over_stdio() -> None:
    asyncio.run(walk(StdioServerParameters(command=WRITER[0], args=WRITER[1:], cwd=str(ROOT))))


def test_the_whole_walk_over_http_with_a_health_page() -> None:
    async def run() -> None:
        async with writer_over_http() as address:
            async with httpx2.AsyncClient() as web:
                assert (await web.get(f"{address}/healthz")).status_code == 200
            await walk(f"{address}/mcp")

    asyncio.run(run())


def test_the_gate_completes_texts_and_its_record_holds_no_word_of_them() -> None:
    records: list[ToolCallRecord] = []

    async def keep(record: ToolCallRecord) -> None:
        records.append(record)

    async def run() -> None:
        profiles = load_profiles(PROFILES_DIR, ["writer"])
        async with writer_over_http() as address, Gate(profiles, {"writer_url": f"{address}/mcp"}, on_call=keep) as gate:
            inputs = {"purpose": "angles", "request": ANGLES.model_dump(mode="json")}
            outcome = await gate.call("text.complete", inputs, agent="agent/1", tenant="acme")
            assert outcome.result == "ok", outcome
            wish = draft_request(outcome.data).model_dump(mode="json")
            made = await gate.call("text.complete", {"purpose": "draft", "request": wish}, agent="agent/1", tenant="acme")
            assert "312" in DraftResponse.model_validate(made.data).text
            broken = await gate.call("text.complete", {"purpose": "rate", "request": {}}, agent="agent/1", tenant="acme")
            assert (broken.result, broken.reason) == ("refused", "bad_request")

    asyncio.run(run())
    assert len(records) == 3
    assert "Mill Lane" not in json.dumps([r.to_json() for r in records])


def test_the_pinned_schema_is_the_one_that_the_server_lists() -> None:
    async def run() -> str:
        async with Client(
            StdioServerParameters(command=WRITER[0], args=WRITER[1:], cwd=str(ROOT)), read_timeout_seconds=30
        ) as client:
            return tool_sha256((await client.list_tools()).tools[0].model_dump(by_alias=True, exclude_none=True))

    assert load_profiles(PROFILES_DIR, ["writer"]).by_name["writer"].tools["complete"].sha256 == asyncio.run(run())


def ask_model(reply: Reply, purpose: str, request: Any) -> tuple[Any, list[dict[str, Any]]]:
    """The tool in this process, the model behind a real HTTP server."""

    async def run() -> tuple[Any, list[dict[str, Any]]]:
        async with model_endpoint(reply) as (url, asked), httpx2.AsyncClient() as web:
            endpoint = Endpoint(url=url, key=SecretStr(SECRET), model="tiny-1", timeout_s=10)
            return await complete(writer_server(partial(answer, endpoint, web), "model:tiny-1"), purpose, request), asked

    return asyncio.run(run())


def test_the_settings_turn_the_writer_process_into_the_models_voice() -> None:
    async def run() -> tuple[Any, list[dict[str, Any]]]:
        async with model_endpoint(lambda body, n: (200, chat('{"score": 0.5}'))) as (url, asked):
            env = {"CHIMERA_LLM_URL": url, "CHIMERA_LLM_KEY": SECRET, "CHIMERA_LLM_MODEL": "tiny-1"}
            async with writer_over_http(**env) as address:
                return await complete(f"{address}/mcp", "rate", RATE), asked

    result, asked = asyncio.run(run())
    assert result.structured_content["writer"] == "model:tiny-1"
    assert asked[0]["headers"]["authorization"] == f"Bearer {SECRET}"


RATE = RateRequest(text="It mended 312 things.", brief=BRIEF, soul=SOUL, criteria=BRIEF.acceptance, articles=[ARTICLE])


def test_a_model_endpoint_answers_the_same_tool_in_the_same_shape() -> None:
    content = "```json\n" + json.dumps({"score": 0.83, "reasons": ["fit[0.6]: nearer"]}) + "\n```"
    result, asked = ask_model(lambda body, n: (200, chat(content)), "rate", RATE)
    made = read_rating(result.structured_content)
    assert made.score == 0.83
    assert result.structured_content["writer"] == "model:tiny-1"
    assert {c.name: c.met for c in made.criteria}["links_source"] is False, "criteria are checked here, not believed"
    assert asked[0]["path"] == "/v1/chat/completions"
    assert asked[0]["headers"]["authorization"] == f"Bearer {SECRET}"
    assert asked[0]["body"]["model"] == "tiny-1"
    assert asked[0]["body"]["response_format"] == {"type": "json_object"}


def test_a_rating_that_says_more_than_a_rating_is_none() -> None:
    content = json.dumps({"score": 0.83, "reasons": [], "approve": True})
    result, _ = ask_model(lambda body, n: (200, chat(content)), "rate", RATE)
    assert result.is_error
    assert result.content[0].text.startswith("bad_answer: ")


def test_a_models_angles_are_kept_only_where_their_quotes_are_verbatim() -> None:
    real = {"article_id": "repair", "quote": "mended 312 of the 401 broken things"}
    invented = {"article_id": "repair", "quote": "mended 999 spaceships"}
    offered = [
        {"id": str(i), "title": "t", "claim": "c", "support": [s], "confidence": 0.9} for i, s in enumerate((invented, real))
    ]
    two = ANGLES.model_copy(update={"count": 5})
    result, _ = ask_model(lambda body, n: (200, chat(json.dumps({"angles": offered}))), "angles", two)
    assert [a.id for a in AnglesResponse.model_validate(result.structured_content).angles] == ["1"]


def test_a_connection_that_breaks_is_tried_again_and_an_answer_is_not() -> None:
    result, asked = ask_model(lambda body, n: (0, "") if n < 3 else (200, chat('{"score": 0.5}')), "rate", RATE)
    assert result.structured_content["score"] == 0.5
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("status", "body", "code", "calls"),
    [
        (200, chat('{"score": 7}'), "bad_answer: ", 1),
        (200, chat('{"score": NaN}'), "bad_answer: ", 1),
        (200, chat("I would rather not."), "bad_answer: ", 1),
        (200, "<html>", "bad_answer: ", 1),
        (200, "{}", "bad_answer: ", 1),
        (401, '{"error": "bad key"}', "refused: ", 1),
        (429, "{}", "unreachable: ", 1),
        (500, "{}", "unreachable: ", 1),
        (0, "", "unreachable: ", 3),
    ],
)
def test_a_model_that_answers_nonsense_is_a_clear_tool_error_without_the_key(status: int, body: str, code: str, calls: int) -> None:
    result, asked = ask_model(lambda _, __: (status, body), "rate", RATE)
    assert result.is_error
    assert result.content[0].text.startswith(code)
    assert SECRET not in result.content[0].text
    assert len(asked) == calls


def test_a_request_that_does_not_fit_is_refused_with_its_place_and_without_its_content() -> None:
    async def run() -> Any:
        server = StdioServerParameters(command=WRITER[0], args=WRITER[1:], cwd=str(ROOT))
        async with Client(server, read_timeout_seconds=30) as client:
            broken = ANGLES.model_dump(mode="json") | {"count": 999, "soul": {"name": "SENTINEL"}}
            return await client.call_tool("complete", {"purpose": "angles", "request": broken}, read_timeout_seconds=30)

    result = asyncio.run(run())
    assert result.is_error
    assert result.content[0].text.startswith("bad_request: angles: ")
    assert "count: " in result.content[0].text
    assert "SENTINEL" not in result.content[0].text
