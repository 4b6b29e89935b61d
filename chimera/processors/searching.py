"""Material that is searched for: the open web and the news, as articles beside those of feeds.

The rule not to break: what a search finds is open web. It is cleaned of markup, keeps its address and its taint, and says nothing
that anybody obeys.
"""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from chimera.events.records import Taint
from chimera.policy.brief import Brief
from chimera.policy.writing import Article
from chimera.processors import materials
from chimera.processors.jobs import Job, Tools

CAPABILITIES = {"search": "search.web", "news": "search.news"}
"""The part of a brief's research -> what answers it; which provider does is a setting's matter (`CHIMERA_PROVIDERS`)."""
_TAG = re.compile(r"<[^<>]{0,300}>")
_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\u00ad\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def inputs_of(brief: Brief) -> dict[str, Any]:
    """What a research task is told: the brief's feeds, and its searches where it names some."""
    told: dict[str, Any] = {"feeds": brief.feeds, "max_articles": brief.max_articles}
    if brief.research is not None:
        told |= brief.research.model_dump(mode="json", exclude_defaults=True)
    return told


def title_of(brief: Brief) -> str:
    """The research task in words."""
    asked = 0 if brief.research is None else len(brief.research.search) + len(brief.research.news)
    return " and ".join(
        [f"Read {len(brief.feeds)} feeds"] * bool(brief.feeds) + [f"ask {asked} searches"] * bool(asked)
    ).capitalize()


class Found(NamedTuple):
    """Articles, and which searches brought none, by capability, with why; `unreached`: some may bring more when asked again."""

    articles: list[Article]
    taint: Taint
    broken: list[dict[str, str]]
    unreached: bool


def wanted(inputs: dict[str, Any]) -> list[tuple[str, str]]:
    """(capability, query) of each search that a task's inputs name."""
    return [(capability, query) for part, capability in CAPABILITIES.items() for query in inputs.get(part, [])]


async def found(job: Job, tools: Tools, searches: Iterable[tuple[str, str]], count: int) -> Found:
    """What the searches find, at most `count` articles each, every address once."""
    articles: dict[str, Article] = {}
    broken: list[dict[str, str]] = []
    taint: Taint = "owner"
    unreached = False
    for capability, query in searches:
        outcome = await tools.tool(job, capability, {"query": query, "count": count})
        if outcome.result == "ok":
            taint = materials.worst(taint, outcome.taint)
            for item in outcome.data["items"][:count]:
                article = article_of(item)
                if article is not None:
                    articles.setdefault(article.url, article)
        else:
            unreached = unreached or outcome.result in ("not_sent", "unknown")
            broken.append({"feed": f"{capability}: {query}"[:300], "reason": f"{outcome.reason}: {outcome.detail}"[:300]})
    return Found(list(articles.values()), taint, broken, unreached)


def article_of(item: dict[str, Any]) -> Article | None:
    """One result as an article; None where it has no address that can be linked, or says nothing."""
    url, title, text = (str(item.get(name, "")) for name in ("url", "title", "text"))
    title, text = plain(title), plain(text)
    if not url.startswith(("http://", "https://")) or len(url) > 2_000 or any(c.isspace() for c in url) or not (title and text):
        return None
    published = item.get("at")
    return Article(
        id=hashlib.sha256(url.encode()).hexdigest()[:16],
        title=title,
        url=url,
        published=published if isinstance(published, str) else None,
        text=text,
    )


def plain(words: str) -> str:
    """Words of a result page without markup (some providers mark what was searched for) and without what cannot be seen."""
    return " ".join(_INVISIBLE.sub("", html.unescape(_TAG.sub("", words))).split())
