"""The program before a verb does anything: its help, its version, Ctrl-C, and what it asks before what cannot be undone."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console, Group

from chimera.cli import agent, campaign, main, output, stack, summary
from chimera.commands.verbs import AgentStatus
from chimera.errors import ChimeraError
from chimera.policy.boardkit import load_text
from chimera.policy.documents import DocumentError


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def ended(words: list[str]) -> object:
    with pytest.raises(SystemExit) as caught:
        main.main(words)
    return caught.value.code


def test_every_verb_stands_in_one_group_of_the_help_and_every_group_holds_verbs_that_exist() -> None:
    grouped = [verb for verbs in main.PANELS.values() for verb in verbs]
    assert sorted(grouped) == sorted([*main.VERBS, *stack.COMMANDS])


def test_the_version_is_told_without_a_home_or_a_stack(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(["--version"]) == 0
    assert capsys.readouterr().out.startswith("chimera ")


def test_ctrl_c_while_a_verb_is_still_being_imported_ends_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_words: list[str]) -> typer.Typer:
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "build", interrupted)
    assert ended(["fleet", "status"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_logs_of_a_home_in_which_nothing_ever_ran_are_an_error_and_not_silence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("CHIMERA_HOME", str(tmp_path))
    assert ended(["logs"]) == 1
    assert "nothing has run in this home yet (`chimera up`)" in capsys.readouterr().err


def test_an_account_is_not_made_in_a_directory_that_is_no_home(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("CHIMERA_HOME", str(tmp_path / "elsewhere"))
    assert ended(["control", "add", "kim", "--role", "viewer"]) == 1
    assert "no installation in" in capsys.readouterr().err
    assert not (tmp_path / "elsewhere").exists()


def verbs_of(group: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every verb of the program with the words that call it."""
    if not hasattr(group, "commands"):
        yield words, group
        return
    for name, inner in group.commands.items():
        yield from verbs_of(inner, (*words, name))


def filled(verb: Any) -> list[str]:
    """Something for everything that a verb must be given."""
    needed = [each for each in verb.params if each.required]
    return [word for each in needed for word in ([each.opts[0], "x"] if each.param_type_name == "option" else ["x"])]


BEGINS = {"up", "demo", "run", "simulate", "mcp", "stack"}
"""What starts processes by itself."""


def test_no_verb_makes_a_home_by_looking_into_a_directory_that_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("CHIMERA_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "stdin", StringIO())
    looked = [words for words, _ in verbs_of(typer.main.get_command(main.build())) if words[0] not in BEGINS]
    assert len(looked) > 100
    for words in looked:
        verb = dict(verbs_of(typer.main.get_command(main.build([words[0]]))))[words]
        code = ended([*words, *filled(verb)])
        made = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
        assert made == [], f"chimera {' '.join(words)} (exit {code}) made {made}"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("media list", "nothing was ever kept in .chimera/media: `chimera up` makes it"),
        ("control list", "no installation in .chimera: set one up with `chimera up`"),
        ("control token list", "no installation in .chimera"),
        ("control webhook list", "no installation in .chimera"),
        ("keys list", "no installation in .chimera"),
        ("agent list", "no stack runs in"),
        ("topics plan", "no stack runs in"),
    ],
)
def test_whoever_looks_into_a_directory_that_is_no_home_is_told_so(
    words: str, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CHIMERA_HOME", raising=False)
    assert ended(words.split()) == 1
    assert says in capsys.readouterr().err


ASKS = {
    "agent retire", "analyst remove", "campaign cancel", "control remove", "control webhook remove", "keys drop",
    "mcp pin", "media gc", "parts retire", "privacy forget", "replay as-of", "replay cancel", "replay copy", "replay gc",
    "replay memory gc", "replay memory rollback", "replay memory swap", "replay rollback", "replay swap", "review approve",
    "review edit", "review reject", "review withdraw",
}  # fmt: skip
"""The verbs that ask back."""


def test_what_asks_back_has_a_yes_and_what_does_not_ask_has_none() -> None:
    found = verbs_of(typer.main.get_command(main.build()))
    assert {" ".join(words) for words, verb in found if any("--yes" in each.opts for each in verb.params)} == ASKS


@pytest.mark.parametrize(
    "words", ["agent pause ava", "agent resume ava", "agent release ava", "campaign pause x", "campaign resume x"]
)
def test_what_can_be_undone_asks_nobody_and_takes_no_yes(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended([*words.split(), "--yes"]) == 2
    assert "No such option: --yes" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["agent", "retire", "ava"], ["campaign", "cancel", "autumn"], ["keys", "drop", "abc"]])
def test_who_says_no_to_what_cannot_be_undone_has_done_nothing(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_given: object, **_named: object) -> None:
        raise AssertionError("asked the desk before the person had said yes")

    for module in (agent, campaign):
        monkeypatch.setattr(module, "open_desk", nobody)
    monkeypatch.setattr("chimera.cli.keys.open_service", nobody)
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    assert ended(words) == 1


def test_nothing_is_asked_where_nobody_sits_at_a_terminal_and_a_pause_never_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    class Reached(ChimeraError):
        pass

    asked: list[object] = []

    @contextmanager
    def desk(_settings: object) -> Iterator[object]:
        class Desk:
            def ask(self, wish: AgentStatus) -> None:
                asked.append(wish.verb)
                raise Reached("far enough")

        yield Desk()

    monkeypatch.setattr(agent, "open_desk", desk)
    monkeypatch.setattr(sys, "stdin", StringIO())
    assert ended(["agent", "retire", "ava"]) == 1
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    assert ended(["agent", "pause", "ava"]) == 1
    assert ended(["agent", "retire", "ava", "--yes"]) == 1
    assert asked == ["agent.retire", "agent.pause", "agent.retire"]


def test_a_text_that_cannot_be_read_is_named_once_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(DocumentError) as gone:
        load_text(tmp_path / "nothing.md")
    assert str(gone.value) == f"{tmp_path / 'nothing.md'}: cannot be read (No such file or directory): check the path"
    (tmp_path / "latin.md").write_bytes(b"caf\xe9")
    with pytest.raises(DocumentError, match="byte 3 is no UTF-8"):
        load_text(tmp_path / "latin.md")


def test_a_command_to_copy_stays_on_its_line_in_a_narrow_terminal() -> None:
    out = StringIO()
    command = "psql 'postgresql://postgres@/chimera?host=%2Fhome%2Fyou%2Fchimera%2F.chimera%2Fpostgres%2Fsocket'"
    Console(file=out, width=60).print(Group(*summary._part("5  Ask", command, "chimera ask")), crop=False)
    assert [line.strip() for line in out.getvalue().splitlines() if line.strip()] == ["5  Ask", command, "chimera ask"]


def test_what_is_asked_back_names_the_thing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    output.sure("retire ava for good?", yes=False, as_json=False)
    assert "retire ava for good?" in capsys.readouterr().err
