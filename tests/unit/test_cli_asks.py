"""What replay verbs do where nobody can be asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from chimera.cli import replay, replay_steer
from chimera.replay.plan import Refused

ASKED: list[str] = []


@contextmanager
def _read_models() -> Iterator[tuple[None, None]]:
    yield None, None


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_build_is_not_given_up_unasked_where_nobody_can_be_asked(monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]) -> None:
    ASKED.clear()
    monkeypatch.setattr(replay_steer, "read_models", _read_models)
    monkeypatch.setattr(replay_steer, "chosen", lambda *_: SimpleNamespace(id=3, state="loading"))
    monkeypatch.setattr(replay_steer, "_ask", lambda verb, *_: ASKED.append(verb))
    said = CliRunner().invoke(replay.app, ["cancel", "3", *more])
    assert isinstance(said.exception, Refused)
    assert "--yes" in str(said.exception)
    assert (ASKED, said.stdout) == ([], "")
    assert CliRunner().invoke(replay.app, ["cancel", "3", "--yes", *more]).exit_code == 0
    assert ASKED == ["cancel"]
