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

from chimera.mcp.records import Result
from chimera.mcp.spec import ResultRules, Taint, TaintRule

_LONGEST_DETAIL = 500
_LONGEST_PART = 100


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
    blocks = [str(getattr(block, "text", "")) for block in answer.content]
    text = "\n".join(blocks)
    data = _read(rules, _data(answer, text), blocks, text)
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
        data = answer.structured_content
        if set(data) != {"result"} or not isinstance(data["result"], str):
            return data
        text = data["result"]  # how FastMCP wraps a tool that returns a string
    try:
        parsed = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _read(rules: ResultRules, data: dict[str, Any], blocks: list[str], text: str) -> dict[str, Any]:
    """The data, with what the profile reads from words."""
    for name, pattern in rules.fields.items():
        found = re.search(pattern, text)
        if found is not None:
            data = {**data, name: found[1]}
    if rules.entries is not None:
        items = [_entry(rules.entries.fields, each) for each in _listed(rules.entries.pattern, blocks, text)]
        data = {**data, "items": items}
    return data


def _listed(pattern: str | None, blocks: list[str], text: str) -> list[Mapping[str, Any]]:
    if pattern is not None:
        return [found.groupdict() for found in re.finditer(pattern, text)]
    found_blocks = []
    for block in blocks:
        try:
            found_blocks.append(orjson.loads(block))
        except orjson.JSONDecodeError:
            continue  # words around the entries, such as "No results found"
    return [block for block in found_blocks if isinstance(block, Mapping)]


def _entry(fields: Mapping[str, str], found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: found[source] for name, source in fields.items() if found.get(source) not in (None, "")}


def receipt_of(rules: ResultRules, data: Mapping[str, Any]) -> dict[str, str]:
    """What the log keeps of an answer, each part short; parts that are not there are left out."""
    found = {name: at(data, path) for name, path in rules.receipt.items()}
    return {
        name: str(value)[:_LONGEST_PART] for name, value in found.items() if isinstance(value, str | int | float) and value != ""
    }


def at(data: Any, path: str) -> Any:
    """The value at a dotted path (`data.id`, `output.0`, `insights.name=likes`: the item whose name is that), or None."""
    for step in path.split("."):
        if isinstance(data, list) and step.isdecimal():
            data = data[int(step)] if int(step) < len(data) else None
        elif isinstance(data, list) and "=" in step:
            name, _, wanted = step.partition("=")
            data = next((item for item in data if isinstance(item, Mapping) and item.get(name) == wanted), None)
        elif isinstance(data, Mapping):
            data = data.get(step)
        else:
            return None
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
