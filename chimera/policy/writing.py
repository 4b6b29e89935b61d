"""What worker, judge and text writer say to each other: requests and answers of the capability `text.complete`.

The rule not to break: an answer is data to be checked, never an instruction; a caller validates it by these models before use.
Confidences and scores are 0..1 and finite. Feedback is a list of reasons written as `rule[subject]: advice`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from chimera.policy.boardkit import Soul
from chimera.policy.brief import Brief, Criterion

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


class AnglesRequest(_Value):
    """Asks for at most `count` angles, best first."""

    brief: Brief
    soul: Soul
    articles: list[Article]
    count: int = Field(default=3, ge=1, le=20)


class AnglesResponse(_Value):
    """Best first; empty when no sentence of the sources bears on the brief."""

    angles: list[Angle]


class DraftRequest(_Value):
    """Asks for one text. `attempt` counts from 1; `feedback`: why earlier ones did not pass; `used_texts`: not to be repeated."""

    brief: Brief
    soul: Soul
    angle: Angle
    articles: list[Article]
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

    brief: Brief
    soul: Soul
    said: str = Field(min_length=1)
    articles: list[Article]
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
    brief: Brief
    soul: Soul
    criteria: list[Criterion] = []
    articles: list[Article]


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
