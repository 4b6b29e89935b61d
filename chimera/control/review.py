"""The review desk: the queue at one side, one card at the other, and what people decide.

The rule not to break: a decision carries the digest of exactly the card that this browser was shown; the command service refuses
one that names anything else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import urlencode

from psycopg import AsyncConnection
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response

from chimera.commands import verbs
from chimera.commands.cards import words_in
from chimera.commands.client import CommandFailed, NoService
from chimera.commands.decision import Answer, Refused
from chimera.commands.differences import word_diff
from chimera.commands.telling import WHY, exact_call
from chimera.commands.telling import shadow as told_of_shadow
from chimera.commands.verbs import REASON_CODES, Reply
from chimera.control import queue, web
from chimera.control.access import action_for, authorize, tenants_of
from chimera.control.accounts import Accounts, Login
from chimera.control.asking import Asking

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
DECISIONS = ("approve", "edit", "reject", "hold", "release", "withdraw")


class Review:
    """Handlers of the desk."""

    def __init__(self, page: Page, reading: Reading, asking: Asking, accounts: Accounts) -> None:
        self._page, self._reading, self._asking, self._accounts = page, reading, asking, accounts

    async def desk(self, request: Request) -> Response:
        """The queue and one card: that of `?card=`, else the first. An htmx request gets the part that it names."""
        login = web.login_of(request, self._accounts)
        return await self._shown(request, login, card=request.query_params.get("card"))

    async def decide(self, request: Request) -> Response:
        """One decision. Answers with the next card, or with this one and why it was refused, what was typed kept."""
        login = web.login_of(request, self._accounts)
        form = await request.form()
        web.demand_token(login, request, form)
        at, what = request.path_params["card"], str(form.get("decision", ""))
        if what not in DECISIONS:
            raise Refused(f"'{what}' is no decision: use {', '.join(DECISIONS)}")
        seen = await self._asking.ask(verbs.CardShow(card=at, deciding="withdrawn" if what == "withdraw" else ""))
        if seen["closed_as"]:
            flash = {"kind": "done", "card": at, "words": f"{at} is {seen['closed_as']} already"}
            return await self._shown(request, login, card=None, flash=flash)
        web.demand(login.principal, action_for(seen["card"]["effect_class"]), seen["card"]["tenant"])
        try:
            reply = await self._asking.ask(self._verb(what, login, at, form))
        except Refused as refusal:
            flash = {"kind": "refused", "card": at, "words": str(refusal)}
            return await self._shown(request, login, card=at, flash=flash, typed=form, status=409)
        (_, answer), *_ = verbs.answers_of(reply)
        flash = _flash(what, at, answer, login)
        stays = what in ("edit", "hold", "release") or answer.outcome != "applied"
        return await self._shown(request, login, card=at if stays else None, flash=flash, without=() if stays else (at,))

    async def reread(self, request: Request) -> Response:
        """What an edit changes, word by word, and what the judge's rules say of the new words."""
        login = web.login_of(request, self._accounts)
        form = await request.form()
        web.demand_token(login, request, form)
        at, new = request.path_params["card"], str(form.get("text", ""))
        seen = await self._asking.ask(verbs.CardShow(card=at))
        web.demand(login.principal, "decide", seen["card"]["tenant"])
        found = await self._asking.ask(verbs.CardReread(card=at, text=new)) if new.strip() else {"failed": ["no words are left"]}
        return self._page(
            "_reread.html", login, pieces=word_diff(seen["card"]["text"], new), found={"asked": [], "tags": [], **found}
        )

    def _verb(self, what: str, login: Login, at: str, form: FormData) -> verbs.Verb:
        who, comment = login.principal.name, str(form.get("comment", ""))
        shown = verbs.Shown(
            shown_hash=str(form.get("shown_hash", "")),
            effect_hash=str(form.get("effect_hash", "")),
            edit=int(edit) if (edit := str(form.get("edit", ""))).isdecimal() else 0,
        )
        if what == "approve":
            return verbs.wish(verbs.Approve, who, card=at, shown=shown, comment=comment)
        if what == "reject":
            code = str(form.get("reason_code", ""))
            if code not in REASON_CODES:
                raise Refused("choose why it is rejected: the reason teaches later attempts")
            return verbs.wish(verbs.Reject, who, card=at, shown=shown, reason_code=code, comment=comment)
        if what == "edit":
            return verbs.wish(verbs.Edit, who, card=at, shown=shown, text=str(form.get("text", "")), comment=comment)
        if what == "hold":
            return verbs.wish(verbs.Hold, who, card=at, reason=comment or "looks into it")
        if what == "release":
            return verbs.wish(verbs.Release, who, card=at, reason=comment)
        return verbs.wish(verbs.Withdraw, who, card=at, reason=comment or "undone at the desk")

    async def _shown(
        self,
        request: Request,
        login: Login,
        *,
        card: str | None,
        flash: Mapping[str, Any] | None = None,
        typed: Mapping[str, Any] | FormData | None = None,
        without: Sequence[str] = (),
        status: int = 200,
    ) -> Response:
        held = await self._held()
        wanted = queue.read_wanted(request.query_params, tenants_of(login.principal))._replace(without=without, held=tuple(held))
        async with self._reading() as connection:
            waiting = await queue.queue(connection, wanted)
        listed = {
            "waiting": waiting,
            "wanted": wanted,
            "held": held,
            "query": urlencode(wanted.chosen()),
            "narrowed": _narrowed(wanted),
        }
        htmx = "hx-request" in request.headers
        if htmx and request.headers.get("hx-target") == "queue":
            return self._page("_queue.html", login, **listed, open_card=card)
        seen, trouble = await self._card(login, card or (waiting.cards[0]["card"] if waiting.cards else None))
        at = seen["card"]["card"] if seen is not None else None
        following = next((row["card"] for row in waiting.cards if row["card"] != at), None)
        return self._page(
            "_desk.html" if htmx else "review.html",
            login,
            status,
            **listed,
            open_card=at,
            following=following,
            seen=seen,
            trouble=trouble,
            flash=flash,
            typed=dict(typed or {}),
            **_about(seen, login),
        )

    async def _held(self) -> Mapping[str, Any]:
        """Cards that somebody holds, by whom; nobody can say while the command service is away."""
        try:
            held: Mapping[str, Any] = (await self._asking.ask(verbs.CardHolds()))["held"]
        except (NoService, CommandFailed) as error:
            log.warning("who holds which card is not known: %s", error)
            return {}
        return held

    async def _card(self, login: Login, at: str | None) -> tuple[Reply | None, str]:
        """The card, and why there is none to show."""
        if at is None:
            return None, ""
        try:
            seen = await self._asking.ask(verbs.CardShow(card=at))
        except Refused as refusal:
            return None, str(refusal)
        except (NoService, CommandFailed) as error:
            return (
                None,
                f"{error}. The list is from the read models; cards open again when the command service is back (chimera status)",
            )
        # A card of a tenant that this person may not see is no different from none at all.
        return (seen, "") if authorize(login.principal, "read", seen["card"]["tenant"]) else (None, f"card {at}: there is none")


def _narrowed(wanted: queue.Wanted) -> Callable[..., str]:
    """Addresses of this queue, narrowed otherwise: `narrowed(platform="x")`, `narrowed(q="")`."""

    def address(**changed: str) -> str:
        said = {name: value for name, value in {**wanted.chosen(), **changed}.items() if value and value != "all"}
        return f"/review?{urlencode(said)}" if said else "/review"

    return address


def _about(seen: Reply | None, login: Login) -> dict[str, Any]:
    """What a template needs beside the card itself."""
    if seen is None:
        return {}
    card = seen["card"]
    action = action_for(card["effect_class"])
    return {
        "why": WHY.get(card["why"], card["why"]),
        "call": exact_call(card),
        "editable": words_in(card["arguments"]) is not None,
        "reasons": REASON_WORDS,
        "shadow": told_of_shadow(seen["shadow"]),
        "may_decide": authorize(login.principal, action, card["tenant"]),
        "needs_password": action == "decide_money" and not login.principal.fresh,
        "is_approver": login.principal.name in card["approvers"],
    }


def _flash(what: str, at: str, answer: Answer, login: Login) -> dict[str, Any]:
    done = {
        "approve": "approved",
        "edit": "edited",
        "reject": "rejected",
        "hold": "held",
        "release": "released",
        "withdraw": "undone",
    }
    if answer.outcome != "applied":
        return {"kind": "refused", "card": at, "words": f"{at}: {answer.outcome}: {answer.reason}"}
    return {"kind": "done", "card": at, "words": f"{at} {done[what]} by {login.principal.name}", "undo": what == "approve"}
