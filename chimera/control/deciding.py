"""What people decide at the desk: one card, several like ones at once, the end of a call that nobody knows.

The rule not to break: a decision carries the digest of exactly the card that this login was shown; the command service refuses
one that names anything else. Money is decided after a password, one card at a time.
"""

from __future__ import annotations

from typing import Any

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response

from chimera.commands import verbs
from chimera.commands.decision import Answer, Refused
from chimera.commands.differences import word_diff
from chimera.commands.verbs import REASON_CODES, Reply
from chimera.control import web
from chimera.control.access import action_for, authorize
from chimera.control.accounts import Login, TooManyTries
from chimera.control.review import MOST_TOGETHER, Flash, Review, linked, together

DONE = {
    "approve": "approved",
    "edit": "edited",
    "reject": "rejected",
    "hold": "held",
    "release": "released",
    "withdraw": "undone",
    "resolve": "settled",
}
"""Decision -> what was done, as people say it."""
STAYS = ("edit", "hold", "release")
"""After these the same card stays open."""


class Deciding:
    """Handlers that change something; what they answer with is the desk."""

    def __init__(self, review: Review) -> None:
        self._review, self._asking, self._accounts = review, review.asking, review.accounts

    async def decide(self, request: Request) -> Response:
        """One decision. Answers with the next card, or with this one and why it was refused, what was typed kept."""
        login = web.login_of(request, self._accounts)
        form = await request.form()
        web.demand_token(login, request, form)
        at, what = request.path_params["card"], str(form.get("decision", ""))
        if what not in DONE:
            raise Refused(f"'{what}' is no decision: use {', '.join(DONE)}")
        try:
            seen = await self._asking.ask(verbs.CardShow(card=at, deciding="withdrawn" if what == "withdraw" else ""))
        except Refused as refusal:
            return await self._lost(request, login, at, refusal, form)
        if seen["closed_as"]:
            flash = Flash("done", at, f"{at} is {seen['closed_as']} already")
            return await self._review.shown(request, login, card=_open(form), flash=flash)
        tenant, action = seen["card"]["tenant"], action_for(seen["card"]["effect_class"])
        begun = None
        if (
            action == "decide_money"
            and not login.principal.fresh
            and authorize(login.principal._replace(fresh=True), action, tenant)
        ):
            begun, trouble = self._shown_again(login, form)
            if begun is None:
                return await self._review.shown(
                    request, login, card=at, flash=Flash("refused", at, trouble), typed=_typed(form), status=401
                )
            login = self._accounts.known(begun) or login
        web.demand(login.principal, action, tenant)
        answer = await self._decided(request, login, at, what, form, seen)
        if begun is not None:
            self._accounts.sign_out(request.cookies[web.COOKIE])
            answer.set_cookie(web.COOKIE, begun, path="/", secure=True, httponly=True, samesite="lax")
        return answer

    async def batch(self, request: Request) -> Response:
        """One decision on several cards that are alike and low in risk, each of which this login has opened; one verb for each."""
        login = web.login_of(request, self._accounts)
        form = await request.form()
        web.demand_token(login, request, form)
        cards = list(dict.fromkeys(str(card) for card in form.getlist("card")))
        what, code = str(form.get("decision", "")), str(form.get("reason_code", ""))
        try:
            if what not in ("approve", "reject") or (what == "reject" and code not in REASON_CODES):
                raise Refused("approve them, or reject them with a reason")
            sights = await self._alike(login, cards)
        except Refused as refusal:
            return await self._review.shown(
                request, login, card=_open(form), flash=Flash("refused", "", f"nothing was decided: {refusal}"), status=409
            )
        each = []
        for at in cards:
            try:
                reply = await self._asking.ask(self._verb(what, login, at, sights[at], form))
                (_, answer), *_ = verbs.answers_of(reply)
                told = DONE[what] if answer.outcome == "applied" else f"{answer.outcome}: {answer.reason}"
                each.append((at, "done" if answer.outcome == "applied" else "refused", told))
            except Refused as refusal:
                each.append((at, "refused", await self._review.decided(login, at) or str(refusal)))
        done = [at for at, kind, _ in each if kind == "done"]
        words = f"{len(done)} of {len(cards)} cards {DONE[what]} by {login.principal.name}"
        flash = Flash("done" if len(done) == len(cards) else "refused", "", words, each=each)
        return await self._review.shown(request, login, card=None, flash=flash, without=done)

    async def reread(self, request: Request) -> Response:
        """What an edit changes, word by word, and what the judge's rules say of the new words."""
        login = web.login_of(request, self._accounts)
        form = await request.form()
        web.demand_token(login, request, form)
        at, new = request.path_params["card"], str(form.get("text", ""))
        seen = await self._asking.ask(verbs.CardShow(card=at))
        web.demand(login.principal, "decide", seen["card"]["tenant"])
        found = await self._asking.ask(verbs.CardReread(card=at, text=new)) if new.strip() else {"failed": ["no words are left"]}
        return self._review.page(
            "_reread.html", login, pieces=word_diff(seen["card"]["text"], new), found={"asked": [], "tags": [], **found}
        )

    async def _decided(self, request: Request, login: Login, at: str, what: str, form: FormData, seen: Reply) -> Response:
        shown = verbs.Shown(
            shown_hash=str(form.get("shown_hash", "")),
            effect_hash=str(form.get("effect_hash", "")),
            edit=int(edit) if (edit := str(form.get("edit", ""))).isdecimal() else 0,
        )
        try:
            reply = await self._asking.ask(self._verb(what, login, at, shown, form))
        except Refused as refusal:
            return await self._lost(request, login, at, refusal, form)
        (_, answer), *_ = verbs.answers_of(reply)
        stays = what in STAYS or answer.outcome != "applied"
        opened = at if stays else _open(form) if what == "withdraw" else None
        flash = _flash(what, at, answer, login, seen)
        return await self._review.shown(
            request,
            login,
            card=opened,
            flash=flash,
            without=() if stays else (at,),
            typed=_typed(form) if flash.kind == "refused" else None,
        )

    async def _lost(self, request: Request, login: Login, at: str, refusal: Refused, form: FormData) -> Response:
        """Somebody was quicker, or it may not be: told with who and when, and what was typed stays."""
        who = await self._review.decided(login, at)
        words = f"{refusal}{f' · {who}' if who else ''}"
        return await self._review.shown(request, login, card=at, flash=Flash("refused", at, words), typed=_typed(form), status=409)

    async def _alike(self, login: Login, cards: list[str]) -> dict[str, verbs.Shown]:
        """What this login saw of each. Raises `Refused` where they may not be decided at once, saying which one why."""
        if not 0 < len(cards) <= MOST_TOGETHER:
            raise Refused(f"choose between one and {MOST_TOGETHER} cards")
        sights = self._review.sights.of(login, cards)
        kinds: dict[str, str] = {}
        for at in cards:
            if at not in sights:
                raise Refused(f"{at} was not opened in this login: look at each one first")
            seen, trouble = await self._review.card(login, at)
            if seen is None:
                raise Refused(trouble)
            card = seen["card"]
            web.demand(login.principal, action_for(card["effect_class"]), card["tenant"])
            kind = together(card | {"risk_tags": card["tags"]})
            if not kind:
                raise Refused(f"{at} is decided by itself: it is sensitive, tagged, or costs or moves money")
            kinds.setdefault(kind, at)
        if len(kinds) > 1:
            raise Refused(f"they are not alike: {' and '.join(f'{at} ({kind})' for kind, at in kinds.items())}")
        return sights

    def _shown_again(self, login: Login, form: FormData) -> tuple[str | None, str]:
        """A fresh login by the password in the form, else why there is none."""
        password = str(form.get("password", ""))
        if not password:
            return None, "money is decided within five minutes of showing your password: type it beside the button"
        try:
            begun = self._accounts.sign_in(login.principal.name, password)
        except TooManyTries as error:
            return None, str(error)
        return begun, "" if begun else "that is not your password: nothing was decided"

    def _verb(self, what: str, login: Login, at: str, shown: verbs.Shown, form: FormData) -> verbs.Verb:
        who, comment = login.principal.name, str(form.get("comment", ""))
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
        if what == "resolve":
            return _settled(who, at, form)
        return verbs.wish(verbs.Withdraw, who, card=at, reason=comment or "undone at the desk")


def _settled(who: str, at: str, form: FormData) -> verbs.Verb:
    """How a lost call ended, as somebody found on the platform. Raises `Refused` without evidence."""
    outcome, proof = str(form.get("outcome", "")), str(form.get("evidence", "")).strip()
    if outcome not in ("executed", "refused", "not_executed"):
        raise Refused("say what you found: it is there, the platform refused it, or it is not there")
    if not proof:
        raise Refused("say what you saw and where (a link, if there is one): it is kept as proof")
    platform_id = str(form.get("platform_id", "")).strip() or None
    if outcome == "executed" and platform_id is None:
        raise Refused("what is there has an id on the platform: copy it from its address")
    url = linked(proof) if outcome == "executed" else None
    return verbs.wish(verbs.Resolve, who, card=at, outcome=outcome, proof=proof, platform_id=platform_id, url=url)


def _open(form: FormData) -> str | None:
    """The card that was open beside what was pressed."""
    return str(form.get("open", "")) or None


def _typed(form: FormData) -> dict[str, Any]:
    """What is put back into the form; never the password."""
    return {name: value for name, value in form.items() if name not in ("password", "csrf")}


def _flash(what: str, at: str, answer: Answer, login: Login, seen: Reply) -> Flash:
    if answer.outcome != "applied":
        return Flash("refused", at, f"{at}: {answer.outcome}: {answer.reason}")
    words = f"{at} {DONE[what]} by {login.principal.name}"
    if what != "approve":
        return Flash("done", at, words)
    votes = set(seen["card"]["approvals"]) | {login.principal.name}
    missing = seen["card"]["approvals_needed"] - len(votes)
    if missing > 0:
        return Flash("done", at, f"{words}; it waits for {missing} more")
    return Flash("done", at, words, undo_ms=int(seen["undo_ms"]))
