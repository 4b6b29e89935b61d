"""Every figure of design section 16 that can be measured today, each beside its limit from the same run.

    python benchmarks/all.py [--full] [--only NAME ...]

Short by default (about three minutes on two cores); `--full` takes the sizes of the design. Prints one table and writes
`benchmarks/results/<time>.json` and `.svg`. Exit 1 when a benchmark did not run to its end; figures below their aim are shown,
not failed: a busy machine is no defect.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
PATIENCE_S = 1200.0

Found = Mapping[str, float]


class Row(NamedTuple):
    """A figure beside its limit. `aim` is the design's, in the figure's unit; `least` says whether more is better."""

    what: str
    figure: float
    unit: str
    limit: float | None
    limit_is: str
    aim: float | None
    least: bool = True

    @property
    def share(self) -> float | None:
        """The figure in units of its limit."""
        return None if not self.limit else self.figure / self.limit

    @property
    def reached(self) -> bool | None:
        """Whether the aim is met; None where there is none."""
        return None if self.aim is None else self.figure >= self.aim if self.least else self.figure <= self.aim


class Bench(NamedTuple):
    """One script: what it is started with, how its words become figures, and the rows that they make."""

    name: str
    short: Sequence[str]
    full: Sequence[str]
    read: Callable[[str, Path], Found]
    rows: Callable[[Found], list[Row]]


def read_json_line(text: str, _: Path) -> Found:
    """The last line of the output is one JSON object."""
    found: Found = json.loads(text.strip().splitlines()[-1])
    return found


def read_json_file(_: str, path: Path) -> Found:
    """The script wrote its figures to a file."""
    found: Found = json.loads(path.read_text())
    return found


def read_fold(text: str, _: Path) -> Found:
    """`benchmarks/fold.py`: a table, one line per number of open tasks."""
    rows = [line.split() for line in text.splitlines() if re.match(r"\s*\d", line)]
    found: dict[str, float] = {}
    for name, cells in (("few", rows[0]), ("many", rows[-1])):
        found |= {f"fold {name} us": float(cells[1]), f"decode {name} us": float(cells[2]), f"json {name} us": float(cells[3])}
    return found


def read_project(text: str, _: Path) -> Found:
    """`benchmarks/project.py`: one line per contestant that ends in records/s and its CPU time."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        if match := re.match(r"(.+?)\s+(\d+) records/s .*= (\d+)/s\)", line):
            name = "rebuild" if match[1].startswith("rebuild") else "copy" if "COPY" in match[1] else "fold"
            found |= {name: float(match[2]), f"{name} by CPU": float(match[3])}
    return found


def rows_append(f: Found) -> list[Row]:
    raw, ours = f["append raw records/s"], f["append ours records/s"]
    return [Row("append", ours, "records/s", raw, "raw idempotent producer", 0.8 * raw)]


def rows_fold(f: Found) -> list[Row]:
    return [
        Row("fold, 10 open tasks", f["fold few us"], "us", f["json few us"], "orjson.loads of the bytes", 5.0, False),
        Row("fold, 400 open tasks", f["fold many us"], "us", f["json many us"], "orjson.loads of the bytes", 5.0, False),
        Row("decode", f["decode many us"], "us", f["json many us"], "orjson.loads of the bytes", None, False),
    ]


def rows_project(f: Found) -> list[Row]:
    return [
        Row(
            "rebuild of all models",
            f["rebuild"],
            "records/s",
            f["copy"],
            "consume + one COPY of the bytes",
            max(10_000, 0.3 * f["copy"]),
        )
    ]


def rows_recall(f: Found) -> list[Row]:
    alone, copied = f["limit: the model alone, texts/s by CPU"], f["copy without indexes, notes/s"]
    made = [Row("short texts embedded", f["embedded texts/s by CPU"], "texts/s", alone, "the model alone", 250.0)]
    for store in [name for name in ("postgres", "weaviate") if f"{name}: notes" in f]:
        made += [
            Row(f"notes into {store}", f[f"{store}: kept notes/s"], "notes/s", copied, "COPY of them, no index", 1_000.0),
            *(
                Row(
                    f"recall of {whose}, {store}, p95",
                    f[f"{store}: recall of {whose} p95 ms"],
                    "ms",
                    f[f"{store}: limit: embedding the question p95 ms"],
                    "embedding the question",
                    30.0,
                    False,
                )
                for whose in ("a tenant", "an agent")
            ),
        ]
    return made


def rows_replay(f: Found) -> list[Row]:
    limit, by_one = f["limit: consume + COPY, records/s"], f["load by 1, records/s"]
    return [
        Row("build, one process", by_one, "records/s", limit, "consume + one COPY of the bytes", max(20_000, 0.3 * limit)),
        Row("build, two processes", f["load by 2, records/s"], "records/s", limit, "consume + one COPY of the bytes", 1.8 * by_one),
        Row("build, CPU per record", f["load by 1, CPU us per record"], "us", None, "", 50.0, False),
        Row("swap, locks held", f["swap, ms of lock"], "ms", None, "", 100.0, False),
    ]


def rows_analysts(f: Found) -> list[Row]:
    raw = f["limit: one COPY of the same rows, rows/s"]
    return [
        Row("engagement ingest", f["ingest rows/s"], "rows/s", raw, "one COPY of the same rows", 0.5 * raw),
        Row("sample questions, p95", f["questions p95 ms"], "ms", None, "", 200.0, False),
        Row("sample questions, p95 of CPU", f["questions p95 ms of CPU"], "ms", None, "", 200.0, False),
    ]


def rows_desk(f: Found) -> list[Row]:
    return [
        Row(
            "review desk, 10,000 cards wait, p50", f["desk p50 ms"], "ms", f["desk: SQL alone p50 ms"], "its SQL alone", None, False
        ),
        Row("review desk, all pages, p95", f["all pages p95 ms"], "ms", None, "", 300.0, False),
    ]


def rows_swarm(f: Found) -> list[Row]:
    limit = f["limit: tasks/s by appends alone"]
    return [
        Row("swarm loop, projected", f["tasks/s projected"], "tasks/s", limit, "appends alone, 64 at once", 400.0),
        Row("swarm loop, CPU per task", f["swarm CPU ms per task"], "ms", None, "", 2.5, False),
        Row("swarm process, memory", f["swarm RSS MB"], "MB", None, "", None, False),
    ]


def rows_latency(f: Found) -> list[Row]:
    p50, p99, trip = f["limit: produce to consume p50 ms"], f["limit: produce to consume p99 ms"], "produce to consume"
    return [
        Row("command applied, p50", f["applied p50 ms"], "ms", p50, trip, None, False),
        Row("command applied, p99", f["applied p99 ms"], "ms", p99, trip, 50.0, False),
        Row("command visible, p50", f["visible p50 ms"], "ms", p50, trip, None, False),
        Row("command visible, p99", f["visible p99 ms"], "ms", p99, trip, 100.0, False),
    ]


def rows_restart(f: Found) -> list[Row]:
    reads = "reading the log and nothing else"
    return [
        Row("restart, short log", f["warm_short_s"], "s", f["limit_read_short_s"], reads, 10.0, False),
        Row("restart, long log", f["warm_long_s"], "s", f["limit_read_long_s"], reads, 10.0, False),
        Row("restart without snapshot", f["cold_long_s"], "s", f["limit_read_long_s"], reads, None, False),
        Row("idle agents, memory", f["idle_rss_mb"], "MB", None, "", 200.0, False),
    ]


def rows_gate(f: Found) -> list[Row]:
    sdk = "a bare SDK call, same server"
    return [
        Row("gate call, CPU", f["gate CPU ms per call"], "ms", f["limit: SDK CPU ms per call"], sdk, None, False),
        Row("gate call over the bare one, CPU", f["gate over SDK, CPU ms per call"], "ms", None, "", 1.0, False),
        Row("200 calls of 2 s at once", f["slow calls at once, s"], "s", f["limit: slow calls by SDK, s"], sdk, 4.0, False),
        Row("all sandboxes up", f["sandboxes up, s"], "s", None, "", 10.0, False),
        Row("all sandboxes, memory", f["sandboxes, MB"], "MB", None, "", 600.0, False),
    ]


def rows_media(f: Found) -> list[Row]:
    raw = f["raw_put_mb_s"]
    found = [Row("a file into the media store", f["put_mb_s"], "MB/s", raw, "obstore alone", 0.7 * raw)]
    for name in ("folder", "s3") if f["large_gb"] else ():
        small, what = f["large_limit_mib"], f"{f['large_gb']:g} GB file, {name}: memory"
        found.append(Row(what, f[f"large_{name}_mib"], "MiB", small, "the same for a small file", small + 64, False))
    return found


def rows_looks(f: Found) -> list[Row]:
    limit, is_ = f["limit: consume + decode + verify + fold records/s by CPU"], "consume + decode + verify + fold"
    return [
        Row("search of the log", f["grep, without rulings records/s by CPU"], "records/s", limit, is_, None),
        Row("search with rulings", f["grep, with rulings records/s by CPU"], "records/s", limit, is_, 0.8 * limit),
        Row("policy rehearsal", f["simulate, other thresholds records/s by CPU"], "records/s", limit, is_, 20_000),
        Row("policy rehearsal, all texts", f["simulate, other rules for texts records/s by CPU"], "records/s", limit, is_, None),
        Row("a past, one process", f["as-of, 1 process records/s by CPU"], "records/s", limit, is_, 20_000),
        Row("a past, two processes", f["as-of, 2 processes records/s"], "records/s", limit, is_, 20_000),
        Row("verify", f["verify records/s by CPU"], "records/s", limit, is_, 20_000),
    ]


def rows_memory(f: Found) -> list[Row]:
    return [
        Row(f"{work}, log of 4 ×, memory", f[f"{work}, 4 ×, MB"], "MB", f[f"{work}, 1 ×, MB"], "a log of 1 ×", None, False)
        for work in ("apply", "as-of", "simulate", "verify")
    ]


def rows_export(f: Found) -> list[Row]:
    fold, longer = f["limit: consume and fold, records/s"], next(name for name in f if name.endswith("times the records"))
    made = [name for name in f if name.startswith("export by") and name.endswith("records/s")]
    return [
        *(
            Row(f"audit {n.partition(',')[0]}, JSON lines and Parquet", f[n], "records/s", fold, "folding by one", 30_000.0)
            for n in made
        ),
        Row("audit export, memory of 4 times the records", f[longer], "MiB", f["memory: MiB"], "of the records once", None, False),
    ]


def rows_audit(f: Found) -> list[Row]:
    sha = f["limit: sha256 of the same bytes, records/s"]
    return [
        Row("audit export of a log in files", f["export records/s"], "records/s", sha, "sha256 of the bytes", None),
        Row("audit verify, trees", f["verify leaves/s"], "leaves/s", sha, "sha256 of the bytes", 100_000.0),
        Row("audit verify, records (verify.py)", f["verify.py records/s"], "records/s", sha, "sha256 of the bytes", None),
        Row("audit verify, fold and cells too", f["audit verify (fold and cells too) records/s"], "records/s", None, "", None),
        Row(f"one proof among {f['leaves']:,.0f} leaves", f["one proof ms"], "ms", None, "", 100.0, False),
        Row("byte trees, CPU per record", f["notary CPU us per record"], "us", None, "", None, False),
    ]


BENCHES = (
    Bench("fold", (), (), read_fold, rows_fold),
    Bench("append", ("--records", "20000", "--json"), ("--json",), read_json_line, rows_append),
    Bench("project", ("--agents", "120"), (), read_project, rows_project),
    Bench("replay", ("--agents", "120", "--json"), ("--json",), read_json_line, rows_replay),
    Bench(
        "analysts",
        ("--json",),
        ("--posts", "200000", "--observations", "13", "--asset-events", "4", "--json"),
        read_json_line,
        rows_analysts,
    ),
    Bench("desk", ("--json",), ("--posts", "100000", "--json"), read_json_line, rows_desk),
    Bench("gate", ("--json",), ("--calls", "1000", "--json"), read_json_line, rows_gate),
    Bench("looks", ("--agents", "180", "--json"), ("--json",), read_json_line, rows_looks),
    Bench("media", ("--mb", "16", "--json"), ("--large", "2048", "--json"), read_json_line, rows_media),
    Bench("memory", ("--agents", "10", "--json"), ("--json",), read_json_line, rows_memory),
    Bench("latency", ("--seconds", "5", "--json"), ("--seconds", "30", "--json"), read_json_line, rows_latency),
    Bench("swarm", ("--agents", "60", "--json"), ("--agents", "1000", "--brains", "2", "--json"), read_json_line, rows_swarm),
    Bench("restart", ("--agents", "1000", "--json", "FILE"), ("--json", "FILE"), read_json_file, rows_restart),
    Bench("recall", ("--notes", "5000", "--json"), ("--json",), read_json_line, rows_recall),
    Bench("export", ("--agents", "150", "--rounds", "1", "--json"), ("--json",), read_json_line, rows_export),
    Bench(
        "audit",
        ("--agents", "150", "--jobs", "1", "--leaves", "200000", "--json"),
        ("--leaves", "10000000", "--json"),
        read_json_line,
        rows_audit,
    ),
)


def run(bench: Bench, full: bool) -> list[Row]:
    """Run one script to its end. Raises `RuntimeError` with the end of its words where it fails."""
    with tempfile.TemporaryDirectory(prefix="chimera-bench-") as place:
        file = Path(place) / "figures.json"
        words = [str(file) if word == "FILE" else word for word in (bench.full if full else bench.short)]
        argv = [sys.executable, str(HERE / f"{bench.name}.py"), *words]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE_S, check=False, cwd=HERE.parent)
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"it did not end within {PATIENCE_S:g} s") from error
        try:
            return bench.rows(bench.read(done.stdout, file))
        except (LookupError, ValueError, OSError) as error:
            said = (done.stderr or done.stdout).strip().splitlines()[-3:]
            raise RuntimeError(f"exit code {done.returncode}: {' | '.join(said)} ({error!r})") from error


def table(rows: Sequence[Row]) -> Table:
    """The rows for people."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("what", "figure", "limit in the same run", "of limit", "aim"):
        made.add_column(name, justify="left" if name == "what" else "right", no_wrap=name != "limit in the same run")
    for row in rows:
        colour = {True: "green", False: "yellow", None: ""}[row.reached]
        limit = "" if row.limit is None else f"{short(row.limit)} {row.unit} ({row.limit_is})"
        aim = "" if row.aim is None else f"{'≥' if row.least else '≤'} {short(row.aim)}"
        share = "" if row.share is None else f"{row.share:.2f}"
        made.add_row(
            row.what,
            f"[{colour}]{short(row.figure)}[/] {row.unit}" if colour else f"{short(row.figure)} {row.unit}",
            limit,
            share,
            aim,
        )
    return made


def short(figure: float) -> str:
    """A figure with three digits that say something."""
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.1f}" if figure >= 10 else f"{figure:.2f}"


def plot(rows: Sequence[Row], title: str) -> str:
    """Bars of each figure against its aim as an SVG: the line is the aim, right of it is better."""
    drawn = [(row, row.figure / row.aim if row.least else row.aim / row.figure) for row in rows if row.aim and row.figure]
    height, left, width = 26, 230, 420
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 190}" height="{height * len(drawn) + 60}"'
        ' font-family="sans-serif" font-size="13">',
        f'<text x="8" y="20" font-weight="bold">{escape(title)}</text>',
    ]
    middle = left + width / 2
    for n, (row, share) in enumerate(drawn):
        y = 36 + n * height
        bar = width * min(1.0, share / 2)
        colour = "#2a7f3f" if row.reached else "#c58a00"
        parts.append(f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">{escape(row.what)}</text>')
        parts.append(f'<rect x="{left}" y="{y}" width="{bar:.1f}" height="{height - 8}" fill="{colour}"/>')
        sign = "≥" if row.least else "≤"
        said = f"{short(row.figure)} {row.unit} (aim {sign} {short(row.aim or 0)})"
        parts.append(f'<text x="{left + width + 8}" y="{y + 15}">{escape(said)}</text>')
    bottom = 36 + len(drawn) * height
    parts.append(f'<line x1="{middle}" y1="30" x2="{middle}" y2="{bottom}" stroke="#333" stroke-dasharray="4 3"/>')
    parts.append(f'<text x="{middle}" y="{bottom + 14}" text-anchor="middle">aim</text></svg>')
    return "\n".join(parts) + "\n"


def machine() -> dict[str, object]:
    """Where this was measured, and how busy that machine was: figures mean little without it."""
    cpu = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), platform.machine()
    )
    return {"cpu": cpu, "cores": os.cpu_count(), "load": os.getloadavg(), "python": interpreter()}


def interpreter() -> str:
    """Which Python, and where it lives: one that was built without profile-guided optimisation is slower by a seventh."""
    return f"{platform.python_version()} of {sys.base_prefix}"


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="the sizes of the design instead of short ones")
    parser.add_argument("--only", nargs="+", choices=[bench.name for bench in BENCHES], help="only these")
    given = parser.parse_args()
    console, rows, failed = Console(width=None if sys.stdout.isatty() else 150), [], {}
    at = datetime.now(UTC)
    before, load = machine(), os.getloadavg()
    for bench in BENCHES:
        if given.only and bench.name not in given.only:
            continue
        began = time.monotonic()
        try:
            with console.status(f"{bench.name} …"):
                rows += run(bench, given.full)
        except RuntimeError as error:
            failed[bench.name] = str(error)
        console.print(f"{bench.name}: {'failed, ' if bench.name in failed else ''}{time.monotonic() - began:.0f} s", style="dim")
    console.print(table(rows))
    busy = f"load {load[0]:.1f} before and {os.getloadavg()[0]:.1f} after"
    console.print(f"{os.cpu_count()} cores, {busy}; Python {interpreter()}")
    for name, why in failed.items():
        console.print(f"{name} did not end well: {why}", style="red", markup=False)
    RESULTS.mkdir(exist_ok=True)
    stem = RESULTS / at.strftime("%Y%m%dT%H%M%SZ")
    figures = [row._asdict() | {"share": row.share, "reached": row.reached} for row in rows]
    body = {"at": at.isoformat(), "full": given.full, "machine": before, "rows": figures, "failed": failed}
    stem.with_suffix(".json").write_text(json.dumps(body, indent=2) + "\n")
    stem.with_suffix(".svg").write_text(plot(rows, f"Chimera, {at:%Y-%m-%d %H:%M} UTC"))
    console.print(f"written: {stem}.json and .svg", markup=False)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
