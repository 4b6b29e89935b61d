"""Whom verbs ask back, and what they do where nobody can be asked."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from chimera.cli import output, replay, replay_steer
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


class Keyboard(io.StringIO):
    """A person who types at a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("asks", "code"), [(output.agreed, output.NOT_COUNTED), (output.sure, 1)], ids=["verbs that count", "what cannot be undone"]
)
def test_a_person_is_asked_also_where_what_is_written_goes_into_a_pipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], asks: Callable[[str, bool, bool], None], code: int
) -> None:
    assert not sys.stdout.isatty()
    app = typer.Typer()
    app.command()(lambda: asks("drop it?", False, False))
    monkeypatch.setattr(sys, "stdin", Keyboard("n\n"))
    with pytest.raises(SystemExit) as ended:
        app([])
    assert ended.value.code == code
    said = capsys.readouterr()
    assert "drop it?" in said.err
    assert not said.out.strip(), "a question is nothing to keep in a log"


@pytest.mark.parametrize("asks", [output.agreed, output.sure])
def test_nobody_is_asked_who_said_yes_reads_json_or_is_not_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], asks: Callable[[str, bool, bool], None]
) -> None:
    monkeypatch.setattr(sys, "stdin", Keyboard("n\n"))
    asks("drop it?", True, False)
    asks("drop it?", False, True)
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    asks("drop it?", False, False)
    assert capsys.readouterr() == ("", "")
