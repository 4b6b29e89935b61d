"""`chimera policy`: read bundles for mistakes, measure the judge's rules, and fit its confidence to what people decided.

The rule not to break: nothing here changes what is in force; a bundle counts only once it is adopted.
Exit codes: 0 fine, 1 failure, 2 usage, 3 something was found wrong.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from chimera.cli.output import JsonOption, print_json, visible
from chimera.policy import labelled
from chimera.policy import report as examples_of
from chimera.policy.boardkit import digest, load_text, parse_rules, parse_soul
from chimera.policy.documents import DocumentError, split_front_matter
from chimera.policy.lexicons import UnknownLexicon, lexicon
from chimera.policy.rules import RULES

app = typer.Typer(help="Policies: lint bundles, score the judge's rules, calibrate its confidence.", no_args_is_help=True)


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
            kind, rules = "policy", parse_rules(text, str(path))
            for name in rules.sensitive:
                lexicon(name)
        else:
            kind = f"persona {parse_soul(text, str(path)).name}"
    except (DocumentError, UnknownLexicon) as error:
        return {"file": str(path), "kind": "", "digest": "", "problem": str(error)}
    return {"file": str(path), "kind": kind, "digest": digest(text), "problem": ""}


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
