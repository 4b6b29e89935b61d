"""One page with everything that the sandboxes show: posts of all platforms, orders of studios, the files behind them.

The one rule: it is looked at and nothing more. No script runs, nothing is fetched from elsewhere, and every word on it that came
from outside is escaped: what strangers write is hostile now and then.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from chimera.mcp.sandbox.audience import Audience
from chimera.mcp.sandbox.gram import Gram, people_did
from chimera.mcp.sandbox.jobs import JobBook, Ordered
from chimera.mcp.sandbox.timeline import Message, Post, Timeline, id_at
from chimera.mcp.sandbox.x_audience import BY_ITSELF, arrive, numbers_of, public_metrics
from chimera.media.serving import played
from chimera.media.store import MEDIA_TYPES, Asset, MediaStore, named

MOST = 300
"""Posts on a page; older ones by `?before=`."""
_STUDIOS = ("ideogram", "midjourney", "runway", "luma")
_STYLE = """
:root{color-scheme:light dark;--line:#d5d5d5;--soft:#565656;--card:#fff;--back:#f4f4f2;--ink:#161616;--mark:#0b57d0}
@media(prefers-color-scheme:dark){:root{--line:#3a3a3a;--soft:#b0b0b0;--card:#1d1d1d;--back:#121212;--ink:#ececec;--mark:#9bc1ff}}
*{box-sizing:border-box}body{font:16px/1.5 system-ui,sans-serif;margin:0;background:var(--back);color:var(--ink)}
main{max-width:46rem;margin:0 auto;padding:1rem}h1{font-size:1.4rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}
a{color:var(--mark)}
article{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.8rem 1rem;margin:.6rem 0}
article p{white-space:pre-wrap;overflow-wrap:anywhere;margin:.3rem 0}small{color:var(--soft)}
img,video{display:block;max-width:100%;max-height:26rem;border-radius:.4rem;margin:.5rem 0;background:var(--line)}
table{border-collapse:collapse;width:100%;background:var(--card)}
td,th{border:1px solid var(--line);padding:.3rem .5rem;text-align:left}
td{overflow-wrap:anywhere}.stranger{border-style:dashed}
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_HASH}'; img-src 'self'; media-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Card:
    """One post as it is shown. `at`: wall seconds; `media`: names of files; `notes`: what stands below it, in words."""

    platform: str
    id: str
    account: str
    at: float
    text: str
    media: tuple[str, ...]
    notes: tuple[str, ...]
    link: str | None = None
    stranger: bool = False


# --- what is shown -------------------------------------------------------------------------------------------------------


def x_card(timeline: Timeline, audience: Audience, post: Post, link: bool = False) -> Card:
    """A post of X; `link`: its own page is on this server."""
    did, counts = numbers_of(timeline, audience, post), public_metrics(timeline, audience, post)
    notes = [f"in reply to {post.reply_to}"] if post.reply_to is not None else []
    notes += ["made with AI"] if post.extra.get("made_with_ai") else []
    notes += ["paid partnership"] if post.extra.get("paid_partnership") else []
    views, likes, replies = counts["impression_count"], counts["like_count"], counts["reply_count"]
    notes += [_counted(views, likes, replies, counts["retweet_count"], did.watch_s)]
    at = f"/{quote(post.account)}/status/{post.id}" if link else None
    media = tuple(str(name) for name in post.extra.get("assets", ()))
    by_itself = BY_ITSELF in post.extra
    return Card("x", str(post.id), post.account, post.created_at, post.text, media, tuple(notes), at, by_itself)


def x_cards(directory: Path, before: float, account: str | None) -> list[Card]:
    """Posts of the X sandbox with its folder, newest first; who had something to say by now has said it."""
    if not (directory / "timeline.sqlite3").exists():
        return []
    with closing(Timeline(directory)) as timeline, closing(Audience(directory)) as audience:
        first = timeline.posts(account, limit=MOST)
        for author in sorted({post.account for post in first if BY_ITSELF not in post.extra})[:50]:
            arrive(timeline, audience, author)
        posts = timeline.posts(account, until_id=id_at(before), limit=MOST)
        return [x_card(timeline, audience, post) for post in posts]


def gram_cards(directory: Path, before: float, account: str | None) -> list[Card]:
    """Posts of the Instagram sandbox with its folder, newest first."""
    if not (directory / "gram.sqlite3").exists():
        return []
    with closing(Gram(directory)) as gram, closing(Audience(directory)) as audience:
        cards = []
        for post in gram.posts(account, limit=MOST, before=str(int(before * 1000) << 10)):
            did = people_did(post, gram.first_at(post.account) or post.made_at, audience)
            notes = (_counted(did.views, did.likes, did.replies, did.reposts, did.watch_s),)
            cards.append(Card("instagram", post.id, post.account, post.made_at, post.caption, (post.media,), notes))
        return cards


def orders(home: Path) -> list[tuple[str, Ordered, str]]:
    """(studio, order, how it stands) of all studios, newest first."""
    found = []
    with ExitStack() as stack:
        for studio in _STUDIOS:
            if (home / studio / "jobs.sqlite3").exists():
                book = stack.enter_context(closing(JobBook(home / studio)))
                for job in book.jobs(limit=50):
                    found.append((studio, job, "cancelled" if job.cancelled else "ready" if book.ready(job) else "running"))
    return sorted(found, key=lambda row: row[1].made_at, reverse=True)[:50]


def messages(directory: Path, account: str | None) -> list[Message]:
    """Direct messages of X, newest first."""
    if not (directory / "timeline.sqlite3").exists():
        return []
    with closing(Timeline(directory)) as timeline:
        return timeline.newest_messages(account, 50)


# --- as HTML -------------------------------------------------------------------------------------------------------------


def html(title: str, parts: Iterable[str], status: int = 200) -> Response:
    """A whole page; `parts` are HTML already, `title` is words."""
    name = escape(title)
    body = "\n".join(parts)
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body><main><h1>{name}</h1>\n{body}\n</main></body></html>\n"
    )
    return HTMLResponse(page, status_code=status, headers=HEADERS)


def card(one: Card) -> str:
    """A post."""
    number = f'<a href="{escape(one.link)}">{escape(one.id)}</a>' if one.link else escape(one.id)
    notes = " · ".join(escape(note) for note in (one.platform, _when(one.at), *one.notes))
    kind = ' class="stranger"' if one.stranger else ""
    return (
        f'<article id="{one.platform}-{escape(one.id)}"{kind}><strong>@{escape(one.account)}</strong>'
        f"<p>{escape(one.text)}</p>{''.join(map(_shown, one.media))}<small>{number} · {notes}</small></article>"
    )


def _shown(name: str) -> str:
    if named(name) is None:
        return f"<p>{escape(name)}</p>"
    if MEDIA_TYPES[name.rpartition(".")[2]].startswith("video/"):
        return f'<video controls muted preload="metadata" src="/media/{name}"></video>'
    return f'<img loading="lazy" alt="picture {name[:12]}" src="/media/{name}">'


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    return f"<h2>{escape(title)}</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if body else ""


def _counted(views: int, likes: int, replies: int, reposts: int, watch_s: int) -> str:
    told = f"{views} views, {likes} likes, {replies} replies, {reposts} reposts"
    return told + (f", watched for {watch_s} s" if watch_s else "")


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


# --- served --------------------------------------------------------------------------------------------------------------


def timeline_route(folders: Mapping[str, Path], studios: Path | None = None) -> Route:
    """The timelines of platforms (`x`, `instagram`) by their folders, and the orders of the studios whose folders lie in `studios`.

    `?account=NAME` shows one account's, `?before=SECONDS` what is older (wall seconds).
    """

    async def page(request: Request) -> Response:
        account = request.query_params.get("account") or None
        try:
            before = float(request.query_params.get("before", "4e9"))
        except ValueError:
            before = math.nan
        if not 0 <= before <= 4e9:
            return PlainTextResponse("before is a time in seconds since 1970", status_code=400, headers=HEADERS)
        return html(*await asyncio.to_thread(_page, folders, studios, account, before))

    return Route("/", page, methods=["GET"])


def _page(folders: Mapping[str, Path], studios: Path | None, account: str | None, before: float) -> tuple[str, list[str]]:
    cards = [one for name, folder in folders.items() for one in _SOURCES[name](folder, before, account)]
    cards = sorted(cards, key=lambda one: one.at, reverse=True)[:MOST]
    parts = [card(one) for one in cards] or ["<p>No posts yet.</p>"]
    if len(cards) == MOST:
        whose = f"&amp;account={quote(account)}" if account else ""
        parts.append(f'<p><a href="?before={cards[-1].at:.3f}{whose}">Older posts</a></p>')
    if studios is not None:
        told = ((_when(m.created_at), f"@{m.sender}", f"@{m.recipient}", m.text) for m in messages(studios / "x", account))
        parts.append(_table("Private messages on X", ("when", "from", "to", "text"), told))
        ordered = ((_when(job.made_at), studio, f"@{job.account}", how, _prompt(job)) for studio, job, how in orders(studios))
        parts.append(_table("Orders of pictures and films", ("when", "studio", "for", "is", "prompt"), ordered))
    return f"{' and '.join(_TITLES[name] for name in folders)} (sandbox)", parts


_SOURCES: Mapping[str, Callable[[Path, float, str | None], list[Card]]] = {"x": x_cards, "instagram": gram_cards}
_TITLES = {"x": "X", "instagram": "Instagram"}


def _prompt(job: Ordered) -> str:
    return str(job.arguments.get("prompt") or job.arguments.get("promptText") or "")


def media_route(stores: Sequence[MediaStore]) -> Route:
    """`/media/{name}`: a file of these media stores, by its hash; players may ask for parts of it."""

    async def file(request: Request) -> Response:
        name = str(request.path_params["name"])
        parts = named(name)
        for store in stores if parts is not None else ():
            size = await store.size(name)
            if size is not None:
                assert parts is not None
                return await played(store, Asset(*parts, size), request, HEADERS | {"Cache-Control": "max-age=86400"})
        return PlainTextResponse("there is no such file", status_code=404, headers=HEADERS)

    return Route("/media/{name}", file, methods=["GET"])


def whole_page(home: Path, media: MediaStore) -> list[Route]:
    """The page with everything, and its files; `home` is the folder of the sandboxes' folders."""
    timelines = timeline_route({"x": home / "x", "instagram": home / "instagram"}, home)
    return [timelines, media_route([media, MediaStore(home / "x" / "media")])]
