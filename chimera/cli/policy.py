"""`chimera policy`: read bundles for mistakes, measure the judge's rules, and fit its confidence to what people decided.

What is published to whom is `chimera.cli.editions`. The rule not to break: nothing here changes what is in force.
Exit codes: 0 fine, 1 failure, 2 usage, 3 something was found wrong.
"""

from __future__ import annotations

import csv
import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from chimera.cli import editions
from chimera.cli.options import JsonOption
from chimera.cli.output import print_json, visible
from chimera.errors import ChimeraError
from chimera.policy import labelled
from chimera.policy import report as examples_of
from chimera.policy.boardkit import digest, load_text, parse_rules, parse_soul
from chimera.policy.calibration import IDENTITY, MINIMUM, Bin, Calibration, Decided, brier, fit, reliability
from chimera.policy.contradictions import in_rules, in_soul
from chimera.policy.documents import DocumentError, split_front_matter
from chimera.policy.rules import RULES
from chimera.projections.questions import ask, question
from chimera.settings import Settings
from chimera.stack.addresses import load

app = typer.Typer(help="Policies: lint, compare, publish, who has which, calibrate.", no_args_is_help=True)
for _command in (editions.diff, editions.publish, editions.status, editions.show, editions.rollback):
    app.command()(_command)


@app.command()
def lint(
    files: Annotated[list[Path] | None, typer.Argument(help="AGENTS.md and SOUL.md files.")] = None,
    examples: Annotated[bool, typer.Option("--examples", help="Run every rule on the texts that it ships with.")] = False,
    texts: Annotated[Path, typer.Option("--texts", help="Folder with <rule>.yaml.")] = examples_of.TEXTS,
    as_json: JsonOption = False,
) -> None:
    """Read bundles as the fleet would. With --examples also measure every rule on its own texts."""
    if not files and not examples:
        raise typer.BadParameter("name a file, or give --examples")
    read = [_read(path) for path in files or []]
    measured = examples_of.report(texts) if examples else []
    wrong = any(row.wrong for row in measured) or any(row["problem"] for row in read)
    if as_json:
        rules = [
            {
                "rule": r.rule,
                "found": r.found,
                "missed": r.missed,
                "false_alarms": r.false_alarms,
                "passed": r.passed,
                "wrong": r.wrong,
            }
            for r in measured
        ]
        print_json({"files": read, "rules": rules})
    else:
        for row in read:
            typer.echo(f"{row['file']}: {row['problem'] or 'fine, ' + row['kind'] + ', digest ' + row['digest'][:12]}")
        _print_examples(measured)
    if wrong:
        raise typer.Exit(3)


def _read(path: Path) -> dict[str, str]:
    """One bundle file, read as what it says that it is."""
    try:
        text = load_text(path)
        front, _, _ = split_front_matter(text, str(path))
        if any(line.startswith("boardkit:") for line in front.splitlines()):
            kind, found = "policy", in_rules(parse_rules(text, str(path)))
        else:
            soul = parse_soul(text, str(path))
            kind, found = f"persona {soul.name}", in_soul(soul)
    except DocumentError as error:
        return {"file": str(path), "kind": "", "digest": "", "problem": str(error)}
    return {"file": str(path), "kind": kind, "digest": digest(text), "problem": "; ".join(found)}


def _print_examples(measured: list[examples_of.Measured]) -> None:
    if not measured:
        return
    typer.echo(f"{'rule':<17} {'does':<7} {'texts':>5} {'precision':>9} {'recall':>6}  source")
    for rule, row in zip(RULES, measured, strict=True):
        texts = row.found + row.missed + row.false_alarms + row.passed
        typer.echo(f"{row.rule:<17} {rule.does:<7} {texts:>5} {row.precision:>9.3f} {row.recall:>6.3f}  {rule.source}")
        for text in row.wrong:
            typer.echo(f"    misjudged: {visible(text)}")


@app.command()
def score(
    folder: Annotated[Path, typer.Option("--labelled", help="Folder with sheets of labelled texts.")] = labelled.LABELLED,
    errors: Annotated[bool, typer.Option("--errors", help="Print the misjudged texts of the tuning half.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Precision and recall of every rule and topic on the labelled set, on the half that rules are tuned on and on the other."""
    halves, wrong = labelled.score(labelled.load(folder))
    if as_json:
        print_json({half: _plain(scores) for half, scores in halves.items()})
        return
    tune, held = halves["tune"], halves["held_out"]
    typer.echo(f"{tune.texts + held.texts} texts: {tune.texts} to tune on, {held.texts} held out\n")
    typer.echo(f"{'':<20} {'tune':>20} {'held out':>27}")
    typer.echo(f"{'rule or topic':<20} {'n':>4} {'precision':>9} {'recall':>6}   {'n':>6} {'precision':>9} {'recall':>6}")
    for label in tune.by_rule:
        typer.echo(_line(label, tune.by_rule[label], held.by_rule[label]))
    typer.echo(_line("all labels", tune.overall, held.overall))
    typer.echo(_line("stopped at all", tune.stopped, held.stopped))
    if errors:
        for w in wrong:
            if w.half == "tune":
                told = [f"missed {', '.join(w.missed)}"] * bool(w.missed) + [f"alarm {', '.join(w.alarms)}"] * bool(w.alarms)
                typer.echo(f"\n[{w.domain}] {'; '.join(told)}\n    {visible(w.text)}")


def _line(name: str, tune: labelled.Score, held: labelled.Score) -> str:
    cells = [f"{s.found + s.missed:>4} {s.precision:>9.3f} {s.recall:>6.3f}" for s in (tune, held)]
    return f"{name:<20} {cells[0]}     {cells[1]}"


def _plain(scores: labelled.Scores) -> dict[str, object]:
    def numbers(s: labelled.Score) -> dict[str, float]:
        return {**asdict(s), "precision": round(s.precision, 4), "recall": round(s.recall, 4)}

    return {
        "texts": scores.texts,
        "rules": {name: numbers(s) for name, s in scores.by_rule.items()},
        "all_labels": numbers(scores.overall),
        "stopped": numbers(scores.stopped),
    }


# --- calibration -----------------------------------------------------------------------------------------------------


class NotCalibrated(ChimeraError):
    """There is nothing to fit from, or no policy to write into; the message says what is missing."""


@app.command()
def calibrate(
    decisions: Annotated[
        Path | None, typer.Option("--decisions", help="CSV of `chimera ask decided --csv`; the read models when not given.")
    ] = None,
    minimum: Annotated[int, typer.Option("--minimum", min=1, help="Fewer decisions fit nothing.")] = MINIMUM,
    write: Annotated[Path | None, typer.Option("--write", help="AGENTS.md that gets the table, as a new edition to adopt.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Fit the judge's confidence to what people decided: reliability, Brier score before and after, the table for AGENTS.md."""
    known = _from_csv(decisions) if decisions is not None else _from_read_models()
    table = fit(known, minimum)
    before, after = brier(known), brier(known, table)
    if write is not None:
        if table == IDENTITY:
            raise NotCalibrated(f"{len(known)} decisions are fewer than {minimum}: nothing was written to {write}")
        _write_table(write, table)
    if as_json:
        shown = {
            "decisions": len(known),
            "table": [list(row) for row in table],
            "brier": {"before": round(before, 6), "after": round(after, 6)},
            "reliability": {
                "before": [row._asdict() for row in reliability(known)],
                "after": [row._asdict() for row in reliability(known, table)],
            },
        }
        print_json(shown)
        return
    enough = "" if len(known) >= minimum else f": fewer than {minimum}, so the raw confidence stays as it is"
    typer.echo(f"{len(known)} decisions{enough}")
    typer.echo(f"Brier score: {before:.4f} raw, {after:.4f} calibrated (0 is perfect)\n")
    _print_reliability("raw", reliability(known))
    _print_reliability("calibrated", reliability(known, table))
    typer.echo(_table_line(table))


def _from_read_models() -> list[Decided]:
    answer = ask(load(Settings()).postgres, question("decided"))
    raw, approved = answer.columns.index("raw"), answer.columns.index("approved")
    return [Decided(float(row[raw]), bool(row[approved])) for row in answer.rows]


def _from_csv(path: Path) -> list[Decided]:
    """Columns `raw` and `approved`, as `chimera ask decided --csv` writes them."""
    found: list[Decided] = []
    with path.open(newline="", encoding="utf-8") as lines:
        for number, row in enumerate(csv.DictReader(lines), start=2):
            try:
                raw, approved = float(row["raw"]), {"true": True, "false": False}[row["approved"].lower()]
            except (KeyError, ValueError) as error:
                raise NotCalibrated(f"{path}, line {number}: needs raw (0..1) and approved (true or false): {error}") from error
            if not 0 <= raw <= 1:
                raise NotCalibrated(f"{path}, line {number}: a raw confidence of {raw} is none: leave the line out")
            found.append(Decided(raw, approved))
    return found


def _print_reliability(name: str, rows: list[Bin]) -> None:
    typer.echo(f"{name:<11} {'decisions':>9} {'said':>6} {'approved':>8}")
    for row in rows:
        typer.echo(f"{row.low:.1f} - {row.high:.1f}   {row.n:>9} {row.mean:>6.3f} {row.approved:>8.3f}")
    typer.echo("")


def _table_line(table: Calibration) -> str:
    """The table as a line of AGENTS.md; empty for the identity."""
    rows = [] if table == IDENTITY else [f"[{raw:g}, {share:.6g}]" for raw, share in table]
    return f"calibration: [{', '.join(rows)}]"


def _write_table(path: Path, table: Calibration) -> None:
    """Replace the line `calibration: [...]` of a policy, or add it. The result is read back before it is kept."""
    text = load_text(path)
    parse_rules(text, str(path))
    line = _table_line(table)
    made, replaced = re.subn(r"(?m)^calibration: *\[.*?\] *(?=#|$)", line + " ", text, count=1)
    if not replaced:
        made = re.sub(r"(?m)^boardkit:.*$", lambda found: f"{found.group()}\n{line}", text, count=1)
    if not parse_rules(made, str(path)).calibration:
        raise NotCalibrated(f"{path}: its calibration is written over several lines: put it on one line")
    path.write_text(made, encoding="utf-8")
