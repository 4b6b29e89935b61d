"""What a server's answer means, by the profile's rules. Pure.

The one rule: `is_error` alone decides nothing. Some servers report failures as successes and failures after the effect as
errors, so success needs the required fields, a refusal needs its pattern, and everything else is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import orjson
from mcp.types import CallToolResult

from chimera.mcp.profiles import ResultRules, Taint, TaintRule
from chimera.mcp.records import Result

_LONGEST_DETAIL = 500


@dataclass(frozen=True)
class Reading:
    result: Result
    reason: str = ""
    detail: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    platform_id: str | None = None
    handle: str | None = None


def read_result(rules: ResultRules, answer: CallToolResult) -> Reading:
    """Success, refusal, not sent, submitted or unknown, with the data and the platform's id or handle."""
    text = "\n".join(str(getattr(block, "text", "")) for block in answer.content)
    data = _data(answer, text)
    complete = all(at(data, path) not in (None, "") for path in rules.require)
    fits = complete and (rules.match is None or re.search(rules.match, text) is not None)
    if fits and not answer.is_error:
        found = at(data, rules.id) if rules.id else None
        return Reading("ok", data=data, platform_id=None if found is None else str(found))
    if fits:
        return Reading("unknown", "contradiction", "an error that carries a success", data)
    detail = text[:_LONGEST_DETAIL]
    for reason, pattern in rules.not_sent.items():
        if re.search(pattern, text):
            return Reading("not_sent", reason, detail, data)
    for reason, pattern in rules.refused.items():
        if re.search(pattern, text):
            return Reading("refused", reason, detail, data)
    taken = rules.submitted
    if taken is not None and not answer.is_error and (taken.match is None or re.search(taken.match, text)):
        handle = at(data, taken.handle)
        if handle not in (None, ""):
            return Reading("submitted", data=data, handle=str(handle))
    return Reading("unknown", "unrecognised_answer", detail, data)


def _data(answer: CallToolResult, text: str) -> dict[str, Any]:
    if isinstance(answer.structured_content, dict):
        return answer.structured_content
    try:
        parsed = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def at(data: Any, path: str) -> Any:
    """The value at a dotted path (`data.id`), or None."""
    for step in path.split("."):
        if not isinstance(data, Mapping):
            return None
        data = data.get(step)
    return data


def taint_of(rule: TaintRule, inputs: Mapping[str, Any], more: Collection[str] = ()) -> Taint:
    """What the words of an answer are worth, by their source."""
    source = inputs.get(rule.by) if rule.by else None
    if not isinstance(source, str):
        return rule.default
    parts = urlsplit(source)
    if "://" not in source:
        return rule.local_files or rule.default
    for allowed in (*rule.allowlisted, *more):
        known = urlsplit(allowed)
        if (known.scheme, known.netloc) == (parts.scheme, parts.netloc) and parts.path.startswith(known.path):
            return "allowlisted"
    return rule.default
