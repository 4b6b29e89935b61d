"""A local Valkey lets in nobody without its password, tells it to nobody, and runs where its package is installed."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from chimera.memory.episodes import wiring
from chimera.memory.episodes.contract import Limits
from chimera.memory.episodes.valkey import Server
from chimera.observe.findings import of_episodes
from chimera.settings import Settings
from chimera.stack import valkey
from chimera.stack.children import environment
from chimera.stack.valkey import KEY, PORT, address_in, prepare_valkey


def installed(home: Path) -> Settings:
    """The settings of a home with an installation."""
    home.mkdir(exist_ok=True)
    (home / "installation.json").write_text('{"installation": "i-1", "root": "r", "root_public": "p"}')
    return Settings(home=home)


def test_its_password_is_made_once_and_stands_in_files_that_its_owner_alone_reads(tmp_path: Path) -> None:
    child = prepare_valkey(tmp_path, Path("/bin/valkey-server"))
    key, config = tmp_path / KEY, Path(child.argv[1])
    password = key.read_text()
    assert len(password) >= 32
    for path in (key, config):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    told = config.read_text()
    assert f"requirepass {password}" in told
    assert "bind 127.0.0.1\n" in told
    assert password not in " ".join([*child.argv, *child.env.values()])
    again = prepare_valkey(tmp_path, Path("/bin/valkey-server"))
    assert (key.read_text(), again.argv) == (password, child.argv)
    assert address_in(tmp_path) == f"redis://127.0.0.1:{(tmp_path / PORT).read_text()}/0"


def test_without_the_package_none_is_run_and_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert valkey.binary() is None
    settings = installed(tmp_path)
    assert wiring.server_in(settings) is None
    assert (wiring.follower(settings, "kafka", "dsn"), wiring.episodes(settings)) == (None, None)


def test_the_server_is_the_one_that_the_settings_name_else_the_local_one(tmp_path: Path) -> None:
    settings = installed(tmp_path)
    prepare_valkey(tmp_path, Path("/bin/valkey-server"))
    assert wiring.server_in(settings) == Server(address_in(tmp_path) or "", tmp_path / KEY, "chimera:i-1")
    named = settings.model_copy(update={"cache": "rediss://cache.test:6379/0", "cache_key_file": tmp_path / "k", "cache_days": 0.5})
    assert wiring.server_in(named) == Server("rediss://cache.test:6379/0", tmp_path / "k", "chimera:i-1")
    assert wiring.limits_in(named) == Limits(50, 43_200_000)
    told = environment(named, tmp_path)
    assert (told["CHIMERA_CACHE"], told["CHIMERA_CACHE_DAYS"]) == ("rediss://cache.test:6379/0", "0.5")
    assert wiring.server_in(settings.model_copy(update={"cache": "off"})) is None


def test_the_doctor_says_whether_episodes_are_kept_up_and_whether_answers_know_their_threads() -> None:
    assert of_episodes([], [], "") == []
    assert [(f.level, f.what) for f in of_episodes(["", ""], [], "")] == [("fine", "episodes are kept up")]
    assert [f.level for f in of_episodes(["off"], [], "")] == ["fine"]
    found = of_episodes(["it is away", ""], ["it is away"], "")
    assert [f.level for f in found] == ["warning", "warning"]
    assert [f.what.partition(":")[0] for f in found] == ["episodes are not kept up", "answers are written without their threads"]
    assert all("CHIMERA_CACHE=off" in f.todo for f in found)
