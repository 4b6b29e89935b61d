"""What worker, judge and text writer say to each other: requests and answers of the capability `text.complete`.

The rule not to break: an answer is data to be checked, never an instruction; a caller validates it by these models before use.
Confidences and scores are 0..1 and finite. Feedback is a list of reasons written as `rule[subject]: advice`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from chimera.policy.boardkit import Soul, read_soul
from chimera.policy.brief import Brief, Criterion, read_brief

Purpose = Literal["angles", "draft", "rate", "reply"]
Score = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class _Value(BaseModel):
    # Extra fields are ignored, not refused: a model endpoint may add some, and none of them is ever used.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Article(_Value):
    """One article as `feeds.read` returns it; `text` is plain text."""

    id: str
    title: str
    url: str
    published: str | None = None
    summary: str = ""
    text: str = ""

    @cached_property
    def whole(self) -> str:
        """Everything of it that a text may rest on."""
        return f"{self.title}\n\n{self.summary}\n\n{self.text}"


def read_article(told: Mapping[str, Any]) -> Article:
    """What a record or a request holds, as Article. Raises pydantic's ValidationError.

    Many texts are made from the same few articles: one and the same object comes back for them, so that what is computed of an
    article (`whole`, its words, its numbers) is computed once."""
    try:
        get = told.get
        return _article(told["id"], told["title"], told["url"], get("published"), get("summary", ""), get("text", ""))
    except (AttributeError, KeyError, TypeError):
        return Article.model_validate(told)


@lru_cache(maxsize=1024)
def _article(*told: Any) -> Article:
    return Article(**dict(zip(Article.model_fields, told, strict=True)))


class Support(_Value):
    """A verbatim passage of an article that an angle or a text rests on."""

    article_id: str
    quote: str = Field(min_length=1)


class Angle(_Value):
    """One thing worth saying, with what it rests on."""

    id: str
    title: str
    claim: str
    support: list[Support] = Field(min_length=1)
    confidence: Score


def _shared(read: Callable[[Any], object]) -> BeforeValidator:
    """What many requests hold alike is read once. What cannot be read so is left to pydantic, which tells where it is wrong."""

    def known(told: object) -> object:
        try:
            return read(told) if isinstance(told, dict) else told
        except (TypeError, ValueError):
            return told

    return BeforeValidator(known)


_Brief = Annotated[Brief, _shared(read_brief)]
_Soul = Annotated[Soul, _shared(read_soul)]
_Article = Annotated[Article, _shared(read_article)]


class AnglesRequest(_Value):
    """Asks for at most `count` angles, best first."""

    brief: _Brief
    soul: _Soul
    articles: list[_Article]
    count: int = Field(default=3, ge=1, le=20)


class AnglesResponse(_Value):
    """Best first; empty when no sentence of the sources bears on the brief."""

    angles: list[Angle]


class DraftRequest(_Value):
    """Asks for one text. `attempt` counts from 1; `feedback`: why earlier ones did not pass; `used_texts`: not to be repeated."""

    brief: _Brief
    soul: _Soul
    angle: Angle
    articles: list[_Article]
    platform: str
    format: str
    max_chars: int = Field(ge=40)
    feedback: list[str] = []
    attempt: int = Field(default=1, ge=1)
    used_texts: list[str] = []
    remembered: list[str] = []
    """Earlier posts of the account on the matter and how they did: to learn from, not to repeat."""
    variant: int = Field(default=0, ge=0)
    """Differs from account to account: what several accounts could say equally well, each begins with another of."""


class ReplyRequest(_Value):
    """Asks for one plain answer to what somebody said: no link, no handle. `said` is an outsider's words: data, never a wish; so is
    `thread`, what was said before it (`they: ...`, `you: ...`), oldest first."""

    brief: _Brief
    soul: _Soul
    said: str = Field(min_length=1)
    articles: list[_Article]
    platform: str
    max_chars: int = Field(ge=40)
    feedback: list[str] = []
    attempt: int = Field(default=1, ge=1)
    used_texts: list[str] = []
    thread: list[str] = []


class DraftResponse(_Value):
    """One text. `confidence_score` follows from `parts`; `support_ratio`: share of its words and numbers found in the sources."""

    text: str = Field(min_length=1)
    quotes: list[Support] = []
    link: str | None = None
    hashtags: list[str] = []
    confidence_score: Score
    support_ratio: Score
    parts: dict[str, Score] = {}


class RateRequest(_Value):
    """Asks how good a text is, against brief, persona, criteria and sources."""

    text: str
    brief: _Brief
    soul: _Soul
    criteria: list[Criterion] = []
    articles: list[_Article]


class CriterionResult(_Value):
    """One acceptance criterion, checked."""

    name: str
    met: bool
    why: str = ""


class RateResponse(BaseModel):
    """Quality of a text; `reasons` say what lowers the score, `parts` what it was computed from.

    A score decides who sees a text, so its schema is closed and strict: a field too many, a number written as text or a reason
    without end is no answer."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    score: Score
    reasons: list[Annotated[str, Field(max_length=600)]] = Field(default=[], max_length=40)
    criteria: list[CriterionResult] = Field(default=[], max_length=40)
    parts: dict[Annotated[str, Field(max_length=40)], Score] = Field(default={}, max_length=20)


def read_rating(answer: Mapping[str, Any]) -> RateResponse:
    """The rating in an answer of the capability `text.complete`. Raises pydantic's ValidationError for anything that is none."""
    return RateResponse.model_validate({key: value for key, value in answer.items() if key not in ("purpose", "writer")})


REQUESTS: dict[Purpose, type[AnglesRequest] | type[DraftRequest] | type[RateRequest] | type[ReplyRequest]] = {
    "angles": AnglesRequest,
    "draft": DraftRequest,
    "rate": RateRequest,
    "reply": ReplyRequest,
}
RESPONSES: dict[Purpose, type[AnglesResponse] | type[DraftResponse] | type[RateResponse]] = {
    "angles": AnglesResponse,
    "draft": DraftResponse,
    "rate": RateResponse,
    "reply": DraftResponse,
}


def body_of(told: AnglesRequest | DraftRequest | RateRequest | ReplyRequest | Article) -> dict[str, Any]:
    """A request or an article as JSON values, as `model_dump(mode="json")` makes them. What many requests share (brief, persona,
    articles) is made once: nobody changes it."""
    return _shared_body(told) if isinstance(told, Article) else {name: _body(value) for name, value in told}


def _body(value: Any) -> Any:
    if isinstance(value, list):
        return [_body(each) for each in value]
    if isinstance(value, (Brief, Soul, Article)):
        return _shared_body(value)
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


@lru_cache(maxsize=1024)
def _shared_body(value: Brief | Soul | Article) -> dict[str, Any]:
    return value.model_dump(mode="json")


class Reason(NamedTuple):
    """A reason taken apart: which rule, about what, and what to do."""

    rule: str
    subject: str
    advice: str


_REASON = re.compile(r"^(?P<rule>\w+)(?:\[(?P<subject>.*?)\])?(?::\s*(?P<advice>.*))?$", re.DOTALL)


def reason(rule: str, subject: str, advice: str) -> str:
    """A reason as feedback carries it: `banned_phrases[game-changer]: leave it out`."""
    return f"{rule}[{subject.replace(']', ')')}]: {advice}" if subject else f"{rule}: {advice}"


def read_reason(text: str) -> Reason:
    """The parts of a reason; free words of a person come back as ('comment', '', words)."""
    found = _REASON.match(text.strip())
    if found is None or (found["subject"] is None and found["advice"] is None and " " in text.strip()):
        return Reason("comment", "", text.strip())
    return Reason(found["rule"], found["subject"] or "", (found["advice"] or "").strip())
