"""Redaction and forgetting by keys: what is withheld or destroyed can be read by nobody, and every proof stays."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from chimera.audit.export import export
from chimera.audit.personal import held_of
from chimera.audit.sealed import DISCLOSED, sealed_in
from chimera.audit.source import Redaction
from chimera.audit.verify import verify
from chimera.cli.main import build
from chimera.commands.subjects import KEYS, SubjectKeyFiles
from chimera.events import records as rec
from chimera.events.records.work import Signal
from chimera.events.sealed import Forgotten, Sealed, seal, subject_of, unseal
from tests.audithouse import LOG, MemorySource, home_for, notarise, source_of
from tests.integration.projection_data import History, enrol

MIA, OTTO = (subject_of("acme", "x", name) for name in ("mia", "otto"))
SENTINELS = (b"zymurgy", b"quixotry", b"mia_of_sentinel")


class Disclosed:
    """The keys that an export discloses."""

    def __init__(self, out: Path) -> None:
        path = out / DISCLOSED
        lines = path.read_bytes().splitlines() if path.exists() else []
        self.keys = {told["subject"]: b64decode(told["key"]) for told in map(orjson.loads, lines)}

    def key_for(self, subject: str) -> bytes:
        raise AssertionError("nothing is sealed here")

    def known_key(self, subject: str) -> bytes | None:
        return self.keys.get(subject)


@pytest.fixture
def said(tmp_path: Path) -> tuple[MemorySource, Path]:
    """A log in which two people spoke, and its home."""
    made = History(LOG, partitions=4)
    home = home_for(tmp_path / "home", made)
    keys, ear = SubjectKeyFiles(home / KEYS), enrol(made, "ear")
    words = [(MIA, "the zymurgy of soup"), (OTTO, "a quixotry of chairs")]
    items = [
        Signal(
            thread=f"t{n}",
            external_id=str(n),
            author=seal(keys, who, "mia_of_sentinel"),
            text=seal(keys, who, text),
            observed_at=n,
        )
        for n, (who, text) in enumerate(words)
    ]
    made.add(ear, rec.SignalObserved(source="x/social.mentions", number=1, cursor="c", items=items))
    source = source_of(made)
    notarise(home, source)
    return source, home


def opened(out: Path) -> set[str]:
    """What can be read with the keys that an export discloses."""
    found, keys = set[str](), Disclosed(out)
    for path in out.glob("records/*.jsonl"):
        for text in path.read_bytes().splitlines():
            for each in sealed_in(text):
                try:
                    found.add(unseal(keys, Sealed.model_validate(each)))
                except Forgotten:
                    continue
    return found


def files(place: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file() and KEYS.name not in path.parts)


def test_an_export_discloses_the_keys_that_were_asked_for_and_no_other(said: tuple[MemorySource, Path], tmp_path: Path) -> None:
    source, home = said
    export(source, home, tmp_path / "all")
    assert (opened(tmp_path / "all"), (tmp_path / "all" / DISCLOSED).exists()) == (set(), False)
    listed = export(source, home, tmp_path / "listed", redaction=Redaction(policy="listed", subjects=(MIA,)))
    assert opened(tmp_path / "listed") == {"mia_of_sentinel", "a quixotry of chairs"}
    assert (listed.redaction, listed.disclosed) == ("listed", 1)
    assert export(source, home, tmp_path / "none", redaction=Redaction(policy="none")).disclosed == 2
    assert "the zymurgy of soup" in opened(tmp_path / "none")
    for name in ("all", "listed", "none"):
        assert verify(tmp_path / name).damages == []


def test_after_forgetting_nothing_tells_the_words_and_old_exports_still_verify(
    said: tuple[MemorySource, Path], tmp_path: Path
) -> None:
    source, home = said
    export(source, home, tmp_path / "old")
    SubjectKeyFiles(home / KEYS).forget(MIA)
    export(source, home, tmp_path / "new", redaction=Redaction(policy="none"))
    assert opened(tmp_path / "new") == {"mia_of_sentinel", "a quixotry of chairs"}  # otto's, who is not forgotten
    assert verify(tmp_path / "old").damages == []
    assert verify(tmp_path / "new", previous=tmp_path / "old").damages == []
    told = files(tmp_path / "old") + files(tmp_path / "new") + files(home / "audit")
    told += b"".join(raw.value or b"" for rows in source.topics[LOG].values() for raw in rows)
    assert [word for word in SENTINELS if word in told] == []


def test_what_is_held_of_a_person_is_told_by_places(said: tuple[MemorySource, Path]) -> None:
    source, _ = said
    (held,) = held_of(source, MIA)
    assert (held.type, held.fields, held.forgets) == ("SignalObserved", 2, False)
    assert held.place.startswith(f"{LOG}[")
    assert list(held_of(source, "person/" + "0" * 32)) == []


def test_a_list_of_people_that_holds_a_handle_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHIMERA_KAFKA", "127.0.0.1:1")
    (tmp_path / "withheld").write_text("# by request\nx/mia\n")
    argv = ["audit", "export", "--out", str(tmp_path / "out"), "--redact", str(tmp_path / "withheld")]
    ran = CliRunner().invoke(build(["audit"]), argv)
    assert ran.exit_code == 2
    assert "'x/mia' is no pseudonym" in ran.output.replace("\n", " ").replace("│", "").replace("  ", " ")
