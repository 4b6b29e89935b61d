"""The audit export of a real log, and what its verification finds."""

from __future__ import annotations

import base64
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

import chimera.audit.export as code
from chimera.audit.export import ExportRefused, export
from chimera.audit.verify import CHECKS, verify
from chimera.cli.main import build
from chimera.commands.keys import log_topics
from chimera.eventlog.read import read_until
from chimera.eventlog.topics import apply
from tests.integration.projection_data import History, day, enrol, mischief

Edit = Callable[[list[bytes]], list[bytes]]


@pytest.fixture(scope="module")
def history(kafka_bootstrap: str) -> History:
    topic = f"audit-{uuid.uuid4().hex[:8]}-chimera.log"
    apply(kafka_bootstrap, log_topics(topic))
    h = History(topic)
    for name in ("ava", "ben"):
        day(h, name)
    mischief(h, enrol(h, "cy"))
    h.send(kafka_bootstrap)
    return h


@pytest.fixture(scope="module")
def original(kafka_bootstrap: str, history: History, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("audit") / "out"
    export(kafka_bootstrap, history.root.public, out, topic=history.topic)
    return out


@pytest.fixture
def exported(original: Path, tmp_path: Path) -> Path:
    """An export that a test may damage."""
    return Path(shutil.copytree(original, tmp_path / "out"))


def test_an_export_holds_every_record_and_verifies(history: History, exported: Path) -> None:
    verdicts = verify(exported, root=history.root.id)
    assert verdicts.damages == []
    assert verdicts.records == len(history.entries)
    assert verdicts.signed > 24
    assert all(n > 0 for n in verdicts.checked.values())


def test_the_exact_bytes_of_every_record_come_back(kafka_bootstrap: str, history: History, exported: Path) -> None:
    from chimera.audit.lines import parse

    for raws in read_until(kafka_bootstrap, history.topic, range(24)):
        for raw in raws:
            lines = (exported / f"{history.topic}-{raw.partition:02d}.jsonl").read_bytes().split(b"\n")
            assert parse(lines[raw.offset], history.topic)[0] == raw


def test_a_line_is_a_cloudevent_with_readable_data(exported: Path, history: History) -> None:
    partition = next(e.partition for e in history.entries if e.key.startswith("agent/"))
    lines = [orjson.loads(text) for text in (exported / f"{history.topic}-{partition:02d}.jsonl").read_bytes().splitlines()]
    enrolled = next(line for line in lines if line.get("type") == "AgentEnrolled")
    assert enrolled["specversion"] == "1.0"
    assert enrolled["data"]["name"] == "ava"
    assert enrolled["ruling"] == "applied"
    assert list(enrolled)[-1] == "data"
    assert "wire" not in enrolled


def test_exporting_twice_gives_the_same_bytes(kafka_bootstrap: str, history: History, exported: Path, tmp_path: Path) -> None:
    export(kafka_bootstrap, history.root.public, tmp_path / "again", topic=history.topic)
    for path in exported.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_an_interrupted_export_is_resumed(
    kafka_bootstrap: str, history: History, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, made = tmp_path / "cut", list[int]()
    whole = code._export_partition

    def power_cut(bootstrap, out, plan, partition, progress):  # type: ignore[no-untyped-def]
        if partition == 11 and len(made) == 11:
            raise KeyboardInterrupt
        made.append(partition)
        return whole(bootstrap, out, plan, partition, progress)

    monkeypatch.setattr(code, "_export_partition", power_cut)
    with pytest.raises(KeyboardInterrupt):
        export(kafka_bootstrap, history.root.public, out, topic=history.topic)
    made.append(-1)
    export(kafka_bootstrap, history.root.public, out, topic=history.topic)
    assert made[12:] == list(range(11, 24))
    assert {p.name: p.read_bytes() for p in out.iterdir()} == {p.name: p.read_bytes() for p in exported.iterdir()}


def test_a_directory_with_anything_else_is_refused(kafka_bootstrap: str, history: History, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportRefused, match="finished export"):
        export(kafka_bootstrap, history.root.public, exported, topic=history.topic)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear auditor")
    with pytest.raises(ExportRefused, match=r"letter\.txt"):
        export(kafka_bootstrap, history.root.public, tmp_path / "full", topic=history.topic)


def swap(lines: list[bytes]) -> list[bytes]:
    return [lines[1], lines[0], *lines[2:]]


def cut(lines: list[bytes]) -> list[bytes]:
    return lines[:-1]


def drop(lines: list[bytes]) -> list[bytes]:
    return lines[:5] + lines[6:]


def reword(lines: list[bytes]) -> list[bytes]:
    at = next(i for i, text in enumerate(lines) if b'"type":"ArtifactProduced"' in text)
    return [*lines[:at], lines[at].replace(b"[", b"[ ", 1), *lines[at + 1 :]]


def promote(lines: list[bytes]) -> list[bytes]:
    at = next(i for i, text in enumerate(lines) if b'"ruling":"void"' in text)
    return [*lines[:at], lines[at].replace(b'"ruling":"void"', b'"ruling":"applied"'), *lines[at + 1 :]]


def garble(lines: list[bytes]) -> list[bytes]:
    return [*lines[:3], lines[3][:-9], *lines[4:]]


def resign(lines: list[bytes]) -> list[bytes]:
    """Another signature of the right form."""
    at = next(i for i, text in enumerate(lines) if b'"type":"SoulAdopted"' in text)
    event = orjson.loads(lines[at])
    forged = base64.b64encode(bytes(64)).decode()
    return [*lines[:at], lines[at].replace(event["signature"].encode(), forged.encode()), *lines[at + 1 :]]


@pytest.mark.parametrize(
    ("edit", "check"),
    [
        (swap, "offsets"),
        (cut, "counts"),
        (drop, "offsets"),
        (reword, "values"),
        (promote, "rulings"),
        (garble, "lines"),
        (resign, "signatures"),
    ],
)
def test_damage_is_named_with_file_and_line(exported: Path, history: History, edit: Edit, check: str) -> None:
    partition = next(e.partition for e in history.entries if e.key.startswith("agent/"))
    path = exported / f"{history.topic}-{partition:02d}.jsonl"
    path.write_bytes(b"\n".join(edit(path.read_bytes().splitlines())) + b"\n")
    verdicts = verify(exported)
    assert not verdicts.holds("sha256")
    assert not verdicts.holds(check)
    damage = next(d for d in verdicts.damages if d.check == check)
    assert damage.file == path.name
    assert damage.line > 0 or check == "counts"


def test_a_missing_or_added_file_and_another_root_are_found(exported: Path, history: History) -> None:
    (exported / f"{history.topic}-07.jsonl").unlink()
    (exported / "extra.jsonl").write_text("{}")
    verdicts = verify(exported, root="0" * 16)
    assert {d.file for d in verdicts.damages if d.check == "files"} == {f"{history.topic}-07.jsonl", "extra.jsonl"}
    assert not verdicts.holds("root")


def test_verifying_on_the_command_line_has_a_verdict_per_claim_and_an_exit_code(exported: Path, history: History) -> None:
    runner, app = CliRunner(), build(["audit"])
    good = runner.invoke(app, ["audit", "verify", str(exported), "--root", history.root.id])
    assert good.exit_code == 0
    assert good.stdout.count("holds ") == len(CHECKS)
    path = exported / f"{history.topic}-05.jsonl"
    path.write_bytes(path.read_bytes() + b"{}\n")
    bad = runner.invoke(app, ["audit", "verify", str(exported), "--json"])
    assert bad.exit_code == 1
    told = orjson.loads(bad.stdout)
    assert not told["intact"]
    assert {(d["file"], d["check"]) for d in told["damages"]} >= {
        (path.name, "lines"),
        (path.name, "sha256"),
        (path.name, "counts"),
    }
    assert runner.invoke(app, ["audit", "verify", str(exported / "nowhere")]).exit_code == 2
