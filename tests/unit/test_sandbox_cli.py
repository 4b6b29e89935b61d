"""`chimera sandbox`: what is asked for is in the server's book, and what cannot be is refused with the way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from chimera.cli.sandbox import app
from chimera.errors import ChimeraError
from chimera.mcp.sandbox.faults import FaultBook


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CHIMERA_HOME", str(tmp_path))
    for name in ("x", "writer"):
        (tmp_path / "mcp" / name).mkdir(parents=True)
    return tmp_path


def given(*words: str) -> Any:
    result = CliRunner().invoke(app, [*words, "--json"])
    assert result.exit_code == 0, result.output
    return orjson.loads(result.output)


def test_faults_are_asked_for_listed_and_taken_back(home: Path) -> None:
    given("fault", "x", "createPosts:429=3", "slow(2.5)=2@0.5", "--seed", "7")
    given("fault", "writer", "503")
    rows = given("faults")["faults"]
    assert [(row["server"], row["tool"], row["kind"], row["calls"]) for row in rows] == [
        ("x", "createPosts", "429", 3),
        ("x", None, "slow", 2),
        ("writer", None, "503", 1),
    ]
    server = FaultBook(home / "mcp" / "x")
    fault = server.take("createPosts")
    assert fault is not None
    assert fault.kind == "429", "the server reads the same book"
    server.close()
    assert given("clear", "x") == {"spared": {"x": 4}}
    assert [row["server"] for row in given("faults")["faults"]] == ["writer"]
    assert given("clear") == {"spared": {"x": 0, "writer": 1}}


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("fault", "y", "hang"), "no sandbox server 'y'"),
        (("fault", "x", "complete:hang"), "no tool 'complete'"),
        (("fault", "x", "hang", "burn"), "no kind 'burn'"),
    ],
)
def test_a_wish_that_cannot_be_is_a_usage_error_and_asks_for_nothing(home: Path, words: tuple[str, ...], what: str) -> None:
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": "300"})
    assert result.exit_code == 2
    assert what in result.output
    assert given("faults") == {"faults": []}


def test_a_server_that_is_elsewhere_or_never_ran_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(app, ["fault", "feeds", "hang"])
    assert isinstance(result.exception, ChimeraError)
    assert "chimera up" in str(result.exception)
    monkeypatch.setenv("CHIMERA_X_URL", "http://x.example/mcp")
    result = CliRunner().invoke(app, ["fault", "x", "hang"])
    assert isinstance(result.exception, ChimeraError)
    assert "x.example" in str(result.exception)
