"""What became of a call whose end nobody knows: looked up on the platform, by the profile's words.

The rule not to break: "not there" is said only of a list that reaches back to before the effect could have been made; what
cannot be read, dated or seen to its end proves nothing.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from chimera import failpoints
from chimera.events.records import EffectProposal
from chimera.mcp.records import Outcome
from chimera.mcp.results import at
from chimera.mcp.spec import Find

SKEW_MS = 120_000
"""How far the platform's clock may lie from the broker's."""
_ADDRESS = re.compile(r"https?://\S+", re.IGNORECASE)

Ask = Callable[[str, dict[str, Any]], Awaitable[Outcome]]
"""(capability, inputs) -> outcome of a reading call for the effect's account."""


class Finding(NamedTuple):
    """`outcome` None: nothing is proved, `why` says what was in the way; `blocked`: by a kill switch, which is nobody's failure."""

    outcome: Literal["executed", "not_executed"] | None
    why: str = ""
    proof: dict[str, Any] | None = None
    platform_id: str | None = None
    blocked: bool = False


async def look_up(ask: Ask, find: Find, effect: EffectProposal, since_ms: int, now: int) -> Finding:
    """Look for the effect among what its account has on the platform since `since_ms` (broker time, as `now`)."""
    inputs = dict(find.inputs)
    await failpoints.at("lookup.asked")
    whose = None
    if find.me is not None:
        me = await ask(find.me, {})
        if me.result != "ok" or me.platform_id is None:
            return _nothing(find.me, me)
        whose = me.platform_id
        inputs = {name: me.platform_id if value == "{me}" else value for name, value in inputs.items()}
    listed = await ask(find.by, inputs)
    await failpoints.at("lookup.listed")
    if listed.result != "ok":
        return _nothing(find.by, listed)
    return judge(find, effect, listed.data, since_ms, now, whose)


def judge(
    find: Find, effect: EffectProposal, data: Mapping[str, Any], since_ms: int, now: int, whose: str | None = None
) -> Finding:
    """What a list proves; `whose`: the account's id on the platform, for lists that hold other people's items too. Pure."""
    items = at(data, find.items)
    items = [] if items is None else items
    if not isinstance(items, list):
        return Finding(None, "the list cannot be read")
    if find.gone:
        return _judge_gone(find, effect, items, now)
    since = since_ms - SKEW_MS
    proof: dict[str, Any] = {"kind": "lookup", "by": find.by, "looked_at_ts": now, "since_ts": since, "seen": len(items)}
    oldest: int | None = None
    undated = False
    for item in items:
        when = _ts(at(item, find.at))
        if when is not None:
            oldest = when if oldest is None else min(oldest, when)
        if not _same(find, effect, item) or (find.mine is not None and at(item, find.mine) != whose):
            continue
        if when is None:
            undated = True
        elif when >= since:
            found = at(item, find.id)
            if found in (None, ""):
                return Finding(None, "what was found has no id")
            return Finding("executed", proof=proof | {"platform_id": str(found), "at_ts": when}, platform_id=str(found))
    if undated:
        return Finding(None, "something like it is there, of which nobody says when it was made")
    if len(items) >= find.limit and (oldest is None or oldest >= since):
        return Finding(None, "the list does not reach back far enough")
    return Finding("not_executed", "looked up, not there", proof)


def _judge_gone(find: Find, effect: EffectProposal, items: list[Any], now: int) -> Finding:
    """What a list proves of an effect that takes something away. Ids grow with time, so an older one shows how far it reaches."""
    ours = next((at(effect.arguments, argument) for path, argument in find.same.items() if path == find.id), None)
    if not isinstance(ours, str):
        return Finding(None, "the effect does not name what it takes away")
    proof: dict[str, Any] = {"kind": "lookup", "by": find.by, "looked_at_ts": now, "platform_id": ours, "seen": len(items)}
    if any(_same(find, effect, item) for item in items):
        return Finding("not_executed", "looked up, still there", proof)
    ids = [str(at(item, find.id)) for item in items]
    older = ours.isdecimal() and any(id_.isdecimal() and int(id_) < int(ours) for id_ in ids)
    if len(items) >= find.limit and not older:
        return Finding(None, "the list does not reach back far enough")
    return Finding("executed", "looked up, gone", proof, ours)


def _same(find: Find, effect: EffectProposal, item: Any) -> bool:
    return all(
        isinstance(there := at(item, path), str)
        and isinstance(ours := at(effect.arguments, argument), str)
        and _words(there) == _words(ours)
        for path, argument in find.same.items()
    )


def _words(text: str) -> str:
    """Exact words: one Unicode form, no HTML entities, addresses replaced (platforms shorten them), ends trimmed."""
    return _ADDRESS.sub("\N{LINK SYMBOL}", unicodedata.normalize("NFC", html.unescape(text))).strip()


def _ts(value: Any) -> int | None:
    """ISO 8601 as milliseconds; a time without a zone is UTC."""
    if not isinstance(value, str):
        return None
    try:
        when = datetime.fromisoformat(value)
    except ValueError:
        return None
    return int((when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp() * 1000)


def _nothing(capability: str, outcome: Outcome) -> Finding:
    blocked = outcome.result == "not_sent" and outcome.reason.startswith("switch")
    return Finding(None, f"{capability}: {outcome.result} {outcome.reason}".strip(), blocked=blocked)
