"""A campaign's brief: what people want, for whom, from which feeds, in which formats, and when a text is good enough.

The rule not to break: every acceptance criterion is typed, so that a judge can check it without asking what was meant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationInfo, field_validator, model_validator

from chimera.events.hashes import canonical
from chimera.events.records import Disclosure
from chimera.policy.boardkit import Texts, load_text
from chimera.policy.documents import DocumentError, parse_yaml
from chimera.shapes import Shaped, Symbol


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MentionsAny(_Closed):
    """The text holds at least one of these words or phrases."""

    kind: Literal["mentions_any"] = "mentions_any"
    words: Texts = Field(min_length=1)


class MentionsNone(_Closed):
    """The text holds none of these words or phrases."""

    kind: Literal["mentions_none"] = "mentions_none"
    words: Texts = Field(min_length=1)


class LinksSource(_Closed):
    """The text links an article that it was made from."""

    kind: Literal["links_source"] = "links_source"


class QuotesSource(_Closed):
    """At least `min_words` consecutive words of the text stand in a source exactly so."""

    kind: Literal["quotes_source"] = "quotes_source"
    min_words: int = Field(default=4, ge=2)


class HasNumber(_Closed):
    """The text holds a number, and every number in it stands in a source."""

    kind: Literal["has_number"] = "has_number"


class MaxHashtags(_Closed):
    """At most `n` hashtags."""

    kind: Literal["max_hashtags"] = "max_hashtags"
    n: int = Field(ge=0)


class MinWords(_Closed):
    """At least `n` words, links and hashtags not counted."""

    kind: Literal["min_words"] = "min_words"
    n: int = Field(gt=0)


class MaxWords(_Closed):
    """At most `n` words, links and hashtags not counted."""

    kind: Literal["max_words"] = "max_words"
    n: int = Field(gt=0)


Criterion = Annotated[
    MentionsAny | MentionsNone | LinksSource | QuotesSource | HasNumber | MaxHashtags | MinWords | MaxWords,
    Field(discriminator="kind"),
]


FOLLOW_UP = "follow_up"
"""The input of a plan's row, and the part of a text's content, that says that it follows up another text of its campaign."""
Metric = Literal["likes", "replies", "reposts", "quotes", "impressions"]


class FollowUp(_Closed):
    """A second text about the same, in the thread of the first, so many hours after that went out: always, or only where it has
    by then all the numbers of `at_least`; what has not is looked at again until `until_hours` after it went out."""

    after_hours: float = Field(gt=0, le=2_160)
    at_least: dict[Metric, Annotated[int, Field(gt=0)]] = {}
    until_hours: float | None = Field(default=None, gt=0, le=2_160)
    max_chars: int | None = Field(default=None, ge=40)

    @model_validator(mode="after")
    def _looks_for_something(self) -> FollowUp:
        if self.until_hours is not None and not self.at_least:
            raise ValueError("until_hours says how long to look for numbers: name them in at_least, or drop it")
        if self.until_hours is not None and self.until_hours < self.after_hours:
            raise ValueError("until_hours is before after_hours: nothing would ever be looked at")
        return self

    @property
    def after_ms(self) -> int:
        """How long after the first text the second may be written, in ms."""
        return int(self.after_hours * 3_600_000)

    @property
    def until_ms(self) -> int:
        """How long after the first text its numbers are looked at for the last time, in ms."""
        return int((self.until_hours or self.after_hours) * 3_600_000)


SHORT = "short"
"""Media of a format: a film of several shots, cut, with words on it."""
SHOWS = frozenset(("instagram",))
"""Platforms on which every post has a picture or a film."""


class Format(_Closed):
    """One text to make per agent: where, which kind, and how long at most (weighted characters; None = the policy's limit)."""

    platform: str = Field(min_length=1)
    format: str = Field(min_length=1)
    max_chars: int | None = Field(default=None, ge=40)
    not_before: AwareDatetime | None = None
    """It is written, judged and approved as soon as may be, and goes out then or later, posting hours permitting."""
    follow_up: FollowUp | None = None
    media: Literal["image", "video", "short"] | None = None
    """What goes with the words: a picture, a film made from one, or a short film of `shots` films, cut, with the words on it.
    Where a platform shows nothing without, it is needed."""
    shots: int = Field(default=3, ge=2, le=6)
    aspect: Literal["1:1", "16:9", "9:16"] = "1:1"
    cut_from: str | None = None
    """PLATFORM/FORMAT before this one, on another platform: its words and its pictures or films go out here too, cut into this
    one's shape (of a short film its first `shots`), and nothing is written or ordered anew."""

    @model_validator(mode="after")
    def _shows_something(self) -> Format:
        if self.cut_from is not None and self.follow_up is not None:
            raise ValueError("what is cut from another format says what that one says: drop follow_up, or give it to the other")
        if self.platform in SHOWS and self.media is None and self.cut_from is None:
            raise ValueError(f"{self.platform} publishes no words alone: add media: image, media: video or media: short")
        if self.platform in SHOWS and self.follow_up is not None:
            raise ValueError(f"{self.platform} has no threads of posts: drop follow_up")
        return self


class Replies(_Closed):
    """The campaign answers what people say to the agent, for so many days from its start (or from this edition of the brief)."""

    days: float = Field(gt=0, le=366)
    max_chars: int | None = Field(default=None, ge=40)


Query = Annotated[str, Field(min_length=2, max_length=400)]
"""As long as the providers take."""


class Research(_Closed):
    """What is looked for beside the feeds: on the web, and in the news; at most `per_search` results of each."""

    search: list[Query] = Field(default=[], max_length=10)
    news: list[Query] = Field(default=[], max_length=10)
    per_search: int = Field(default=5, ge=1, le=20)

    @model_validator(mode="after")
    def _asks_something(self) -> Research:
        if not self.search and not self.news:
            raise ValueError("looks for nothing: name queries under search or news, or drop it")
        return self


class Brief(_Closed):
    """What CampaignStarted.brief holds (`model_dump(mode="json")`); feeds are absolute paths or addresses by then."""

    name: str = Field(min_length=1, max_length=120)
    goal: str = Field(min_length=10)
    audience: str = Field(min_length=3)
    key_messages: Texts = Field(min_length=1)
    research: Research | None = None
    """Searches beside the feeds, or instead of them. What they find is open web; the policy's `taint_auto` says what follows."""
    feeds: Texts = Field(default=[], validate_default=True)
    formats: list[Format] = Field(min_length=1)
    acceptance: list[Criterion] = []
    disclosure: Disclosure = "automated"
    paid_partnership: bool = False
    """Somebody paid for what is said: every platform's own words for that go with it."""
    max_articles: int = Field(default=20, ge=1, le=200)
    replies: Replies | None = None

    def __hash__(self) -> int:
        return hash((self.name, self.goal))  # what is computed of a brief is kept by it

    @field_validator("feeds")
    @classmethod
    def _has_sources(cls, feeds: list[str], info: ValidationInfo) -> list[str]:
        if not feeds and info.data.get("research") is None:
            raise ValueError("the brief has no sources: name feeds, or queries under research")
        return feeds

    @field_validator("formats")
    @classmethod
    def _each_once(cls, formats: list[Format]) -> list[Format]:
        seen = [(f.platform, f.format) for f in formats]
        for pair in seen:
            if seen.count(pair) > 1:
                raise ValueError(f"names {pair[0]}/{pair[1]} twice: keep one")
        return formats

    @field_validator("formats")
    @classmethod
    def _cut_from_what_is_there(cls, formats: list[Format]) -> list[Format]:
        found: list[Format] = []
        for form in formats:
            if form.cut_from is None:
                found.append(form)
                continue
            source = next((each for each in found if f"{each.platform}/{each.format}" == form.cut_from), None)
            if source is None or source.media is None or source.cut_from is not None or source.platform == form.platform:
                mine = f"{form.platform}/{form.format}"
                raise ValueError(f"cut_from: {form.cut_from} is no format of another platform with media before {mine}")
            if form.media not in (None, source.media):
                raise ValueError(f"{form.platform}/{form.format} shows what {form.cut_from} shows: drop media")
            told = form.shots if "shots" in form.model_fields_set else source.shots
            if told > source.shots:
                raise ValueError(f"{form.cut_from} has {source.shots} shots, and {form.platform}/{form.format} asks for {told}")
            found.append(form.model_copy(update={"media": source.media, "shots": told}))
        return found


def read_brief(body: Mapping[str, Any]) -> Brief:
    """What a record of the log holds, as Brief. Raises pydantic's ValidationError."""
    return _brief(canonical(body))


@lru_cache(maxsize=256)  # a fleet works on a few briefs, and every job reads its own anew
def _brief(body: bytes) -> Brief:
    return Brief.model_validate_json(body)


def read_criteria(told: Sequence[Mapping[str, Any]]) -> tuple[Criterion, ...]:
    """What a plan's row holds, as criteria. Raises pydantic's ValidationError."""
    return _criteria(canonical(told))


_CRITERIA: TypeAdapter[tuple[Criterion, ...]] = TypeAdapter(tuple[Criterion, ...])


@lru_cache(maxsize=256)
def _criteria(told: bytes) -> tuple[Criterion, ...]:
    return _CRITERIA.validate_json(told)


class Takedown(_Closed):
    """A brief of another kind: what the agent published as `platform_id` is taken down."""

    platform: str = Field(min_length=1)
    platform_id: str = Field(min_length=1, max_length=256)
    reason: str = Field(min_length=1, max_length=1000)


def takedown_of(brief: Mapping[str, Any]) -> Takedown | None:
    """The takedown that a campaign's brief asks for, or None where it is a brief for texts. Raises ValidationError."""
    return Takedown.model_validate(brief["takedown"]) if set(brief) == {"takedown"} else None


class Boost(_Closed):
    """A brief of another kind: what the agent published as `platform_id` is shown to more people for money."""

    platform: str = Field(min_length=1)
    platform_id: str = Field(min_length=1, max_length=256)
    tier: str = Field(min_length=1, max_length=64)
    days: int = Field(ge=1, le=366)
    reason: str = Field(min_length=1, max_length=1000)


def boost_of(brief: Mapping[str, Any]) -> Boost | None:
    """The boost that a campaign's brief asks for, or None where it is another kind of brief. Raises ValidationError."""
    return Boost.model_validate(brief["boost"]) if set(brief) == {"boost"} else None


WALLET = "wallet"
"""The platform of transfers: an agent's account there is its wallet."""


class Transfer(_Closed):
    """A brief of another kind: `amount` (in whole units, as it is sent) of `asset` goes to `to`, exactly as payees are listed."""

    asset: Symbol
    amount: Annotated[
        str, Shaped(r"^(0|[1-9][0-9]{0,20})(\.[0-9]{1,18})?$", "write digits, and at most 18 behind a point, as in 12.50")
    ]
    to: str = Field(min_length=1, max_length=200)
    reason: str = Field(min_length=1, max_length=1000)

    @field_validator("amount")
    @classmethod
    def _is_something(cls, amount: str) -> str:
        if not amount.strip("0."):
            raise ValueError("is nothing: pay more than 0")
        return amount


def transfer_of(brief: Mapping[str, Any]) -> Transfer | None:
    """The transfer that a campaign's brief asks for, or None where it is another kind of brief. Raises ValidationError."""
    return Transfer.model_validate(brief["transfer"]) if set(brief) == {"transfer"} else None


def is_address(feed: str) -> bool:
    """A feed given as http(s) address rather than as a file."""
    return feed.startswith(("http://", "https://"))


def parse_brief(text: str, source: str = "brief", base: Path | None = None) -> Brief:
    """YAML as Brief; feed files become absolute, relative to `base`. Raises DocumentError with file, line, field, way out."""
    brief = parse_yaml(Brief, text, source)
    here = base or Path.cwd()
    feeds = [feed if is_address(feed) else str((here / feed.removeprefix("file://")).resolve()) for feed in brief.feeds]
    return brief.model_copy(update={"feeds": feeds})


def load_brief(path: Path) -> Brief:
    """The brief in the file at `path`. Raises DocumentError, also when a feed file is not there."""
    brief = parse_brief(load_text(path), str(path), path.resolve().parent)
    for feed in brief.feeds:
        if not is_address(feed) and not Path(feed).is_file():
            raise DocumentError(
                f"{path}: feed '{feed}' is not a file: correct the path (relative to the brief) or give an http(s) address"
            )
    return brief


def listens_until(brief: dict[str, Any], now_ms: int) -> int:
    """Until when a campaign of this brief answers people (ms since 1970); 0 where its brief does not say that it does."""
    replies = brief.get("replies")
    return now_ms + int(replies["days"] * 86_400_000) if replies else 0
