"""One way to print: tables for people, JSON for programs, exit codes that are a contract.

0 applied (or nothing to do) · 3 refused, rejected or void · 4 appended, ruling not known yet · 2 usage · 1 failure · 130 Ctrl-C.
The rule not to break: with `--json` standard output holds one JSON document (or one per line, where the help says so).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from chimera.cli.columns import UNBROKEN, WholeWords
from chimera.commands.decision import Answer, Refused
from chimera.commands.telling import ago as ago
from chimera.commands.telling import visible as visible
from chimera.commands.telling import when as when

OK, FAILURE, USAGE, NOT_COUNTED, UNKNOWN_YET = 0, 1, 2, 3, 4

_COLOURS = {"applied": "green", "no change": "dim", "refused": "yellow", "rejected": "red", "void": "red", "appended": "yellow"}


def console(stderr: bool = False) -> Console:
    """Standard output (or error) for people; made per call, so that what captures it is honoured.

    Text wraps at the terminal's edge and is never cut off: what a reviewer cannot see they were not shown. Where there is
    no terminal and no COLUMNS (`| grep`, `> file`), nothing is wrapped, and each row of a table is one line.
    """
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or os.environ.get("COLUMNS") else UNBROKEN
    return Console(stderr=stderr, width=width, highlight=False)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str).decode() + "\n")
    sys.stdout.flush()


def print_json_line(value: Any) -> None:
    """One JSON document on one line, for streams."""
    sys.stdout.write(orjson.dumps(value, default=str).decode() + "\n")
    sys.stdout.flush()


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table whose cells are plain text: what agents or outside people wrote is never read as markup."""
    cells = [[cell if isinstance(cell, Text) else Text(visible(str(cell))) for cell in row] for row in rows]
    return WholeWords(title, columns, cells)


def outcome(word: str) -> Text:
    """An outcome in its colour."""
    return Text(word, style=_COLOURS.get(word, ""))


def note(text: str) -> None:
    """Something to know beside the answer: on standard error, for people."""
    console(stderr=True).print(Text(visible(text), style="yellow"))


def incomplete(reply: Mapping[str, Any]) -> None:
    """Say what an answer lacks, where the service says so."""
    if reply.get("incomplete"):
        note(reply["incomplete"])


# --- answers ---------------------------------------------------------------------------------------------------------


def exit_code(outcomes: Iterable[str]) -> int:
    """The contract's code for a set of outcomes: the worst of them."""
    seen = set(outcomes)
    if seen & {"refused", "rejected", "void"}:
        return NOT_COUNTED
    return UNKNOWN_YET if "appended" in seen else OK


def answer_json(answer: Answer, **more: object) -> dict[str, object]:
    """An answer as `--json` shows it."""
    return {
        **more,
        "outcome": answer.outcome,
        "reason": answer.reason,
        "changed": answer.changed,
        "state_version": answer.state_version,
        "position": None if answer.position is None else {"partition": answer.position[0], "offset": answer.position[1]},
        "records": answer.records,
        "command_id": answer.command_id,
        "stream": answer.key,
    }


def finish(answers: Sequence[tuple[str, Answer]], as_json: bool, what: str, unseen: str | None = None) -> None:
    """Print (name, answer) pairs and leave with their exit code. `what` is the table's title, e.g. `agent pause`.

    `unseen` says why what counted is not visible in the read models, where somebody waited for that.
    """
    if as_json:
        rows = [answer_json(answer, agent=name) for name, answer in answers]
        print_json({"command": what, "answers": rows} | ({"unseen": unseen} if unseen else {}))
    else:
        print_answers([(name, answer) for name, answer in answers], what)
    leave([answer.outcome for _, answer in answers], unseen)


def leave(outcomes: Sequence[str], unseen: str | None = None) -> None:
    """End with the outcomes' exit code; 4 also where what counted is not visible yet, for the reason `unseen`."""
    code = exit_code(outcomes)
    if unseen:
        console(stderr=True).print(Text(unseen, style="yellow"))
        code = code or UNKNOWN_YET
    if code:
        raise typer.Exit(code)


def print_answers(answers: Sequence[tuple[str, Answer]], what: str) -> None:
    """The answers for people: a line for one, a table for more."""
    out = console()
    if len(answers) == 1:
        name, answer = answers[0]
        out.print(Text.assemble(f"{what} {name}: ", outcome(answer.outcome), _tail(answer)))
        return
    rows = [(name, outcome(a.outcome), a.reason, a.state_version or "-", a.records or "-") for name, a in answers]
    out.print(table(what, ("agent", "outcome", "reason", "version", "records"), rows))
    out.print(summary(answers))


def summary(answers: Sequence[tuple[str, Answer]]) -> Text:
    """`12 applied, 3 no change, 1 refused`."""
    counts: dict[str, int] = {}
    for _, answer in answers:
        word = "no change" if answer.outcome == "applied" and not answer.changed else answer.outcome
        counts[word] = counts.get(word, 0) + 1
    return Text(", ").join([Text.assemble(f"{n} ", outcome(word)) for word, n in counts.items()])


def _tail(answer: Answer) -> str:
    reason = f" ({answer.reason})" if answer.reason else ""
    place = f", {answer.position[0]}:{answer.position[1]}" if answer.position is not None else ""
    return f"{reason}, version {answer.state_version}{place}"


def refused(refusal: Refused, as_json: bool) -> typer.Exit:
    """Say why a command was refused before anything was appended; the exit to raise."""
    if as_json:
        print_json({"outcome": "refused", "reason": str(refusal), "changed": False})
    else:
        console(stderr=True).print(Text.assemble(("refused: ", "yellow"), visible(str(refusal))))
    return typer.Exit(NOT_COUNTED)


def can_ask(as_json: bool) -> bool:
    """Does a person sit here? What is read says so, not what is written, which may go to `| tee log`. JSON is for programs."""
    return not as_json and sys.stdin.isatty()


def sure(question: str, yes: bool, as_json: bool) -> None:
    """Ask back before what cannot be undone, where a person sits at a terminal; whoever says no ends here, with exit code 1."""
    if not yes and can_ask(as_json):
        typer.confirm(question, abort=True, err=True)


def agreed(question: str, yes: bool, as_json: bool) -> None:
    """The same for verbs whose exit code says that a person did not confirm: 3."""
    if not yes and can_ask(as_json) and not typer.confirm(question, err=True):
        raise typer.Exit(NOT_COUNTED)


def usage(message: str) -> typer.BadParameter:
    """A wrong way of calling; exit code 2."""
    return typer.BadParameter(message)


def pairs(title: str, values: Mapping[str, object]) -> Table:
    """Named values, one per line."""
    made = Table(title=Text(title), title_justify="left", show_header=False, box=None, pad_edge=False)
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in values.items():
        made.add_row(Text(name), value if isinstance(value, Text) else Text(visible(str(value))))
    return made
