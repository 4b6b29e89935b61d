"""Decisions on many cards in one file: YAML, CSV or JSON lines, read line by line.

The rule not to break: every line is one person's decision on one card; a line that cannot be read is told and stops no other.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from chimera.commands.cards import BadCard, parse_card
from chimera.commands.verbs import REASON_CODES
from chimera.policy.documents import DocumentError, line_of
from chimera.shapes import Shaped

COLUMNS = ("card", "decision", "reason", "comment", "text", "effect")
MOST_LINES = 1000
"""More belong into several files: one person has read them."""
SHORTEST_EFFECT = 8
"""So many signs of an effect's hash name it."""


class Line(BaseModel):
    """One decision. `reason`: for a rejection one of the codes, for a withdrawal free words. `effect`: the effect's hash as it was
    seen, or its beginning; `text`: the new words of an edit. A line without decision is passed over."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    card: str
    decision: Literal["", "approve", "reject", "edit", "withdraw"] = ""
    reason: str = ""
    comment: str = ""
    text: str = ""
    effect: Annotated[
        str,
        Shaped(
            rf"^([0-9a-f]{{{SHORTEST_EFFECT},64}})?$",
            f"write the effect's hash, or its first {SHORTEST_EFFECT} hex digits or more, as `chimera review show` shows it",
        ),
    ] = ""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        try:
            parse_card(self.card)
        except BadCard as error:
            raise ValueError(str(error)) from None
        if self.decision == "reject" and self.reason not in REASON_CODES:
            raise ValueError(f"a rejection needs a reason, one of {', '.join(REASON_CODES)}; further words go to comment")
        if self.decision == "edit" and not self.text:
            raise ValueError("an edit needs text: the new words")
        if self.decision != "edit" and self.text:
            raise ValueError("text is for edits: say edit, or leave it out")
        return self


class Row(NamedTuple):
    """A line of the file, or what is wrong with it. `place`: file and line, for people."""

    place: str
    card: str
    line: Line | None
    problem: str = ""


def read_sheet(path: Path) -> list[Row]:
    """The file's lines by its ending: .csv, .jsonl (or .ndjson), else YAML. A card's second decision is a problem of that line.

    Raises `DocumentError` where the file as a whole cannot be used.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DocumentError(f"{path} cannot be read: {error}") from error
    kind = path.suffix.lower()
    raw = (
        _csv(text, str(path)) if kind == ".csv" else _json_lines(text) if kind in (".jsonl", ".ndjson") else _yaml(text, str(path))
    )
    rows: list[Row] = []
    decided: dict[tuple[str, int, int], str] = {}
    for number, fields in raw:
        place = f"{path}, line {number}"
        row = _row(place, fields)
        if row.line is not None and row.line.decision:
            at = parse_card(row.line.card)
            before = decided.setdefault((at.agent, at.campaign, at.ordinal), place)
            if before != place:
                row = Row(place, row.card, None, f"{row.card} is decided on already ({before}): leave one of them")
        rows.append(row)
    if not rows:
        raise DocumentError(f"{path}: no decisions: write a line per card ({', '.join(COLUMNS)})")
    if len(rows) > MOST_LINES:
        raise DocumentError(f"{path}: {len(rows)} lines, at most {MOST_LINES} are taken: split the file")
    return rows


def _row(place: str, fields: object) -> Row:
    if isinstance(fields, str):
        return Row(place, "-", None, fields)
    if not isinstance(fields, dict):
        return Row(place, "-", None, f"not a decision: write fields ({', '.join(COLUMNS)})")
    card = str(fields.get("card", "-"))
    try:
        return Row(place, card, Line.model_validate({name: "" if value is None else value for name, value in fields.items()}))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(step) for step in first["loc"])
        return Row(place, card, None, f"{field}: {first['msg']}" if field else first["msg"].removeprefix("Value error, "))


def _csv(text: str, source: str) -> Iterator[tuple[int, object]]:
    reader = csv.DictReader(io.StringIO(text))
    columns = [column.strip() for column in reader.fieldnames or []]
    missing = [column for column in COLUMNS[:2] if column not in columns]
    unknown = [column for column in columns if column not in COLUMNS]
    if missing or unknown:
        what = f"no column '{missing[0]}'" if missing else f"unknown column '{unknown[0]}'"
        raise DocumentError(f"{source}, line 1: {what}: the columns are {', '.join(COLUMNS)} (card and decision are needed)")
    for cells in reader:
        if None in cells:
            yield reader.line_num, "more cells than columns: quote texts that hold a comma"
        else:
            yield reader.line_num, {str(name).strip(): value or "" for name, value in cells.items()}


def _json_lines(text: str) -> Iterator[tuple[int, object]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            yield number, f"no JSON: {error}"


def _yaml(text: str, source: str) -> Iterator[tuple[int, object]]:
    try:
        node: Any = yaml.compose(text, Loader=yaml.SafeLoader)
        found: object = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DocumentError(f"{source} is no YAML: {error}") from error
    if not isinstance(found, list):
        raise DocumentError(f"{source}: write a list of decisions, each `- {{card: ava/1.4.2, decision: approve}}`")
    for index, fields in enumerate(found):
        line = line_of(node, (index,))
        yield (line + 1 if line is not None else index + 1), fields
