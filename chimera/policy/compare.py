"""Two policies compared by what a change means for texts, people and money, not by lines.

The rule not to break: every difference of the parsed rules is told, also one that this page has no words for.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from chimera.policy.boardkit import Rules

Direction = Literal["looser", "stricter", ""]
"""Looser: more leaves without people, or more may leave at all. Empty where neither can be said."""


class Difference(NamedTuple):
    """One field that differs. `before` and `after` are None where the field is not there."""

    field: str
    """Its path in the front matter, `frequency.x.claims`; `prose` for what stands below."""
    before: Any
    after: Any
    meaning: str
    direction: Direction


class _Words(NamedTuple):
    """What it means when a number rises, a claim becomes true or a list grows; and the opposite."""

    more: str
    less: str
    more_is: Direction = ""


UNNAMED = "changed"
"""Meaning of a difference that this page has no words for."""

_TAINT = ("owner", "allowlisted", "open")

WORDS: Mapping[str, _Words] = {
    "approve_above": _Words("less leaves unasked", "more leaves unasked", "stricter"),
    "people_from": _Words("more is written again before people see it", "more doubtful texts go to people"),
    "platform_thresholds.*.approve_above": _Words("less leaves unasked there", "more leaves unasked there", "stricter"),
    "platform_thresholds.*.people_from": _Words("more is written again there", "more doubtful texts go to people there"),
    "tag_thresholds.*.approve_above": _Words("less of it leaves unasked", "more of it leaves unasked", "stricter"),
    "tag_thresholds.*.people_from": _Words("more of it is written again", "more doubtful texts of it go to people"),
    "audit_sample_ppm": _Words("more automatic passes go to people", "fewer automatic passes go to people", "stricter"),
    "shadow": _Words("people see everything", "what passes leaves unasked", "stricter"),
    "probation": _Words("new agents are in shadow until people agree", "new agents leave unasked what passes", "stricter"),
    "probation.decisions": _Words("new agents are in shadow for longer", "new agents are in shadow for less long", "stricter"),
    "probation.overrides": _Words("more overrides are forgiven", "fewer overrides are forgiven", "looser"),
    "probation.demote_above": _Words("shadow again after more overrides", "shadow again after fewer overrides", "looser"),
    "probation.window": _Words("more of the past counts", "less of the past counts"),
    "approvers.*": _Words("may approve now", "may approve no more"),
    "people.*": _Words("more people must approve", "fewer people must approve", "stricter"),
    "amount_tiers": _Words("counts now", "counts no more", "stricter"),
    "auto_financial_usd": _Words("larger payments need no people", "only smaller payments need no people", "looser"),
    "taint_auto.*": _Words("less trusted sources act unasked", "only more trusted sources act unasked", "looser"),
    "undo_s": _Words("an approval can be withdrawn for longer", "an approval can be withdrawn for less long", "stricter"),
    "expiry_s": _Words("undecided cards stay open longer", "undecided cards close sooner"),
    "lapse_s": _Words("unused approvals stay valid longer", "unused approvals close sooner", "looser"),
    "grace_s": _Words("unknown calls are looked up later", "unknown calls are looked up sooner"),
    "frequency.*.claims": _Words("more effects on one account", "fewer effects on one account", "looser"),
    "frequency.*.window_s": _Words("the same number over a longer time", "the same number over a shorter time", "stricter"),
    "listen.*.every_s": _Words("mentions are asked for less often", "mentions are asked for more often"),
    "listen.*.messages": _Words("private messages are read", "private messages are not read"),
    "replies_per_thread": _Words("more answers in one thread", "fewer answers in one thread", "looser"),
    "failures_allowed": _Words("more attempts before a task is given up", "fewer attempts before a task is given up"),
    "stales": _Words("open work is made anew when this is adopted", "open work goes on when this is adopted"),
    "strict_kinds": _Words("made stale by any write", "made stale only by what they read", "stricter"),
    "banned_phrases": _Words("banned", "allowed again", "stricter"),
    "similar_bits": _Words("more counts as said before", "less counts as said before", "stricter"),
    "distinct_across_tenant": _Words("accounts may not say nearly the same", "accounts may say nearly the same", "stricter"),
    "similar_claim_bits": _Words("more counts as said by another account", "less counts as said by another account", "stricter"),
    "max_chars.*": _Words("longer texts", "shorter texts", "looser"),
    "max_hashtags": _Words("more hashtags", "fewer hashtags", "looser"),
    "links.max": _Words("more links", "fewer links", "looser"),
    "links.from_sources": _Words("hosts of sources may be linked", "hosts of sources may not be linked", "looser"),
    "links.allowed_domains": _Words("may be linked", "may be linked no more", "looser"),
    "languages": _Words("may be written", "may be written no more", "looser"),
    "posting_hours.*.replies": _Words("the hours hold for replies too", "replies go out at any hour", "stricter"),
    "posting_hours.*.days": _Words("are open", "are closed", "looser"),
}
"""Field (`*`: any key) -> what its change means."""

_WHOLE: Mapping[str, tuple[str, str, Direction]] = {
    "sensitive": ("its words raise this tag now", "its words raise no tag any more", "stricter"),
    "watched": ("its words raise this tag now", "its words raise no tag any more", "stricter"),
    "platform_thresholds": ("thresholds of its own", "the policy's default alone", "stricter"),
    "tag_thresholds": ("thresholds of its own", "the policy's default alone", "stricter"),
    "frequency": ("limited now", "without a limit of its own", "stricter"),
    "posting_hours": ("limited now", "open at any hour", "stricter"),
    "max_chars": ("a limit of the policy", "the platform's own limit", ""),
    "taint_auto": ("said now", "owner only", "looser"),
    "people": ("said now", "the law's default", ""),
    "listen": ("listened to now", "listened to no more", ""),
}
"""Field -> what it means that a key of it comes or goes, and what coming is."""


def differences(before: Rules, after: Rules) -> list[Difference]:
    """What changes from one policy to the other, in the order of the template; empty where both mean the same."""
    old, new = before.model_dump(mode="python", exclude={"prose"}), after.model_dump(mode="python", exclude={"prose"})
    found = [each for field in Rules.model_fields if field in old for each in _compare(field, old[field], new[field])]
    return [*found, *_prose(before.prose, after.prose)]


def _compare(path: str, before: Any, after: Any) -> Iterator[Difference]:
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            there = f"{path}.{key}"
            if key in before and key in after:
                yield from _compare(there, before[key], after[key])
            else:
                yield _came_or_went(path, there, before.get(key), after.get(key))
        return
    words = WORDS.get(path) or WORDS.get(_pattern(path))
    yield Difference(path, before, after, *_said(words, before, after))


def _pattern(path: str) -> str:
    """`frequency.x.claims` as the table names it."""
    first, _, rest = path.partition(".")
    return ".".join([first, "*", *rest.split(".")[1:]])


def _said(words: _Words | None, before: Any, after: Any) -> tuple[str, Direction]:
    if words is None:
        return UNNAMED, ""
    if isinstance(before, list):
        came, went = [v for v in after if v not in before], [v for v in before if v not in after]
        told = [f"{', '.join(map(_entry, each))} {word}" for each, word in ((came, words.more), (went, words.less)) if each]
        only: Direction = "" if came and went else _towards(words, bool(came))
        return "; ".join(told) or "in another order", only if told else ""
    if before is None or after is None:
        return (words.more if before is None else words.less), _towards(words, before is None)
    rises = _TAINT.index(after) > _TAINT.index(before) if before in _TAINT and after in _TAINT else after > before
    return (words.more if rises else words.less), _towards(words, rises)


def _entry(value: Any) -> str:
    """An entry of a list in words: `amount_usd 500 people 2`."""
    return " ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


def _towards(words: _Words, more: bool) -> Direction:
    if not words.more_is or more:
        return words.more_is
    return "looser" if words.more_is == "stricter" else "stricter"


def _came_or_went(field: str, path: str, before: Any, after: Any) -> Difference:
    came, went, coming = _WHOLE.get(field, ("said now", "not said any more", ""))
    if after is not None:
        return Difference(path, before, after, came, coming)
    going: Direction = "" if not coming else "looser" if coming == "stricter" else "stricter"
    return Difference(path, before, after, went, going)


def _prose(before: str, after: str) -> Iterator[Difference]:
    if before == after:
        return
    lines = list(difflib.ndiff(before.splitlines(), after.splitlines()))
    came, went = (sum(line.startswith(sign) for line in lines) for sign in ("+ ", "- "))
    yield Difference("prose", f"{went} lines", f"{came} lines", "planner, worker and judge read other words", "")
