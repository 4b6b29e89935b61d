"""BoardKit bundles: AGENTS.md (what the fleet may do) and SOUL.md (who one agent is), as typed data and back to the law's numbers.

Both files are YAML front matter and prose; both are content-addressed by the digest of their exact text.
The rule not to break: a bundle that does not parse is never adopted, and no number is filled in that the file contradicts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import time
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from chimera.events.does.trust import MOST_DECISIONS
from chimera.events.hashes import canonical, sha256
from chimera.events.principals import is_machine
from chimera.events.records import AmountTier, Disclosure, Frequency, PolicyInline, Probation, Taint, Threshold
from chimera.events.thresholds import Borders, borders
from chimera.policy.calibration import check_table
from chimera.policy.documents import DocumentError, parse_yaml, split_front_matter

MAX_BYTES = 16_384
"""A bundle travels whole in its record; longer ones would not."""


def _words_inside(values: list[str]) -> list[str]:
    if any(not value.strip() for value in values):
        raise ValueError("holds an empty text: remove it or write it out")
    return values


PLATFORM_CHARS = {
    "x": 280, "bluesky": 300, "threads": 500, "mastodon": 500, "tiktok": 2_200, "instagram": 2_200, "linkedin": 3_000,
    "youtube": 5_000, "facebook": 63_206,
}  # fmt: skip
"""What each platform takes at most, where the policy says nothing."""

Texts = Annotated[list[str], AfterValidator(_words_inside)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
PolicyClass = Literal["publish", "paid", "financial"]
TaintClass = Literal["publish", "reply", "paid", "financial"]


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NewAgents(_Closed):
    """A new agent is in shadow: people see all it wants to do, until of the last `window` decisions on its cards there are
    `decisions` and at most the share `overrides` was an edit or a rejection. Above `demote_above` it is in shadow again."""

    decisions: int = Field(gt=0, le=MOST_DECISIONS)
    overrides: Share = 0.10
    demote_above: Share = 0.30
    window: int = Field(default=50, gt=0, le=MOST_DECISIONS)


class HowOften(_Closed):
    """At most `claims` effects on one account within `window_s` seconds."""

    claims: int = Field(gt=0)
    window_s: int = Field(gt=0)


class Listening(_Closed):
    """A platform whose mentions and messages are asked for every `every_s` seconds, for agents whose campaign answers them.
    `messages: false`: its private messages are not read."""

    every_s: int = Field(default=60, ge=1, le=86_400)
    messages: bool = True


Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"'{name}' is no time zone: write one such as Europe/Berlin or UTC") from error
    return name


Zone = Annotated[str, AfterValidator(_known_zone)]


class PostingHours(_Closed):
    """When a platform may be posted to, by the clock of `zone`: from `start` until before `end` on these days. `end` before
    `start` runs over midnight. Replies may go out at any hour unless `replies` says so."""

    zone: Zone = "UTC"
    days: list[Weekday] = list(WEEKDAYS)
    start: time = time(0)
    end: time = time(0)
    replies: bool = False

    @model_validator(mode="after")
    def _opens_at_all(self) -> PostingHours:
        if not self.days:
            raise ValueError("names no day: it would never open, name one at least")
        for clock in (self.start, self.end):
            if clock.second or clock.microsecond:
                raise ValueError(f"{clock}: posting hours begin and end with a minute")
        return self


class LinkRules(_Closed):
    """Which addresses a text may carry. With `from_sources`, the hosts of the articles that it was made from are allowed."""

    max: int = Field(default=1, ge=0)
    from_sources: bool = True
    allowed_domains: Texts = []


class PlatformDisclosure(_Closed):
    """How a platform is told that a machine made it: the level for its field, and a tag in the text where one is asked."""

    level: Disclosure = "automated"
    text_tag: str = ""


class Tier(_Closed):
    """From `amount_usd` on, so many distinct `people` must approve."""

    amount_usd: Decimal
    people: int = Field(gt=0)


class Rules(_Closed):
    """AGENTS.md: what every judge and the fold need, by plain names. Times in seconds, money in US dollars."""

    boardkit: Literal[1]
    name: str = Field(min_length=1)

    # who decides
    approve_above: Share = 0.90
    people_from: Share = 0.70
    platform_thresholds: dict[str, Threshold] = {}
    tag_thresholds: dict[str, Threshold] = {}
    """What a platform or a risk tag asks for beyond these two; of all that apply to an effect the strictest counts."""
    calibration: list[tuple[Share, Share]] = []
    """Raw confidence -> share that people approved, as `chimera policy calibrate` fitted it; empty: raw counts as it is."""
    audit_sample_ppm: int = Field(default=0, ge=0, le=1_000_000)
    shadow: bool = False
    probation: NewAgents | None = None
    approvers: dict[PolicyClass, Texts]
    people: dict[PolicyClass, Annotated[int, Field(gt=0)]] = {"publish": 1, "paid": 1, "financial": 2}
    amount_tiers: list[Tier] = []
    auto_financial_usd: Decimal = Decimal(0)
    taint_auto: dict[TaintClass, Taint] = {"publish": "allowlisted", "reply": "open"}
    """The least trusted source that may still act without people, by class; `reply`: an answer to somebody, else as `publish`."""

    # when
    undo_s: int = Field(default=30, ge=0)
    expiry_s: int = Field(default=86_400, gt=0)
    lapse_s: int = Field(default=86_400, gt=0)
    grace_s: int = Field(default=5, ge=0)
    frequency: dict[str, HowOften] = {}
    posting_hours: dict[str, PostingHours] = {}
    listen: dict[str, Listening] = {}
    replies_per_thread: int = Field(default=3, gt=0, le=1000)
    failures_allowed: int = Field(default=3, gt=0)
    stales: bool = False
    strict_kinds: Texts = []

    # what a text may be
    banned_phrases: Texts = []
    sensitive: dict[str, str] = {"health": "health", "finance": "finance", "politics": "politics"}
    """Lexicon (chimera/policy/lexicons/<name>.txt) -> the risk tag that its words raise, which sends the text to people."""
    watched: dict[str, str] = {}
    """The same for tags that only `tag_thresholds` look at."""
    similar_bits: int = Field(default=3, ge=0, le=64)
    distinct_across_tenant: bool = True
    """Whether accounts of one tenant may not say nearly the same (as far as a judging process knows, docs/decisions/0040)."""
    similar_claim_bits: int = Field(default=6, ge=0, le=7)
    """SimHashes of two accounts' claims (no greeting, links or tags) that differ in at most so many bits are too similar."""
    max_chars: dict[str, Annotated[int, Field(gt=0)]] = {"x": 280}
    max_hashtags: int = Field(default=2, ge=0)
    links: LinkRules = LinkRules()
    languages: Texts = ["en"]
    disclosure: dict[str, PlatformDisclosure] = {"x": PlatformDisclosure()}

    prose: str = ""

    @model_validator(mode="after")
    def _can_be_decided(self) -> Rules:
        if self.people_from > self.approve_above:
            raise ValueError("people_from is above approve_above: no confidence would ever reach people")
        if self.taint_auto.get("financial", "owner") != "owner":
            raise ValueError("taint_auto.financial may only be owner: nothing made from outside words moves money")
        if self.calibration:
            check_table(self.calibration)
        for effect_class, needed in self.people.items():
            known = self.approvers.get(effect_class, [])
            if known and needed > len(set(known)):
                raise ValueError(f"people.{effect_class} asks for {needed} but approvers.{effect_class} names {len(set(known))}")
        machines = sorted({name for names in self.approvers.values() for name in names if is_machine(name)})
        if machines:
            raise ValueError(f"approvers names {', '.join(machines)}: machines never approve, name people")
        if not self.approvers.get("publish"):
            raise ValueError("approvers.publish names nobody: cards could never be decided, name at least one person")
        return self

    def borders(self, platform: str, tags: Iterable[str]) -> Borders:
        """Above which confidence nobody is asked on `platform` under these risk tags, and from which on people are."""
        return borders(self, platform, tags)

    def max_chars_on(self, platform: str) -> int | None:
        """Longest text on `platform` (weighted as it counts): the policy's limit, else the platform's, else None."""
        return self.max_chars.get(platform, PLATFORM_CHARS.get(platform))


class Voice(_Closed):
    """How the agent sounds. `sentence_words` is the longest sentence that still sounds like it."""

    tone: Texts = Field(min_length=1)
    emoji: bool = False
    sentence_words: int = Field(default=22, ge=6, le=60)
    openers: Texts = []
    sign_offs: Texts = []
    hashtags: Texts = []


class Soul(_Closed):
    """SOUL.md: one agent's persona. `handles` by platform; `taboos` are words and phrases that it never says."""

    name: str = Field(min_length=1, max_length=64)
    handles: dict[str, str] = {}
    voice: Voice
    topics: Texts = Field(min_length=1)
    taboos: Texts = []
    prose: str = ""

    def __hash__(self) -> int:
        return hash((self.name, self.prose))  # what is computed of a persona is kept by it


B = TypeVar("B", Rules, Soul)


def digest(text: str) -> str:
    """Content address of a bundle file: SHA-256 (hex) of its exact UTF-8 text."""
    return sha256(text.encode())


@lru_cache(maxsize=256)  # every job reads its agent's policy and persona anew, and their bytes seldom change
def parse_rules(text: str, source: str = "AGENTS.md") -> Rules:
    """AGENTS.md as Rules. Raises DocumentError with file, line, field and the way out."""
    return _parse(Rules, text, source)


@lru_cache(maxsize=1024)
def parse_soul(text: str, source: str = "SOUL.md") -> Soul:
    """SOUL.md as Soul. Raises DocumentError with file, line, field and the way out."""
    return _parse(Soul, text, source)


def read_soul(body: Mapping[str, Any]) -> Soul:
    """A persona as a request holds it. Raises pydantic's ValidationError."""
    return _soul(canonical(body))


@lru_cache(maxsize=1024)
def _soul(body: bytes) -> Soul:
    return Soul.model_validate_json(body)


def _parse(model: type[B], text: str, source: str) -> B:
    if len(text.encode()) > MAX_BYTES:
        raise DocumentError(f"{source}: {len(text.encode())} bytes are more than {MAX_BYTES}: shorten the prose")
    front, prose, first_line = split_front_matter(text, source)
    return parse_yaml(model, front, source, first_line, {"prose": prose})


def load_text(path: Path) -> str:
    """The file's text. Raises DocumentError naming the path."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DocumentError(f"{path}: cannot be read ({error.strerror}): check the path") from error
    except UnicodeDecodeError as error:
        raise DocumentError(f"{path}: cannot be read: byte {error.start} is no UTF-8: save it as UTF-8 text") from error


def _probation(said: NewAgents | None) -> Probation | None:
    if said is None:
        return None
    return Probation(
        decisions=said.decisions,
        overrides_ppm=round(said.overrides * 1_000_000),
        demote_above_ppm=round(said.demote_above * 1_000_000),
        window=said.window,
    )


def inline(rules: Rules) -> PolicyInline:
    """The numbers that the fold needs, as PolicyAdopted carries them (law: PolicyAdopted)."""
    return PolicyInline(
        approve_above=rules.approve_above,
        people_from=rules.people_from,
        platform_thresholds=rules.platform_thresholds,
        tag_thresholds=rules.tag_thresholds,
        sensitive_tags=sorted(set(rules.sensitive.values())),
        taint_auto={str(k): v for k, v in rules.taint_auto.items()},
        approvers={str(k): sorted(set(v)) for k, v in rules.approvers.items()},
        people={str(k): v for k, v in rules.people.items()},
        amount_tiers=[AmountTier(amount_usd=t.amount_usd, people=t.people) for t in rules.amount_tiers],
        auto_financial_usd=rules.auto_financial_usd,
        audit_sample_ppm=rules.audit_sample_ppm,
        shadow=rules.shadow,
        probation=_probation(rules.probation),
        undo_ms=rules.undo_s * 1000,
        expiry_ms=rules.expiry_s * 1000,
        lapse_ms=rules.lapse_s * 1000,
        frequency={k: Frequency(claims=v.claims, window_ms=v.window_s * 1000) for k, v in rules.frequency.items()},
        listen_ms={room: v.every_s * 1000 for k, v in rules.listen.items() for room in ((k, f"{k}/dm") if v.messages else (k,))},
        replies_per_thread=rules.replies_per_thread,
        similar_bits=rules.similar_bits,
        failures_allowed=rules.failures_allowed,
        grace_ms=rules.grace_s * 1000,
        strict_kinds=list(rules.strict_kinds),
    )
