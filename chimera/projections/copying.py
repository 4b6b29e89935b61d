"""Rows in COPY's text format, made a column at a time: what a whole column is free of need not be looked for in each value.

The rule not to break: what COPY reads back is what the row holds, but for U+0000, which no text of Postgres holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from chimera.errors import ChimeraError
from chimera.projections.rows import Value

ROWS = 256
"""So many rows are made into text at once: what is worked on stays in a core's own cache."""


class Unwritable(ChimeraError):
    """A row holds a value that has no text for Postgres."""


def copy_text(rows: Sequence[tuple[Value, ...]]) -> bytes:
    """All rows, which are equally long, as the bytes of one COPY. Raises `Unwritable`."""
    try:
        columns = [_texts(column) for column in zip(*rows, strict=True)]
        return ("\n".join(map("\t".join, zip(*columns, strict=True))) + "\n").encode()
    except (KeyError, UnicodeError) as error:
        raise Unwritable(repr(error)) from error


def copy_field(value: Value) -> str:
    """One value in COPY's text format."""
    return _AS_TEXT[type(value)](value)


def _texts(column: tuple[Value, ...]) -> Sequence[str]:
    """The fields of one column."""
    kinds = set(map(type, column))
    if len(kinds) > 1:
        return [_AS_TEXT[type(value)](value) for value in column]
    kind = kinds.pop()
    if kind is str and not _needs_escape("".join(column)):  # type: ignore[arg-type]
        return column  # type: ignore[return-value]
    return list(map(_AS_TEXT[kind], column))


def _needs_escape(text: str) -> bool:
    # Five searches of one byte each are faster than one search for any of five.
    return "\\" in text or "\n" in text or "\t" in text or "\r" in text or "\x00" in text


def escaped(text: str) -> str:
    """A text in COPY's text format."""
    if not _needs_escape(text):
        return text
    text = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
    return text.replace("\r", "\\r").replace("\x00", "\ufffd")


def _array(items: list[str]) -> str:
    if not items:
        return "{}"
    quoted = ('"' + item.replace("\\", "\\\\").replace('"', '\\"') + '"' for item in items)
    return escaped("{" + ",".join(quoted) + "}")


_AS_TEXT: dict[type, Callable[[Any], str]] = {
    str: escaped,
    bytes: lambda value: escaped(value.decode()),
    int: str,
    float: str,
    bool: lambda value: "t" if value else "f",
    Decimal: lambda value: format(value, "f"),
    list: _array,
    type(None): lambda value: "\\N",
}
