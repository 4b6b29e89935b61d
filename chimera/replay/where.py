"""The small language of `events grep --where`: one path, one comparison, one value. Pure.

    payload.confidence<0.7      payload.items[*].platform=x      actor!=courier      payload.reasons~"too long"      payload.effect

Path: a header's name (type, agent, stream, tenant, actor, id, causation, correlation, partition, offset, outcome, reason, version)
or `payload.` and names joined by dots; `[2]` takes the third of a list, `[*]` any. Operators: = != < <= > >= and ~ (holds the
text, whatever its case); a path alone: it is there and not null. Value: a JSON number, true, false, null or text in double quotes;
anything else is text as it stands. The rule not to break: it evaluates nothing and costs no more than the record is long.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from chimera.errors import ChimeraError

HEADERS = (
    "type", "agent", "stream", "tenant", "actor", "id", "causation", "correlation", "partition", "offset",
    "outcome", "reason", "version",
)  # fmt: skip
PAYLOAD = "payload"
_SPLIT = re.compile(r"(!=|<=|>=|=|<|>|~)")
_STEP = re.compile(r"([^.\[\]]+)((?:\[(?:\d{1,6}|\*)\])*)")
_ORDER: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
ANY = -1
"""The step `[*]`."""


class BadWhere(ChimeraError):
    """A condition that cannot be read; the message says what is wrong and how one looks."""


class Where(NamedTuple):
    """One condition. `steps`: names and places in lists; `op` "" asks only whether it is there."""

    steps: tuple[str | int, ...]
    op: str
    value: Any

    @property
    def in_payload(self) -> bool:
        """Does it look into the record's value?"""
        return self.steps[0] == PAYLOAD

    def holds(self, record: Mapping[str, Any]) -> bool:
        """Whether one of the values at the path satisfies it (for !=: that at least one is there and none is equal)."""
        found = list(_at(record, self.steps))
        if self.op == "!=":
            return bool(found) and not any(_equal(each, self.value) for each in found)
        return any(self._says(each) for each in found)

    def _says(self, found: Any) -> bool:
        if self.op == "":
            return found is not None
        if self.op == "=":
            return _equal(found, self.value)
        if self.op == "~":
            return isinstance(found, str) and str(self.value).casefold() in found.casefold()
        number, wanted = _number(found), _number(self.value)
        if number is not None and wanted is not None:
            return _ORDER[self.op](number, wanted)
        # Times and editions compare as text; a number never compares with words.
        return isinstance(found, str) and isinstance(self.value, str) and _ORDER[self.op](found, self.value)


def parse(text: str) -> Where:
    """One condition. Raises `BadWhere`."""
    found = _SPLIT.search(text)
    path, op, value = (text, "", "") if found is None else (text[: found.start()], found[0], text[found.end() :])
    steps = _steps(path.strip(), text)
    if op and not value.strip():
        raise BadWhere(f'--where {text}: nothing stands after {op}: write a value, "" for the empty text')
    return Where(steps, op, _value(value.strip()))


def _steps(path: str, text: str) -> tuple[str | int, ...]:
    steps: list[str | int] = []
    for part in path.split("."):
        found = _STEP.fullmatch(part)
        if found is None:
            raise BadWhere(f"--where {text}: '{path}' is no path: write it as payload.items[*].platform or type")
        steps.append(found[1])
        steps += [ANY if place == "*" else int(place) for place in re.findall(r"\[(\d+|\*)\]", found[2])]
    if steps[0] not in (*HEADERS, PAYLOAD):
        raise BadWhere(f"--where {text}: there is no '{steps[0]}': a path begins with {PAYLOAD} or one of {', '.join(HEADERS)}")
    return tuple(steps)


def _value(text: str) -> Any:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return text if isinstance(value, dict | list) else value


def _at(value: Any, steps: tuple[str | int, ...]) -> Iterator[Any]:
    if not steps:
        yield value
        return
    first, rest = steps[0], steps[1:]
    if isinstance(first, str):
        if isinstance(value, Mapping) and first in value:
            yield from _at(value[first], rest)
    elif isinstance(value, list):
        for each in value if first == ANY else value[first : first + 1]:
            yield from _at(each, rest)


def _equal(found: Any, wanted: Any) -> bool:
    """Money is text on the log: it equals the number it spells. True is not 1."""
    if isinstance(found, bool) or isinstance(wanted, bool) or found is None or wanted is None:
        return found is wanted
    if found == wanted:
        return True
    a, b = _number(found), _number(wanted)
    return a is not None and a == b


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None
