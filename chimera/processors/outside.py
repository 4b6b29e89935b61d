"""What comes from outside, before a job sees it: which sources may be trusted by name, and texts without what no record may hold.

The rule not to break: nothing is judged here; what a source is worth is the gate's and the judge's matter.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from chimera.events.envelope import holds_nul
from chimera.mcp.records import Outcome

_TOLD = ("data", "detail", "platform_id", "handle", "url", "receipt", "server_version")
"""Parts of an outcome that are a server's words."""


class AnySource(tuple[str, ...]):
    """Feeds are named by people in signed briefs: every source the worker may read at all is an allow-listed one."""

    __slots__ = ()

    def __contains__(self, item: object) -> bool:
        return True


def readable(outcome: Outcome) -> Outcome:
    """The outcome of a call without U+0000 in any part that a record may keep: a record that holds one is unreadable, which would
    quarantine the agent and lose how its effect ended."""
    parts = {name: getattr(outcome, name) for name in _TOLD}
    return replace(outcome, **without_nul(parts)) if json_holds_nul(parts) else outcome


def json_holds_nul(value: Any) -> bool:
    """Does a JSON value hold U+0000? A text that spells the escape out is looked at more closely."""
    try:
        return b"\\u0000" in orjson.dumps(value) and holds_nul(value)
    except TypeError:  # a number that orjson does not write
        return holds_nul(value)


def without_nul(value: Any) -> Any:
    """The value with U+0000 taken out of its texts: a record that holds one is unreadable."""
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, dict):
        return {without_nul(key): without_nul(content) for key, content in value.items()}
    return [without_nul(item) for item in value] if isinstance(value, list) else value
