"""Files of platform numbers into `chimera.metrics`: checked row by row, resumed where a crash stopped them.

The rule not to break: no row is lost without a line that says why. A chunk may be appended twice by a crash: what is read of it
is the last value, so nothing is counted twice.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from chimera.errors import ChimeraError
from chimera.eventlog.append import Appender, Entry
from chimera.events.metrics import TOPIC, BadObservation, EngagementObserved, encode, observed, when

CHUNK = 5_000
FIELDS = frozenset({"agent", "platform", "platform_id", "observed_at", "metric", "value", "source"})
"""What a row says beside numbers: in a narrow file `metric` and `value`; in a wide one every other column is a metric."""

Resolve = Callable[[str, str, str], str | None]
"""(agent's name or key, or '', platform, post's id) -> the agent's stream key; None = nobody knows."""
Raw = Mapping[str, Any]


class BadFile(ChimeraError):
    """The file cannot be read as what its name says."""


@dataclass
class Load:
    """How far a file is. `done`: rows read; `appended`: records on the log; `rejected`: rows in the reject file."""

    file: str
    fingerprint: str
    done: int = 0
    appended: int = 0
    rejected: int = 0
    finished: bool = False


def rows(file: Path) -> Iterator[Raw]:
    """Rows of a CSV (with a header), JSONL or Parquet file, told apart by its name. Raises `BadFile`."""
    kind = file.suffix.lower()
    try:
        if kind == ".csv":
            with file.open(newline="", encoding="utf-8-sig") as stream:
                yield from csv.DictReader(stream)
        elif kind in (".jsonl", ".ndjson"):
            with file.open("rb") as stream:
                for line in stream:
                    if line.strip():
                        yield _json(line)
        elif kind == ".parquet":
            yield from _parquet(file)
        else:
            raise BadFile(f"{file}: its name ends in {kind or 'nothing'}: it must be .csv, .jsonl, .ndjson or .parquet")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadFile(f"{file}: {error}") from error


def _json(line: bytes) -> Raw:
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        said = None
    return said if isinstance(said, dict) else {"": line.decode(errors="replace").strip()[:500]}


def _parquet(file: Path) -> Iterator[Raw]:
    try:
        import pyarrow.parquet as pq
        from pyarrow import ArrowException
    except ImportError as error:
        raise BadFile(f"{file}: Parquet needs the extra 'parquet': run `pip install 'chimera-swarm[parquet]'`") from error
    try:
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(CHUNK):
                yield from batch.to_pylist()
    except ArrowException as error:
        raise BadFile(f"{file}: {str(error).splitlines()[0]}") from error


def observation(row: Raw, resolve: Resolve, source: str) -> EngagementObserved:
    """What a row of a file says. Raises `BadObservation`, which names the column and what it should hold."""
    if "" in row or None in row:
        raise BadObservation("the row is no object or has more fields than the header")
    platform, post, name = (str(row.get(n) or "").strip() for n in ("platform", "platform_id", "agent"))
    agent = resolve(name, platform, post)
    if agent is None:
        raise BadObservation(
            f"agent '{name}' is not enrolled" if name else f"post {post!r} of {platform!r} is nobody's: name its agent"
        )
    return observed(
        agent,
        {
            "platform": platform,
            "platform_id": post,
            "observed_at": when(row.get("observed_at")),
            "values": _values(row),
            "source": str(row.get("source") or source),
        },
    )


def _values(row: Raw) -> dict[str, float]:
    if row.get("metric") not in (None, ""):
        told = {str(row["metric"]): row.get("value")}
    else:
        told = {name: value for name, value in row.items() if name not in FIELDS and value not in (None, "")}
    if not told:
        raise BadObservation("the row tells no number: a column metric and value, or one column per metric")
    return {name: _number(name, value) for name, value in told.items()}


def _number(name: str, value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    try:
        number = float(str(value).strip())
    except ValueError:
        raise BadObservation(f"{name} is {str(value)[:60]!r}: a number from 0 on") from None
    return int(number) if number.is_integer() else number


def begin(file: Path, notes: Path, *, again: bool = False) -> tuple[Load, Path]:
    """How far this very file was loaded before, and where that is noted. Raises `BadFile` where there is no such file."""
    try:
        stat = file.stat()
        with file.open("rb") as stream:
            head = stream.read(65_536)
    except OSError as error:
        raise BadFile(f"{file}: {error.strerror}") from error
    fingerprint = hashlib.sha256(f"{file.resolve()} {stat.st_size} {stat.st_mtime_ns} ".encode() + head).hexdigest()
    note = notes / f"{fingerprint[:24]}.json"
    if note.exists() and not again:
        return Load(**json.loads(note.read_text(encoding="utf-8"))), note
    return Load(str(file), fingerprint), note


def load(
    file: Path,
    resolve: Resolve,
    state: Load,
    note: Path,
    rejects: Path,
    appender: Appender | None,
    *,
    topic: str = TOPIC,
    progress: Callable[[Load], None] = lambda state: None,
) -> Load:
    """Go on with a file from where `state` says; `appender` None: only check. Raises `BadFile`, `AppendFailed`.

    Rows that say no observation go to `rejects`, one JSON object per line: row (from 1), reason, data.
    """
    source = f"load:{file.name}"
    left = islice(rows(file), state.done, None)
    while chunk := list(islice(left, CHUNK)):
        entries: list[Entry] = []
        bad: list[str] = []
        for number, row in enumerate(chunk, state.done + 1):
            try:
                seen = observation(row, resolve, source)
            except BadObservation as error:
                data = {str(name): value for name, value in row.items()}
                bad.append(json.dumps({"row": number, "reason": str(error), "data": data}, default=str, ensure_ascii=False))
            else:
                entries.append(Entry(topic, seen.agent, encode(seen), []))
        if appender is not None:
            if entries:
                appender.append_many(entries)
            _append_lines(rejects, bad, first=state.rejected == 0)
        state.done += len(chunk)
        state.appended += len(entries)
        state.rejected += len(bad)
        if appender is not None:
            _note(note, state)
        progress(state)
    state.finished = True
    if appender is not None:
        _note(note, state)
    return state


def _append_lines(file: Path, lines: list[str], *, first: bool) -> None:
    if lines:
        with file.open("w" if first else "a", encoding="utf-8") as stream:
            stream.write("\n".join(lines) + "\n")
            stream.flush()
            os.fsync(stream.fileno())


def _note(note: Path, state: Load) -> None:
    note.parent.mkdir(parents=True, exist_ok=True)
    unfinished = note.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(asdict(state)), encoding="utf-8")
    unfinished.rename(note)
