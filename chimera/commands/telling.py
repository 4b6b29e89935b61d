"""How what agents did is told to people, in a terminal and in a browser: signs made visible, times, why a card is there.

The rule not to break: what is shown of a card is all of it, and nothing that agents or outsiders wrote is obeyed by a screen.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

WHY = {
    "confidence": "confidence between the thresholds",
    "sensitive": "a sensitive topic",
    "taint": "made from outside text",
    "audit_sample": "drawn for audit",
    "shadow": "agent runs in shadow mode",
    "bad_value": "the judge's score was unusable",
    "judge": "the judge asks for people",
    "cfo": "the CFO judge asks for people",
    "new_payee": "nothing was ever paid to its payee",
    "amount": "an amount that policy shows to people",
    "financial": "moves money",
    "paid": "costs money",
}
"""Why people are asked, in words."""


def visible(text: str) -> str:
    """`text` with everything that a terminal would obey or hide written out: escapes, direction marks, zero-width signs.

    Agents' and outside people's words pass through here before they reach a screen.
    """
    return "".join(c if c == "\n" or unicodedata.category(c) not in _UNSEEN else f"\\u{{{ord(c):x}}}" for c in text)


_UNSEEN = frozenset(("Cc", "Cf", "Co", "Cs", "Zl", "Zp"))


LAST_MS = 250_000_000_000_000
"""In the year 9892: a record may name a time far beyond what a calendar knows, and still has to be shown."""


def moment(ts_ms: int) -> datetime:
    """A time of the log, held between the years 1970 and 9892."""
    return datetime.fromtimestamp(min(max(ts_ms, 0), LAST_MS) / 1000, UTC)


def when(ts_ms: int) -> str:
    """Broker time as people read it (UTC); '-' for 0."""
    return moment(ts_ms).strftime("%Y-%m-%d %H:%M:%S") if ts_ms else "-"


def ago(ts_ms: int, now_ms: int) -> str:
    """How long ago, in the largest unit that says something."""
    seconds = max(0, now_ms - ts_ms) // 1000
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def shadow(told: Mapping[str, Any]) -> str:
    """What people made of the agent's last cards, and what follows from it."""
    rule = "policy says so of all agents" if told["because"] == "policy" else ""
    if told["needed"] is not None and not rule:
        border, limit = ("up to", told["overrides"]) if told["in_shadow"] else ("shadow again above", told["demote_above"])
        rule = f"{told['needed']} decisions asked for, {border} {limit:.0%} overridden"
    state = "in shadow" if told["in_shadow"] else "not in shadow"
    cards = (
        f"people overrode {told['overridden']} of its last {told['decided']} cards"
        if told["decided"]
        else "no card was decided yet"
    )
    return f"{state}: {cards}" + (f" ({rule})" if rule else "")


def exact_call(card: Mapping[str, Any]) -> str:
    """The call's JSON, of the very bytes that the effect hash covers; the words shown are its `text`."""
    fields = ("tool", "mode", "account", "thread", "arguments", "asset_hashes", "not_before", "max_cost_usd", "disclosure")
    return orjson.dumps({name: card[name] for name in fields}, option=orjson.OPT_INDENT_2).decode()
