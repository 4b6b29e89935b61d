"""A witness catches whoever shows two histories: it cosigns what goes on from what it saw, and nothing else."""

from __future__ import annotations

import shutil
from base64 import b64decode, b64encode
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from chimera.audit import witness
from chimera.audit.notary import load_notary_keys
from chimera.audit.note import BadNote, Verifier, open_checkpoint
from chimera.audit.witness import StateTrouble, cosigned_at, look, vkey, witness_key
from chimera.cli.main import build
from chimera.errors import ChimeraError
from tests.audithouse import LOG, MemorySource, history, home_for, notarise, source_of

NAME = "auditor.example/one"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return home_for(tmp_path / "home", history())


@pytest.fixture
def source() -> MemorySource:
    return source_of(history())


def cut(source: MemorySource, at_most: int) -> MemorySource:
    return MemorySource({topic: {p: rows[:at_most] for p, rows in parts.items()} for topic, parts in source.topics.items()})


def forked(source: MemorySource) -> MemorySource:
    """The same log with another record at place 3 of partition 0."""
    rows = list(source.topics[LOG][0])
    rows[3] = rows[3]._replace(value=b"{}")
    return MemorySource(source.topics | {LOG: source.topics[LOG] | {0: rows}})


def shown(home: Path, source: MemorySource, place: Path) -> Path:
    """The trees that the notary of this home signs for this log."""
    shutil.rmtree(home / "audit", ignore_errors=True)
    notarise(home, source)
    return Path(shutil.copytree(home / "audit", place))


def publics(home: Path) -> list[bytes]:
    return [key.public_key().public_bytes_raw() for key in load_notary_keys(home).keys]


def test_a_log_that_grows_is_cosigned_and_both_signatures_hold(home: Path, source: MemorySource, tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert not any(v.trouble for v in look(shown(home, cut(source, 5), tmp_path / "a"), state, NAME, publics(home), 1_000))
    verdicts = look(shown(home, source, tmp_path / "b"), state, NAME, publics(home), 2_000)
    assert [v.trouble for v in verdicts] == [""] * len(verdicts)
    assert any(v.before == 5 and v.size > 5 for v in verdicts)
    mine = vkey(NAME, witness_key(state).public_key().public_bytes_raw())
    for verdict in verdicts:
        note = (state / witness.COSIGNED / verdict.origin).read_bytes()
        assert cosigned_at(note, mine) == 2_000
        assert open_checkpoint(note, [Verifier(verdict.origin, publics(home)[0])]).size == verdict.size
        with pytest.raises(BadNote, match="does not hold"):
            cosigned_at(note.replace(b"\n%d\n" % verdict.size, b"\n%d\n" % (verdict.size + 1), 1), mine)


def test_a_forked_log_a_cut_one_and_one_that_is_gone_are_caught_and_never_cosigned(
    home: Path, source: MemorySource, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    look(shown(home, cut(source, 20), tmp_path / "a"), state, NAME, publics(home), 1)
    remembered = (state / witness.STATE).read_bytes()
    fork = look(shown(home, forked(source), tmp_path / "fork"), state, NAME, publics(home), 2)
    (caught,) = [v for v in fork if v.trouble]
    assert caught.origin.endswith(f"{LOG}/0")
    assert "does not begin with the one of 20 leaves that was signed" in caught.trouble
    same_size = look(shown(home, cut(forked(source), 20), tmp_path / "same"), tmp_path / "state", NAME, publics(home), 3)
    assert any("two roots for one tree" in v.trouble for v in same_size)
    short = look(shown(home, cut(source, 4), tmp_path / "short"), state, NAME, publics(home), 4)
    assert any("its end was cut off" in v.trouble for v in short)
    shutil.rmtree(tmp_path / "a" / LOG / "0")
    assert any("is not shown any more" in v.trouble for v in look(tmp_path / "a", state, NAME, publics(home), 5))
    assert orjson.loads((state / witness.STATE).read_bytes())[caught.origin] == orjson.loads(remembered)[caught.origin]
    mine = vkey(NAME, witness_key(state).public_key().public_bytes_raw())
    assert cosigned_at((state / witness.COSIGNED / caught.origin).read_bytes(), mine) == 1


def test_a_witness_that_lost_its_memory_does_not_begin_anew(home: Path, source: MemorySource, tmp_path: Path) -> None:
    trees, state = shown(home, source, tmp_path / "a"), tmp_path / "state"
    look(trees, state, NAME, publics(home), 1)
    (state / witness.STATE).unlink()
    with pytest.raises(StateTrouble, match="a witness without memory is none"):
        look(trees, state, NAME, publics(home), 2)
    (state / witness.KEY).chmod(0o644)
    with pytest.raises(ChimeraError, match="may be read by others"):
        witness_key(state)


def test_the_command_exits_1_for_a_second_history_and_names_the_tree(home: Path, source: MemorySource, tmp_path: Path) -> None:
    runner, app = CliRunner(), build(["audit"])
    key = b64encode(publics(home)[0]).decode()

    def told(trees: Path) -> tuple[int, str]:
        argv = ["audit", "witness", "--trees", str(trees), "--state", str(tmp_path / "state"), "--key", key, "--json"]
        ran = runner.invoke(app, argv)
        return ran.exit_code, ran.output

    code, said = told(shown(home, source, tmp_path / "a"))
    assert code == 0
    assert len(b64decode(orjson.loads(said)["public"])) == 32
    code, said = told(shown(home, forked(source), tmp_path / "b"))
    assert code == 1
    assert [t["origin"][-1] for t in orjson.loads(said)["trees"] if t["trouble"]] == ["0"]
