"""The review desk as it is seen: the queue at one side, one card at the other, who else looks.

The rule not to break: what is shown of a card comes from the command service, and its digest stands beside it; media come from the
store by the hashes of that very card.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from psycopg import AsyncConnection
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response

from chimera.commands import verbs
from chimera.commands.cards import BadCard, parse_card, words_in
from chimera.commands.client import CommandFailed, NoService
from chimera.commands.decision import Refused
from chimera.commands.telling import WHY, ago, exact_call
from chimera.commands.telling import shadow as told_of_shadow
from chimera.commands.verbs import Reply
from chimera.control import queue, web
from chimera.control.access import action_for, authorize, tenants_of
from chimera.control.accounts import Accounts, Login
from chimera.control.asking import Asking
from chimera.control.live import Live
from chimera.control.media import Links, allowing
from chimera.control.presence import Presence
from chimera.control.preview import preview
from chimera.control.sights import Sights
from chimera.media.store import MediaStore

log = logging.getLogger(__name__)

Reading = Callable[[], AbstractAsyncContextManager[AsyncConnection[Any]]]
Page = Callable[..., Response]
REASON_WORDS = {
    "off_brand": "not our voice",
    "inaccurate": "not true",
    "unsafe": "unsafe",
    "duplicate": "said before",
    "timing": "wrong moment",
    "other": "other",
}
PAGES = {"x": "https://x.com/{}", "instagram": "https://www.instagram.com/{}/"}
"""Where an account is looked at by people."""
LOW_RISK = frozenset({"confidence", "audit_sample", "shadow"})
"""Why people are asked where nothing about the text itself asks for it: such cards may be decided together."""
MOST_TOGETHER = 25
_DECIDED = """SELECT decision, reviewer, created_at FROM analytics_v1.decisions WHERE agent = %(agent)s AND campaign = %(campaign)s
  AND ordinal = %(ordinal)s AND ruling = 'applied' AND (%(tenants)s::text[] IS NULL OR tenant = ANY(%(tenants)s))
  ORDER BY created_at DESC LIMIT 1"""


class Flash(NamedTuple):
    """What is said above a card: of which card, that it was done, refused or is only news; an undo, and how many ms it is open;
    what became of each card of several."""

    kind: str
    card: str
    words: str
    undo_ms: int = 0
    each: Sequence[tuple[str, str, str]] = ()


class Review:
    """What the desk shows. Handlers of pages that change nothing."""

    def __init__(
        self,
        page: Page,
        reading: Reading,
        asking: Asking,
        accounts: Accounts,
        live: Live,
        home: Path,
        media: MediaStore,
        links: Links,
    ) -> None:
        self.page, self.asking, self.accounts = page, asking, accounts
        self.sights = Sights(home)
        self._reading, self._live, self._presence = reading, live, Presence()
        self._links, self._media = links, media

    async def desk(self, request: Request) -> Response:
        """The queue and one card: that of `?card=`, else the first. An htmx request gets the part that it names."""
        login = web.login_of(request, self.accounts)
        return await self.shown(request, login, card=request.query_params.get("card"))

    async def looking(self, request: Request) -> Response:
        """This browser has that card open, with the digest `?shown=`; who else has. Others at it are told."""
        login = web.login_of(request, self.accounts)
        at = request.path_params["card"]
        seen, trouble = await self.card(login, at)
        if seen is None:
            return self.page("_looking.html", login, others=[], changed=trouble)
        self._live.tell("looking", self._presence.looks(login, at))
        changed = request.query_params.get("shown") != seen["shown_hash"]
        if not changed:
            self.sights.opened(login, seen)
        return self.page(
            "_looking.html",
            login,
            others=self._presence.others(login, at),
            changed=await self.decided(login, at) or "It is not what is shown here any more: open it again" if changed else "",
        )

    async def shown(
        self,
        request: Request,
        login: Login,
        *,
        card: str | None,
        flash: Flash | None = None,
        typed: Mapping[str, Any] | FormData | None = None,
        without: Sequence[str] = (),
        status: int = 200,
    ) -> Response:
        """The desk with this card before the person, or the first; `typed` is put back where it was typed."""
        held = await self._held()
        wanted = queue.read_wanted(request.query_params, tenants_of(login.principal))
        async with self._reading() as connection:
            behind = (*held, *await queue.voted(connection, login.principal.name))
            waiting = await queue.queue(connection, wanted._replace(without=without, behind=behind))
        listed: dict[str, Any] = {
            "waiting": waiting,
            "wanted": wanted,
            "held": held,
            "query": urlencode(wanted.chosen()),
            "narrowed": _narrowed(wanted),
            "opened": set(self.sights.of(login, [row["card"] for row in waiting.cards])),
            "together": together,
            "reason_words": REASON_WORDS,
        }
        htmx = "hx-request" in request.headers
        if htmx and request.headers.get("hx-target") == "queue":
            return self.page("_queue.html", login, **listed, open_card=card)
        seen, trouble = await self.card(login, card or (waiting.cards[0]["card"] if waiting.cards else None))
        at = seen["card"]["card"] if seen is not None else None
        if trouble and card:
            trouble = await self.decided(login, card) or trouble
        if seen is not None and not htmx:
            self.sights.opened(login, seen)  # without scripts nothing else tells that it is open
            listed["opened"] = {*listed["opened"], seen["address"]}
        page = self.page(
            "_desk.html" if htmx else "review.html",
            login,
            status,
            **listed,
            open_card=at,
            seen=seen,
            trouble=trouble,
            flash=flash,
            typed=dict(typed or {}),
            **await self._about(seen, login),
        )
        page.headers["Content-Security-Policy"] = allowing(web.HEADERS["Content-Security-Policy"], self._links.origin)
        return page

    async def card(self, login: Login, at: str | None) -> tuple[Reply | None, str]:
        """The card, and why there is none to show."""
        if at is None:
            return None, ""
        try:
            seen = await self.asking.ask(verbs.CardShow(card=at))
        except LookupError:
            return None, f"card {at}: there is none"
        except Refused as refusal:
            return None, str(refusal)
        except (NoService, CommandFailed) as error:
            return None, f"{error}. The queue is from the read models; cards open again when the command service is back"
        # A card of a tenant that this person may not see is no different from none at all.
        return (seen, "") if authorize(login.principal, "read", seen["card"]["tenant"]) else (None, f"card {at}: there is none")

    async def decided(self, login: Login, at: str) -> str:
        """Who decided on a card last and when, in words; "" where the read models know of nobody."""
        try:
            where = parse_card(at)
        except BadCard:
            return ""
        given = where._asdict() | {"tenants": tenants_of(login.principal)}
        async with self._reading() as connection:
            row = await (await connection.execute(_DECIDED, given)).fetchone()
        return "" if row is None else f"{at} was {row[0]} by {row[1]} at {row[2]:%H:%M:%S} UTC"

    async def _held(self) -> Mapping[str, Any]:
        """Cards that somebody holds, by whom; nobody can say while the command service is away."""
        try:
            held: Mapping[str, Any] = (await self.asking.ask(verbs.CardHolds()))["held"]
        except (NoService, CommandFailed) as error:
            log.warning("who holds which card is not known: %s", error)
            return {}
        return held

    async def _about(self, seen: Reply | None, login: Login) -> dict[str, Any]:
        """What a template needs beside the card itself."""
        if seen is None:
            return {}
        card = seen["card"]
        action, now_ms = action_for(card["effect_class"]), int(time.time() * 1000)
        return {
            "why": WHY.get(card["why"], card["why"]),
            "call": exact_call(card),
            "editable": words_in(card["arguments"]) is not None,
            "reasons": REASON_WORDS,
            "shadow": told_of_shadow(seen["shadow"]),
            "may_decide": authorize(login.principal._replace(fresh=True), action, card["tenant"]),
            "needs_password": action == "decide_money" and not login.principal.fresh,
            "is_approver": login.principal.name in card["approvers"],
            "voted": login.principal.name in card["approvals"],
            "missing": max(0, card["approvals_needed"] - len(card["approvals"])),
            "preview": await preview(card, login, self._links, self._media),
            "platform_url": PAGES[card["platform"]].format(card["account"])
            if card["mode"] == "live" and card["platform"] in PAGES
            else "",
            "now_ms": now_ms,
            "closes_in": ago(now_ms, seen["expires_ts"]),
        }


def together(row: Mapping[str, Any]) -> str:
    """The name of the kind of cards with which this row of the queue may be decided at once; "" where it stands for itself."""
    if row["effect_class"] != "publish" or row["why"] not in LOW_RISK or row["risk_tags"]:
        return ""
    return f"{row['platform']} {row['why']}"


def _narrowed(wanted: queue.Wanted) -> Callable[..., str]:
    """Addresses of this queue, narrowed otherwise: `narrowed(platform="x")`, `narrowed(q="")`."""

    def address(**changed: str) -> str:
        said = {name: value for name, value in {**wanted.chosen(), **changed}.items() if value and value != "all"}
        return f"/review?{urlencode(said)}" if said else "/review"

    return address


def linked(evidence: str) -> str | None:
    """The first web address in what somebody typed."""
    found = re.search(r"https?://\S+", evidence)
    return found.group().rstrip(".,;)") if found is not None else None
