"""A thousand ways to change an export: each is detected, and named by file and, where records are at stake, by record.

The rule not to break: whoever changes it here may do everything but sign; in every second case the list of files is made to fit.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chimera.audit import standalone
from chimera.audit.export import export
from chimera.audit.verify import verify
from tests.audithouse import LOG, home_for, notarise, short_history, source_of

MUTATIONS, SEED = 1000, 20261123
Change = tuple[str, bytes | None, int]
"""File, what it is afterwards (None: gone), and the record at which the change begins (-1: none in particular)."""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = short_history()
    source, home = source_of(made, at_most=24), home_for(tmp_path_factory.mktemp("home") / "home", made)
    notarise(home, source)
    export(source, home, home.parent / "out")
    return home.parent / "out"


# --- what is changed -------------------------------------------------------------------------------------------------


def edit_bytes(rng: random.Random, raw: bytes, how: str) -> bytes:
    """Flip, drop, insert, swap or cut bytes anywhere."""
    at = rng.randrange(len(raw))
    if how == "flip":
        return raw[:at] + bytes([raw[at] ^ (1 << rng.randrange(8))]) + raw[at + 1 :]
    if how == "drop":
        return raw[:at] + raw[at + 1 :]
    if how == "insert":
        return raw[:at] + bytes([rng.randrange(256)]) + raw[at:]
    if how == "truncate":
        return raw[:at]
    other = next((n for n in range(len(raw)) if raw[n] != raw[at]), at)
    low, high = sorted((at, other))
    return raw[:low] + raw[high : high + 1] + raw[low + 1 : high] + raw[low : low + 1] + raw[high + 1 :]


def edit_parts(rng: random.Random, parts: list[bytes], how: str) -> tuple[list[bytes], int]:
    """The same with whole lines or hashes; the place where they begin to differ."""
    at = rng.randrange(len(parts))
    if how == "drop":
        return parts[:at] + parts[at + 1 :], at
    if how == "insert":
        return [*parts[:at], rng.choice(parts), *parts[at:]], at
    if how == "truncate":
        return parts[:at], at
    if how == "reorder":
        return parts[:at] + parts[at:][::-1], at
    other = rng.randrange(len(parts))
    low, high = sorted((at, other))
    return [*parts[:low], parts[high], *parts[low + 1 : high], *([parts[low]] if high > low else []), *parts[high + 1 :]], low


def change_line(rng: random.Random, out: Path, how: str) -> Change:
    """A record's line: any byte, whole lines, or its ruling."""
    name = f"records/{LOG}-{rng.randrange(2):02d}.jsonl"
    lines = (out / name).read_bytes().splitlines(keepends=True)
    if how == "flip":
        at = rng.randrange(len(lines))
        lines[at] = edit_bytes(rng, lines[at][:-1], rng.choice(["flip", "drop", "insert"])) + b"\n"
        return name, b"".join(lines), at
    made, at = edit_parts(rng, lines, how)
    return name, b"".join(made), at


def change_ruling(rng: random.Random, out: Path, how: str) -> Change:
    """What was ruled on a record."""
    name = f"records/{LOG}-{rng.randrange(2):02d}.jsonl"
    lines = (out / name).read_bytes().splitlines(keepends=True)
    at = rng.randrange(len(lines))
    words = orjson.loads(lines[at])
    old, new = rng.choice(
        [
            (b'"ruling":"%s"' % words["ruling"].encode(), b'"ruling":"%s"' % rng.choice([b"maybe", b"Applied"])),
            (b'"rulingreason":"%s"' % words["rulingreason"].encode(), b'"rulingreason":"because"'),
            (b'"stateversion":%d' % words["stateversion"], b'"stateversion":%d' % (words["stateversion"] + 1)),
        ]
    )
    lines[at] = lines[at].replace(old, new, 1)
    return name, b"".join(lines), at


def change_tile(rng: random.Random, out: Path, how: str) -> Change:
    """A leaf's hash in a tile, of bytes or outcomes."""
    name = rng.choice([str(path.relative_to(out)) for path in sorted(out.glob("*/*/*/tile/**/*")) if path.is_file()])
    raw = (out / name).read_bytes()
    if how in ("flip", "truncate"):
        return name, edit_bytes(rng, raw, how), -1
    return name, b"".join(edit_parts(rng, standalone.split_hashes(raw), how)[0]), -1


def change_other(rng: random.Random, out: Path, how: str) -> Change:
    """Manifest, its signature, the list of files, a checkpoint, a document: any byte, or the whole file."""
    names = ["manifest.json", "manifest.dsse.json", "SHA256SUMS", "verify.py", "VERIFY.md", "security.ocsf.jsonl"]
    names += [str(path.relative_to(out)) for path in sorted(out.glob("*/*/*/checkpoint"))]
    name = rng.choice(names)
    if how == "reorder":
        return name, b"".join((out / name).read_bytes().splitlines(keepends=True)[::-1]), -1
    return name, edit_bytes(rng, (out / name).read_bytes(), how) if rng.random() < 0.95 else None, -1


def change_cell(rng: random.Random, out: Path, how: str) -> Change:
    """A byte of a Parquet file, or one of its cells in a file that is whole."""
    name = f"records/{LOG}-{rng.randrange(2):02d}.parquet"
    if how != "swap":
        return name, edit_bytes(rng, (out / name).read_bytes(), how if how != "reorder" else "swap"), -1
    table = pq.read_table(out / name)
    at, column = (
        rng.randrange(table.num_rows),
        rng.choice(["value", "ruling", "state_version", "leaf_sha256", "tenant", "appended"]),
    )
    values = table.column(column).to_pylist()
    values[at] = {"value": b"{}", "state_version": 99, "appended": None}.get(column, "else")
    place = table.schema.get_field_index(column)
    sink = pa.BufferOutputStream()
    pq.write_table(table.set_column(place, table.schema.field(place), pa.array(values, table.schema.field(place).type)), sink)
    return name, sink.getvalue().to_pybytes(), at


KINDS: dict[str, Callable[[random.Random, Path, str], Change]] = {
    "record": change_line,
    "ruling": change_ruling,
    "tile": change_tile,
    "other": change_other,
    "cell": change_cell,
}
WAYS = ("flip", "drop", "swap", "insert", "truncate", "reorder")


def changes(out: Path) -> Iterator[tuple[str, Change]]:
    rng, made = random.Random(SEED), 0
    while made < MUTATIONS:
        kind = rng.choices(list(KINDS), (5, 3, 4, 5, 2))[0]
        change = KINDS[kind](rng, out, rng.choice(WAYS))
        before = (out / change[0]).read_bytes()
        if change[1] != before:
            made += 1
            yield kind, change


def recount(out: Path, name: str, before: dict[str, bytes]) -> None:
    """What a forger can do: write the list of files and the manifest anew, so that their hashes fit."""
    if name in before:
        return
    sums = (out / "SHA256SUMS").read_bytes().decode().splitlines()
    digest = hashlib.sha256((out / name).read_bytes()).hexdigest()
    sums = [f"{digest}  {name}" if line.endswith(f"  {name}") else line for line in sums]
    (out / "SHA256SUMS").write_text("\n".join(sums) + "\n")
    told = orjson.loads(before["manifest.json"])
    told["sums"] = hashlib.sha256((out / "SHA256SUMS").read_bytes()).hexdigest()
    (out / "manifest.json").write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n")


@pytest.mark.timeout(
    1800
)  # two thousand verifications: on a machine that is busy with ten other things the usual five minutes are short
def test_each_of_a_thousand_changes_is_detected_and_named_by_both_verifiers(out: Path) -> None:
    assert verify(out).damages == standalone.verify(out).damages == []
    lists = {name: (out / name).read_bytes() for name in ("manifest.json", "SHA256SUMS", "manifest.dsse.json")}
    seen, unnamed = Counter[str](), list[tuple[str, str, int]]()
    for number, (kind, (name, content, record)) in enumerate(changes(out)):
        path, forged = out / name, number % 2 == 0
        before = path.read_bytes()
        path.unlink() if content is None else path.write_bytes(content)
        if forged and content is not None:
            recount(out, name, lists)
        for who, check in (("verify.py", standalone.verify), ("chimera audit verify", verify)):
            report = check(out)
            files = {damage.file for damage in report.damages}
            named = name in files if not forged else bool(files)
            if kind in ("record", "ruling"):
                named = named and any(damage.file == name for damage in report.damages)
                if kind == "ruling" or path.read_bytes().count(b"\n") == before.count(b"\n"):
                    named = named and any(d.file == name and d.record >= record and d.check != "files" for d in report.damages)
            if kind == "cell" and record >= 0 and who != "verify.py":
                named = named and (name, record) in {(d.file, d.record) for d in report.damages if d.check == "cells"}
            if not named:
                unnamed.append((who, name, number))
        path.write_bytes(before)
        for other, whole in lists.items():
            (out / other).write_bytes(whole)
        seen[kind] += 1
    assert unnamed == []
    assert sum(seen.values()) == MUTATIONS
    assert min(seen.values()) > 50
    assert verify(out).damages == []


def test_a_text_in_a_parquet_file_that_is_none_is_named_by_its_record(out: Path) -> None:
    path = out / f"records/{LOG}-00.parquet"
    whole, table = path.read_bytes(), pq.read_table(path)
    place = table.schema.get_field_index("actor")
    texts = [text.encode() for text in table.column("actor").to_pylist()]
    texts[3] = b"\xb1 is no text"
    column = pa.Array.from_buffers(pa.string(), len(texts), pa.array(texts, pa.binary()).buffers())
    pq.write_table(table.set_column(place, table.schema.field(place), column), path)
    cells = [damage for damage in verify(out).damages if damage.check == "cells"]
    path.write_bytes(whole)
    assert [(damage.file, damage.record) for damage in cells] == [(f"records/{LOG}-00.parquet", 3)]
    assert "column actor" in cells[0].text


def test_a_line_that_claims_an_earlier_place_is_named_by_the_record_that_was_due(out: Path) -> None:
    path = out / f"records/{LOG}-00.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"offset":23,', b'"offset":3,'))
    found = standalone.verify(out).damages
    path.write_bytes(whole)
    assert (f"records/{LOG}-00.jsonl", 23, "complete") in {(damage.file, damage.record, damage.check) for damage in found}


def test_a_file_that_was_added_or_is_gone_is_named(out: Path, tmp_path: Path) -> None:
    (out / "records" / "more.jsonl").write_text("{}")
    assert {damage.file for damage in standalone.verify(out).damages} == {"records/more.jsonl"}
    (out / "records" / "more.jsonl").unlink()
    path = out / "records" / f"{LOG}-01.jsonl"
    whole = path.read_bytes()
    path.unlink()
    assert {damage.file for damage in standalone.verify(out).damages} == {f"records/{LOG}-01.jsonl"}
    path.write_bytes(whole)
