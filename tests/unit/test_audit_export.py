"""An export proves itself: records come back byte for byte, the same call gives the same bytes, what is withheld is counted."""

from __future__ import annotations

import shutil
import subprocess
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest

from chimera.audit import export as code
from chimera.audit import standalone
from chimera.audit.export import ExportRefused, export
from chimera.audit.lines import parse
from chimera.audit.manifest import PLAN, Manifest
from chimera.audit.notary import LogChanged
from chimera.audit.partition import Finished, Job, NotSigned, write_partition
from chimera.audit.source import Redaction, Selection, agents_called
from chimera.audit.verify import verify
from chimera.commands.agents import UnknownAgent
from tests.audithouse import CALLS, LOG, MemorySource, history, home_for, notarise, source_of
from tests.integration.projection_data import History, day

Sworn = tuple[History, MemorySource, Path]


@pytest.fixture(scope="module")
def sworn(tmp_path_factory: pytest.TempPathFactory) -> Sworn:
    """A history, its log, and a home whose notary signed it."""
    made = history()
    source, home = source_of(made), home_for(tmp_path_factory.mktemp("sworn") / "home", made)
    notarise(home, source)
    return made, source, home


@pytest.fixture(scope="module")
def whole(sworn: Sworn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    _, source, home = sworn
    out = tmp_path_factory.mktemp("whole") / "out"
    export(source, home, out)
    return out


def bytes_of(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def unchecked(report: standalone.Report) -> set[str]:
    return {check for check in standalone.CHECKS if report.state(check) == standalone.UNCHECKED}


def test_every_claim_of_a_whole_export_holds(sworn: Sworn, whole: Path) -> None:
    made, _, _ = sworn
    manifest = Manifest.model_validate_json((whole / "manifest.json").read_bytes())
    report = verify(whole, keys=[b64decode(manifest.notary[0])], root=made.root.id, previous=whole)
    assert report.damages == []
    assert unchecked(report) == set()
    assert all(count > 0 for count in report.checked.values())
    assert manifest.totals.count == len(made.entries) + 8
    assert manifest.policies == ["p"]
    assert manifest.keys == {"command": [made.command.id]}


def test_the_exact_bytes_of_every_record_come_back(sworn: Sworn, whole: Path) -> None:
    _, source, _ = sworn
    for topic, partitions in source.topics.items():
        for partition, records in partitions.items():
            lines = (whole / f"records/{topic}-{partition:02d}.jsonl").read_bytes().splitlines()
            assert [parse(text, topic)[0] for text in lines] == records


def test_the_verifier_inside_needs_nothing_of_ours_and_says_what_it_did_not_check(whole: Path) -> None:
    argv = [sys.executable, "-I", "-B", str(whole / "verify.py"), "--json"]
    ran = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, cwd="/")
    assert ran.returncode == 0, ran.stderr
    said = orjson.loads(ran.stdout)
    assert said["intact"]
    assert {row["check"] for row in said["checks"] if row["verdict"] == "NOT CHECKED"} == {
        "key",
        "root",
        "rulings",
        "cells",
        "previous",
    }
    wrong = [*argv[:4], "--key", "AAAA"]
    assert subprocess.run(wrong, capture_output=True, check=False, timeout=60).returncode == 2
    assert "chimera" not in {
        line.split()[1].split(".")[0]
        for line in (whole / "verify.py").read_text().splitlines()
        if line.startswith(("import ", "from "))
    }


def asked(query: str) -> list[tuple[Any, ...]]:
    found = duckdb.sql(query)
    assert found is not None
    return found.fetchall()


def test_duckdb_hashes_every_record_again_and_names_a_cell_that_was_changed(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = (whole / "VERIFY.sql").read_text()
    monkeypatch.chdir(whole)
    assert asked(query) == []
    (tmp_path / "records").mkdir()
    monkeypatch.chdir(tmp_path)
    source = f"read_parquet('{whole}/records/chimera.log-*.parquet')"
    changed = "SELECT * REPLACE (CASE WHEN \"offset\" = 2 AND partition = 1 THEN value || 'x'::BLOB ELSE value END AS value)"
    duckdb.sql(f"COPY ({changed} FROM {source}) TO 'records/one.parquet'")
    assert [row[:3] for row in asked(query)] == [(LOG, 1, 2)]


def test_two_exports_of_a_range_are_the_same_bytes_however_the_log_grew(tmp_path: Path) -> None:
    made = history()
    source, home = source_of(made), home_for(tmp_path / "home", made)
    notarise(home, source)
    until = source.topics[LOG][0][60].append_ts
    selection = Selection(from_ms=until - 300, until_ms=until)
    export(source, home, tmp_path / "one", selection=selection)
    day(made, "late")
    grown = source_of(made)
    shutil.rmtree(home / "audit")
    notarise(home, grown)
    export(grown, home, tmp_path / "two", selection=selection)
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")
    report = verify(tmp_path / "two")
    assert report.damages == []
    assert "rulings" in unchecked(report)
    shown = [parse(text, LOG)[0] for text in (tmp_path / "one/records/chimera.log-00.jsonl").read_bytes().splitlines()]
    assert {raw.append_ts < until for raw in shown} == {True}

    # and a later export is seen to extend an earlier one
    export(grown, home, tmp_path / "later")
    assert verify(tmp_path / "later", previous=tmp_path / "one").state("previous") == standalone.HOLDS
    backwards = verify(tmp_path / "one", previous=tmp_path / "later")
    assert backwards.state("previous") == standalone.BROKEN
    assert "the export before had" in backwards.damages[0].text


def test_an_export_that_was_cut_off_goes_on_to_the_same_bytes(
    sworn: Sworn, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, source, home = sworn
    out, made = tmp_path / "out", list[int]()
    really = write_partition

    def power_cut(job: Job) -> Finished:
        if len(made) == 2:
            (job.out / "records").mkdir(exist_ok=True)
            (job.out / "records" / "chimera.log-02.jsonl").write_bytes(b"half a li")
            raise KeyboardInterrupt
        made.append(job.partition)
        return really(job)

    monkeypatch.setattr(code, "write_partition", power_cut)
    with pytest.raises(KeyboardInterrupt):
        export(source, home, out)
    monkeypatch.setattr(code, "write_partition", lambda job: made.append(job.partition) or really(job))
    (out / "records" / "chimera.log-01.jsonl").write_bytes(b"what was finished, and is damaged by now")
    export(source, home, out)
    assert made == [0, 1, 1, 2, 3, 0, 0]
    assert bytes_of(out) == bytes_of(whole)


def test_several_processes_write_the_same_bytes_and_find_the_same_when_they_verify(
    sworn: Sworn, whole: Path, tmp_path: Path
) -> None:
    _, source, home = sworn
    export(source, home, tmp_path / "out", jobs=2)
    assert bytes_of(tmp_path / "out") == bytes_of(whole)
    for partition in (3, 1):
        path = tmp_path / f"out/records/{LOG}-{partition:02d}.jsonl"
        path.write_bytes(path.read_bytes().replace(b'"ruling":"applied"', b'"ruling":"rejected"', 1))
    report = verify(tmp_path / "out", jobs=2)
    assert report.data() == verify(tmp_path / "out").data()
    assert {damage.check for damage in report.damages} >= {"rulings", "outcomes", "counts"}


def test_what_a_filter_withholds_is_counted_and_the_keys_of_the_law_are_always_there(sworn: Sworn, tmp_path: Path) -> None:
    made, source, home = sworn
    (ava,) = agents_called(source, ["ava"])
    selection = Selection(agents=(ava,), types=("JudgeVerdict", "ToolCalled"))
    manifest = export(source, home, tmp_path / "out", selection=selection, formats=["jsonl"])
    report = verify(tmp_path / "out")
    assert report.damages == []
    assert {"rulings", "cells"} <= unchecked(report)
    total = len(made.entries) + 8
    assert manifest.totals.size == total
    assert manifest.totals.withheld == total - manifest.totals.count
    kinds = {key.split("/")[0] for key in manifest.types}
    assert {"LawAdopted", "JudgeVerdict"} <= kinds <= {"LawAdopted", "JudgeVerdict", "ToolCalled", "?"}
    assert sum(manifest.types.values()) > made.partitions
    everyone = export(source, home, tmp_path / "acme", selection=Selection(tenants=("acme",)))
    assert {topic.topic: sum(p.count for p in topic.partitions) for topic in everyone.topics}[CALLS] == 5
    with pytest.raises(UnknownAgent, match="did you mean ava"):
        agents_called(source, ["avva"])


def test_what_is_not_signed_or_reads_differently_is_not_exported(sworn: Sworn, tmp_path: Path) -> None:
    made, source, home = sworn
    changed = MemorySource({name: {p: list(rows) for p, rows in parts.items()} for name, parts in source.topics.items()})
    changed.topics[LOG][1][2] = changed.topics[LOG][1][2]._replace(value=b"{}")
    with pytest.raises(LogChanged, match=r"chimera\.log\[1\]@2 reads differently"):
        export(changed, home, tmp_path / "changed")
    fresh = home_for(tmp_path / "home", made)
    with pytest.raises(NotSigned, match="0 are signed"):
        export(source, fresh, tmp_path / "unsigned")


def test_a_log_that_grew_since_it_was_signed_is_exported_as_far_as_it_was_signed(tmp_path: Path) -> None:
    made = history()
    source, home = source_of(made), home_for(tmp_path / "home", made)
    notarise(home, source)
    signed = {topic: source.ends(topic) for topic in source.topics}
    export(source, home, tmp_path / "before")
    day(made, "late")
    grown = source_of(made)
    with pytest.raises(NotSigned):
        export(grown, home, tmp_path / "all")
    export(grown, home, tmp_path / "after", ends=signed)
    assert bytes_of(tmp_path / "before") == bytes_of(tmp_path / "after")


def test_an_export_cut_off_after_its_manifest_is_not_taken_for_one_of_another_selection(sworn: Sworn, tmp_path: Path) -> None:
    _, source, home = sworn
    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code, "_clear", lambda out: None)  # where it was cut off
        made = export(source, home, out, formats=["jsonl"])
    with pytest.raises(ExportRefused, match="an export of another log, of another selection"):
        export(source, home, out, formats=["jsonl"], redaction=Redaction(policy="none"))
    assert export(source, home, out, formats=["jsonl"]) == made
    assert not (out / PLAN).exists()


def test_a_directory_with_anything_else_is_refused(sworn: Sworn, whole: Path, tmp_path: Path) -> None:
    _, source, home = sworn
    with pytest.raises(ExportRefused, match="finished export"):
        export(source, home, whole)
    (tmp_path / "letter.txt").write_text("dear auditor")
    with pytest.raises(ExportRefused, match=r"letter\.txt"):
        export(source, home, tmp_path)
    with pytest.raises(ExportRefused, match="no format csv"):
        export(source, home, tmp_path / "new", formats=["csv"])


def test_a_link_to_a_folder_elsewhere_is_no_part_of_an_export(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "out")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "records.jsonl").write_text("what nobody signed")
    (tmp_path / "out" / "more").symlink_to(tmp_path / "elsewhere")
    assert [(d.check, d.file) for d in verify(tmp_path / "out").damages] == [("files", "more")]
