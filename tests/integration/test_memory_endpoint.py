"""Texts embedded by an endpoint: through the gate, by an MCP server of its own process, from a real HTTP server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from chimera.cli.embedding import PROBE, TOGETHER, ByGate, Making
from chimera.mcp.gate import Gate
from chimera.mcp.guards import CallPlace
from chimera.mcp.profiles import PROFILES_DIR, load_profiles
from chimera.mcp.records import ToolCallRecord
from chimera.memory.contract import MemoryAway
from chimera.memory.embedding import HashedWords

SECRET = "sentinel-embedding-1d7c"
SIZE = 5
Reply = Callable[[list[str]], tuple[int, Any]]
"""Texts -> (status, body)."""


def vectors(texts: list[str], size: int = SIZE) -> tuple[int, Any]:
    """A vector for each, told in the reverse order, as an endpoint may: its length in the first place."""
    data = [{"index": n, "embedding": [float(len(text)), *[1.0] * (size - 1)]} for n, text in enumerate(texts)]
    return 200, {"object": "list", "data": data[::-1]}


class Endpoint(NamedTuple):
    """A server that speaks `/v1/embeddings`, the MCP server before it, and what was asked of it."""

    mcp: str
    asked: list[tuple[str, str, list[str]]]
    """(path, authorization, texts) of each request."""
    answers: list[Reply]
    """How it answers now: the last of these."""

    def embedder(self, calls: list[ToolCallRecord], home: Path, closed: str | None = None, **more: float) -> ByGate:
        """As a process makes it, with a log of calls in a list, and perhaps a kill switch closed."""

        async def told(call: ToolCallRecord) -> None:
            calls.append(call)

        async def stops(place: CallPlace) -> str | None:
            return closed

        @asynccontextmanager
        async def opened() -> AsyncIterator[Gate]:
            profiles = load_profiles(PROFILES_DIR, ["embeddings"])
            async with Gate(profiles, {"embeddings_url": self.mcp}, on_call=told, home=home, switch=stops) as gate:
                yield gate

        return ByGate(opened, **{"held_s": 0.0, **more})


@pytest.fixture(scope="module")
def servers() -> Iterator[Endpoint]:
    asked: list[tuple[str, str, list[str]]] = []
    answers: list[Reply] = [vectors]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append((self.path, self.headers["authorization"], body["input"]))
            status, said = answers[-1](body["input"])
            told = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, format: str, *args: Any) -> None:
            """A test is quiet."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    env = {
        **os.environ,
        "CHIMERA_EMBEDDING_URL": f"http://127.0.0.1:{http.server_port}/v1",
        "CHIMERA_EMBEDDING_KEY": SECRET,
        "CHIMERA_EMBEDDING_MODEL": "tiny-embed",
    }
    argv = [sys.executable, "-m", "chimera.mcp.sandbox.embeddings", "--port", "0"]
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            yield Endpoint(child.stdout.readline().strip() + "/mcp", asked, answers)
        finally:
            child.terminate()
            http.shutdown()
            thread.join(60)
            http.server_close()


@pytest.fixture
def endpoint(servers: Endpoint) -> Endpoint:
    """It as it is when all is well."""
    servers.asked.clear()
    servers.answers[:] = [vectors]
    return servers


def test_texts_are_embedded_by_the_endpoint_in_their_order_and_each_only_once(endpoint: Endpoint, tmp_path: Path) -> None:
    calls: list[ToolCallRecord] = []
    texts = ["x" * n for n in range(1, TOGETHER + 7)]
    with closing(endpoint.embedder(calls, tmp_path)) as made:
        found = made.embed(texts)
        assert (made.name, made.dimensions) == ("tiny-embed/5", SIZE)
        assert [round(vector[0] / vector[1]) for vector in found] == [len(text) for text in texts]
        assert all(abs(sum(number * number for number in vector) - 1) < 1e-6 for vector in found)
        assert made.embed(texts[:3]) == found[:3], "what was embedded is kept"
    assert [len(asked) for _, _, asked in endpoint.asked] == [1, TOGETHER, 6]
    assert {(path, key) for path, key, _ in endpoint.asked} == {("/v1/embeddings", f"Bearer {SECRET}")}
    assert [(call.capability, call.result_class) for call in calls] == [("text.embed", "ok")] * 3
    told = json.dumps([call.to_json() for call in calls])
    assert PROBE not in told, "the log of calls holds shapes and hashes, no words"
    assert SECRET not in told


def test_a_model_that_changes_the_size_of_its_vectors_is_refused_with_what_to_do(endpoint: Endpoint, tmp_path: Path) -> None:
    with closing(endpoint.embedder([], tmp_path)) as made:
        endpoint.answers.append(lambda texts: vectors(texts, 7))
        with pytest.raises(MemoryAway, match=r"with 7 numbers and memory is kept by tiny-embed/5: .*chimera memory rebuild"):
            made.embed(["soup"])
        endpoint.answers.append(vectors)
        assert len(made.embed(["soup"])[0]) == SIZE, "and once it is as it was, texts are embedded again"


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ((200, {"data": []}), "0 vectors for 1 texts"),
        ((200, {"data": [{"index": 0, "embedding": [0.0, 0.0]}]}), "all nought"),
        ((200, {"data": [{"index": 0, "embedding": [1e999]}]}), "not finite"),
        ((200, {"error": "no"}), "is the endpoint OpenAI-compatible"),
        ((401, {}), "check CHIMERA_EMBEDDING_KEY and CHIMERA_EMBEDDING_MODEL"),
        ((503, {}), "unreachable"),
    ],
)
def test_what_is_no_vector_for_each_text_is_nothing_to_remember_by(
    endpoint: Endpoint, tmp_path: Path, reply: tuple[int, Any], said: str
) -> None:
    endpoint.answers.append(lambda texts: reply)
    with pytest.raises(MemoryAway, match=said):
        endpoint.embedder([], tmp_path)


def test_a_closed_switch_lets_no_text_out(endpoint: Endpoint, tmp_path: Path) -> None:
    with pytest.raises(MemoryAway, match="switch:fleet"):
        endpoint.embedder([], tmp_path, closed="switch:fleet")
    assert endpoint.asked == []


def test_an_endpoint_that_hangs_holds_up_one_question_and_those_behind_it_are_told_at_once(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    hanging = threading.Event()

    def late(texts: list[str]) -> tuple[int, Any]:
        hanging.wait(60)
        return vectors(texts)

    with closing(endpoint.embedder([], tmp_path, patience_s=0.5, held_s=3_600)) as made:
        endpoint.answers.append(late)
        with pytest.raises(MemoryAway, match=r"not answered in 0\.5 s"):
            made.embed(["soup"])
        with pytest.raises(MemoryAway, match=r"not answered in 0\.5 s"):
            made.embed(["bread"])
        assert not any(texts == ["bread"] for _, _, texts in endpoint.asked), "nothing more was sent"
        hanging.set()


def test_who_cannot_wait_is_told_while_an_embedder_is_being_made_and_has_it_later(monkeypatch: pytest.MonkeyPatch) -> None:
    ready, tried = threading.Event(), []

    def make() -> HashedWords:
        tried.append(1)
        if len(tried) == 1:
            raise MemoryAway("nobody is there")
        assert ready.wait(60)
        return HashedWords()

    monkeypatch.setattr("chimera.cli.embedding.QUESTION_S", 60.0)
    making = Making(make)
    with pytest.raises(MemoryAway, match="nobody is there"):
        making()
    monkeypatch.setattr("chimera.cli.embedding.QUESTION_S", 0.1)
    for _ in range(2):
        with pytest.raises(MemoryAway, match="not told yet"):
            making()
    ready.set()
    found = None
    waited = threading.Event()
    for _ in range(600):
        try:
            found = making()
            break
        except MemoryAway:
            waited.wait(0.1)
    assert isinstance(found, HashedWords)
    assert len(tried) == 2
