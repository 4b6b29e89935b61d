"""Whether arguments fit a JSON Schema (draft 2020-12), and where not. A schema is compiled once; a check takes under a microsecond.

The one rule: nothing is fetched. A schema that refers to another document is refused, so that no server's listing makes us dial.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from jsonschema_rs import Draft202012Validator, ValidationError

_LONGEST_WANTED = 80


class BadSchema(ValueError):
    """What is no schema, or refers to another document."""


class Misfit(NamedTuple):
    """One place that breaks a schema. `message` quotes contents; the other parts do not, but for names that no schema knows."""

    at: str
    """JSON path; `$` is the whole."""
    rule: str
    """The schema's keyword: `required`, `maximum`, ..."""
    wanted: str
    """What the keyword asks for, as JSON; the lacking name for `required`, the strange ones for `additionalProperties`."""
    message: str


class Schema:
    """A compiled schema. Raises BadSchema."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = dict(schema)
        try:
            self._validator = Draft202012Validator(self._schema, retriever=_elsewhere)
        except ValueError as error:
            raise BadSchema(f"no JSON Schema that can be used: {str(error).splitlines()[0][:200]}") from error

    def misfits(self, arguments: Mapping[str, Any]) -> list[Misfit]:
        """Every place that breaks it; empty when the arguments fit."""
        try:
            if self._validator.is_valid(arguments):
                return []
            return [self._misfit(error) for error in self._validator.iter_errors(arguments)]
        except ValueError as error:  # half a character, a key that is no text, or too deep: nothing that could be sent
            return [Misfit("$", "json", f"({error})", f"this is no JSON: {error}")]

    def _misfit(self, error: ValidationError) -> Misfit:
        rule, said = error.kind.name, error.kind.as_dict()
        if rule == "required":
            wanted = str(said["property"])
        elif rule == "additionalProperties":
            wanted = ", ".join(sorted(said["unexpected"]))
        else:
            wanted = _at(self._schema, error.schema_path)
        steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.instance_path)
        return Misfit(f"${steps}", rule, wanted, error.message)


def _elsewhere(uri: str) -> Any:
    raise ValueError(f"it refers to {uri[:80]!r}, and nothing is fetched")


def _at(schema: Any, path: list[str | int]) -> str:
    """What stands at a place of a schema, shortened; "" where the path leads through a reference."""
    for step in path:
        try:
            schema = schema[step]
        except (KeyError, IndexError, TypeError):
            return ""
    return json.dumps(schema)[:_LONGEST_WANTED]
