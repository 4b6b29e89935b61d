"""One recorded vote under another policy: what of it stands, what is asked anew, and what it would come to. Pure.

The rule not to break: scores and findings are those of the record; a rule is run again only where the two policies differ in what
that rule looks at. So a difference in the answer is the policy's, and no tool or model is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from chimera.events.records import Disclosure, JudgeVerdict, Taint
from chimera.policy.boardkit import Rules, Soul, Voice
from chimera.policy.calibration import calibrate
from chimera.policy.context import Context
from chimera.policy.rules import OF_POSTS, RULES, Rule
from chimera.policy.writing import Article, read_reason

LOOKS_AT: Mapping[str, tuple[str, ...]] = {
    "length": ("max_chars",),
    "hashtags": ("max_hashtags",),
    "disclosure": ("disclosure",),
    "language": ("languages",),
    "banned_phrases": ("banned_phrases",),
    "near_duplicate": ("similar_bits",),
    "links": ("links",),
    "sensitive": ("sensitive", "watched"),
}
"""Rule -> the fields of the policy that it looks at. The rules that are not here look at none: what they said stands."""

BY_THE_LAW = frozenset(
    (
        "approve_above", "people_from", "platform_thresholds", "tag_thresholds", "calibration", "audit_sample_ppm", "shadow",
        "probation", "amount_tiers", "auto_financial_usd", "taint_auto", "sensitive",
    )
)  # fmt: skip
"""Fields by which numbers become a route: asked of the law, or (calibration) of the confidence."""

NOT_REHEARSED: Mapping[str, str] = {
    "approvers": "who may decide",
    "people": "how many must approve",
    "undo_s": "when",
    "expiry_s": "when",
    "lapse_s": "when",
    "grace_s": "when",
    "frequency": "how often",
    "posting_hours": "when",
    "listen": "what is listened to",
    "replies_per_thread": "how often",
    "failures_allowed": "how many attempts there would have been",
    "stales": "what is made anew at adoption",
    "strict_kinds": "what makes a text stale",
    "distinct_across_tenant": "what was known of other accounts is not on the log (turned off, what it found is dropped)",
    "similar_claim_bits": "what was known of other accounts is not on the log",
    "prose": "what models read",
}
"""Field -> what of it a rehearsal cannot tell: it judges again what was made, and makes nothing."""

SAME = frozenset(("boardkit", "name"))

_NOBODY = Soul(name="-", voice=Voice(tone=["plain"]), topics=["-"])
"""Rules that look at the policy look at no persona."""
_ASKS = frozenset(rule.name for rule in RULES if rule.does == "people")


@dataclass(frozen=True, slots=True)
class Words:
    """What was judged, as far as rules that look at a policy need it. `text` None: an artifact without words of its own."""

    text: str | None
    prompt: bool
    platform: str
    max_chars: int | None
    disclosure: Disclosure
    taint: Taint
    is_reply: bool
    urls: tuple[str, ...]


def changed(before: Rules, after: Rules) -> tuple[str, ...]:
    """The fields in which two policies differ."""
    return tuple(field for field in Rules.model_fields if getattr(before, field) != getattr(after, field))


def again(
    vote: JudgeVerdict, words: Words | None, said: Sequence[tuple[str, int]], before: Rules, after: Rules, differs: Sequence[str]
) -> JudgeVerdict:
    """The vote as it would have been under `after`. `said`: fingerprints of what the account had said; `differs`: `changed`."""
    failed, tags = list(vote.failed_rules), list(vote.tags)
    told: list[str] = []
    anew: set[str] = set()
    if words is not None and words.text is not None:
        rules = [rule for rule in _looking_at(tuple(differs)) if not (words.prompt and rule.name in OF_POSTS)]
        anew = {rule.name for rule in rules}
        context = _context(words, said, after) if rules else None
        for rule in rules:
            assert context is not None
            hits = list(rule.find(words.text, context))
            if rule.does == "tag":
                tags = sorted({subject for subject, _ in hits})
            else:
                failed = [name for name in failed if name != rule.name] + ([rule.name] if hits else [])
            told += [f"{rule.name}[{subject}]: {advice}" if subject else f"{rule.name}: {advice}" for subject, advice in hits]
    if "tenant_duplicate" in failed and not after.distinct_across_tenant:
        failed.remove("tenant_duplicate")
    confidence = vote.confidence
    if "calibration" in differs and vote.confidence_raw is not None:
        confidence = calibrate(vote.confidence_raw, after.calibration) if after.calibration else vote.confidence_raw
    if failed == list(vote.failed_rules) and tags == list(vote.tags) and confidence == vote.confidence:
        return vote
    asked = vote.decision == "people" or (
        vote.decision == "fail" and any(read_reason(reason).rule in _ASKS for reason in vote.trace.get("rules", ()))
    )
    decision = "fail" if failed else "people" if asked or vote.confidence_raw is None else "pass"
    # A rule that is not asked any more takes its reasons along.
    kept = [
        reason
        for reason in vote.reasons
        if (name := read_reason(reason).rule) not in anew and (name not in vote.failed_rules or name in failed)
    ]
    return vote.model_copy(
        update={
            "decision": decision,
            "failed_rules": failed,
            "tags": tags,
            "confidence": confidence,
            "reasons": list(dict.fromkeys([*told, *kept])),
        }
    )


@lru_cache(maxsize=256)
def _looking_at(differs: tuple[str, ...]) -> tuple[Rule, ...]:
    return tuple(rule for rule in RULES if not set(LOOKS_AT.get(rule.name, ())).isdisjoint(differs))


def _context(words: Words, said: Sequence[tuple[str, int]], rules: Rules) -> Context:
    return Context(
        rules=rules,
        soul=_NOBODY,
        platform=words.platform,
        sources=[_article(url) for url in words.urls],
        max_chars=words.max_chars,
        disclosure=words.disclosure,
        fingerprints=said,
        taint=words.taint,
        is_reply=words.is_reply,
    )


@lru_cache(maxsize=4096)
def _article(url: str) -> Article:
    return Article.model_construct(id=url, url=url, title="", summary="", text="")
