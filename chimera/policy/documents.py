"""Reads the YAML that people write (bundles, personas, briefs) and explains their mistakes with file, line and field.

The rule not to break: what cannot be read is an error that names the place and the way out; nothing is guessed or dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from chimera.errors import ChimeraError

M = TypeVar("M", bound=BaseModel)
FENCE = "---"


class DocumentError(ChimeraError):
    """A document that people wrote cannot be used; the message names file, line, field and the way out."""


def split_front_matter(text: str, source: str) -> tuple[str, str, int]:
    """(YAML front matter, prose after it, line number where the YAML begins). Raises DocumentError without a fence."""
    lines = text.lstrip("\ufeff").splitlines()
    if not lines or lines[0].strip() != FENCE:
        raise DocumentError(f"{source}, line 1: no front matter: begin the file with a line '---', then YAML, then '---'")
    for number, line in enumerate(lines[1:], start=1):
        if line.strip() == FENCE:
            return "\n".join(lines[1:number]), "\n".join(lines[number + 1 :]).strip(), 2
    raise DocumentError(f"{source}: the front matter that opens on line 1 is never closed: add a line '---' after the YAML")


def parse_yaml(model: type[M], text: str, source: str, first_line: int = 1, extra: dict[str, Any] | None = None) -> M:
    """`text` as `model`. `extra` adds fields that stand outside the YAML (prose). Raises DocumentError."""
    try:
        node, data = _read(text)
    except yaml.YAMLError as error:
        raise DocumentError(_yaml_message(error, source, first_line)) from error
    if not isinstance(data, dict):
        raise DocumentError(f"{source}, line {first_line}: expected fields (`name: value`), found {_kind(data)}")
    try:
        return model.model_validate({**data, **(extra or {})})
    except ValidationError as error:
        raise DocumentError(_field_messages(error, node, source, first_line)) from error


def _read(text: str) -> tuple[yaml.Node | None, Any]:
    """The document as nodes, which know their lines, and as data.

    libyaml reads it in a tenth of the time where it is there; what it refuses is read again by the parser whose words people know.
    """
    for loader in (getattr(yaml, "CSafeLoader", yaml.SafeLoader), yaml.SafeLoader):
        reader = loader(text)
        try:
            node = reader.get_single_node()
            return node, None if node is None else reader.construct_document(node)
        except yaml.YAMLError:
            if loader is yaml.SafeLoader:
                raise
        finally:
            reader.dispose()
    raise AssertionError("the last loader either reads or raises")


def _kind(data: object) -> str:
    return "nothing" if data is None else f"a {type(data).__name__}"


def _yaml_message(error: yaml.YAMLError, source: str, first_line: int) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    place = f", line {mark.line + first_line}, column {mark.column + 1}" if mark is not None else ""
    return f"{source}{place}: not valid YAML ({problem}): check the indentation, quote text that holds ':' or '#'"


def _field_messages(error: ValidationError, node: yaml.Node | None, source: str, first_line: int) -> str:
    """One line: the first three problems, each with its line and field."""
    parts = []
    for problem in error.errors()[:3]:
        loc = problem["loc"]
        field = ".".join(str(step) for step in loc) or "the document"
        line = line_of(node, loc)
        place = f"line {line + first_line}, " if line is not None else ""
        parts.append(f"{place}field '{field}': {_advice(problem['type'], problem['msg'])}")
    more = len(error.errors()) - 3
    return f"{source}: " + "; ".join(parts) + (f"; and {more} more" if more > 0 else "")


def _advice(kind: str, message: str) -> str:
    if kind == "missing":
        return "is missing: add it"
    if kind == "extra_forbidden":
        return "is not a known field: remove it or correct its spelling"
    return message[:1].lower() + message[1:]


def line_of(node: yaml.Node | None, loc: Sequence[int | str]) -> int | None:
    """Zero-based line of the field at `loc`, or of the nearest thing around it that exists in the YAML."""
    line: int | None = None
    for step in loc:
        found: yaml.Node | None = None
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(step):
                    line, found = key.start_mark.line, value
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            found = node.value[step]
            line = found.start_mark.line
        if found is None:  # a union's tag is a step of pydantic's path, not of the document's
            continue
        node = found
    return line
