"""Runs the example fleet through writer and judge in this process, without Kafka or servers, and prints what becomes of each text.

The rule not to break: it shows routes, it decides nothing; what it prints is what the same inputs give in a real run.
`python examples/preview.py [BRIEF]`
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from chimera.mcp.sandbox.feed_text import parse_feed
from chimera.mcp.sandbox.writer.offline import angles, draft, rate
from chimera.policy import text as measure
from chimera.policy.boardkit import Rules, Soul, load_text, parse_rules, parse_soul
from chimera.policy.brief import Brief, load_brief
from chimera.policy.routing import Verdict, route, verdict
from chimera.policy.rules import Context, judge
from chimera.policy.writing import AnglesRequest, Article, DraftRequest, DraftResponse, RateRequest

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Row:
    """One attempt: who, which format, what became of it, and the text."""

    agent: str
    format: str
    attempt: int
    route: str
    confidence: float | None
    tags: tuple[str, ...]
    reason: str
    text: str
    parts: dict[str, float]


def articles_of(brief: Brief) -> list[Article]:
    """The articles of the brief's feeds, in feed order, as the feed reader hands them over."""
    found = [a for feed in brief.feeds for a in parse_feed(Path(feed).read_bytes(), brief.max_articles)["articles"]]
    return [Article.model_validate(a) for a in found[: brief.max_articles]]


def souls_of(fleet: Path) -> list[Soul]:
    """The personas of a fleet file."""
    listed = yaml.safe_load(load_text(fleet))["agents"]
    return [parse_soul(load_text(fleet.parent / a["soul"]), a["soul"]) for a in listed]


def first_and_later(soul: Soul, brief: Brief, rules: Rules, attempts: int = 4) -> list[Row]:
    """Every attempt of every format for one agent, as the worker makes them, until a text passes or waits for people."""
    articles = articles_of(brief)
    found = angles(AnglesRequest(brief=brief, soul=soul, articles=articles, count=len(brief.formats) + 2)).angles
    rows: list[Row] = []
    for index, wanted in enumerate(brief.formats):
        feedback: list[str] = []
        for attempt in range(1, attempts + 1):
            angle = found[(index + attempt - 1) % len(found)]
            cited = {s.article_id for s in angle.support}
            request = DraftRequest(
                brief=brief,
                soul=soul,
                angle=angle,
                articles=[a for a in articles if a.id in cited],
                platform=wanted.platform,
                format=wanted.format,
                max_chars=wanted.max_chars or rules.max_chars_on(wanted.platform) or 280,
                feedback=feedback,
                attempt=attempt,
            )
            row, given = _attempt(request, rules)
            rows.append(row)
            if row.route != "retry":
                break
            feedback = given.reasons
    return rows


def _attempt(request: DraftRequest, rules: Rules) -> tuple[Row, Verdict]:
    made: DraftResponse = draft(request)
    sources = request.articles
    findings = judge(
        made.text,
        Context(
            rules=rules, soul=request.soul, platform=request.platform, sources=sources,
            max_chars=request.max_chars, criteria=request.brief.acceptance,
        ),
    )  # fmt: skip
    rated = rate(
        RateRequest(text=made.text, brief=request.brief, soul=request.soul, criteria=request.brief.acceptance, articles=sources)
    )
    given = verdict(findings, made.confidence_score, rated.score, rules, quality_reasons=rated.reasons, platform=request.platform)
    first = given.reasons[0] if given.reasons else ""
    row = Row(
        request.soul.name, request.format, request.attempt, route(given, rules, platform=request.platform), given.confidence,
        tuple(given.tags), first, made.text, made.parts,
    )  # fmt: skip
    return row, given


def preview(brief_path: Path = HERE / "briefs" / "autumn.yaml", fleet: Path = HERE / "fleet.yaml") -> list[Row]:
    """All attempts of all agents and formats of the example."""
    brief, rules = load_brief(brief_path), parse_rules(load_text(HERE / "AGENTS.md"), "AGENTS.md")
    return [row for soul in souls_of(fleet) for row in first_and_later(soul, brief, rules)]


def table(rows: list[Row]) -> str:
    """The rows for people to read."""
    lines = []
    for row in rows:
        confidence = f"{row.confidence:.3f}" if row.confidence is not None else "-"
        length = measure.weighted_length(row.text, "x")
        head = f"{row.agent:<6} {row.format:<6} #{row.attempt} {row.route:<7} {confidence} {','.join(row.tags):<8} {length:>3}"
        lines.append(f"{head}  {row.reason}")
        lines += [f"         | {line}" for line in row.text.splitlines() if line]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(preview(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "briefs" / "autumn.yaml")))
