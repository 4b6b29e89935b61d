"""Handing one command or question to the desk, and telling the answer: what most verbs about tenants do."""

from __future__ import annotations

from collections.abc import Callable

from chimera.cli import output
from chimera.cli.folding import open_desk
from chimera.cli.wait import invisible
from chimera.commands import verbs
from chimera.commands.decision import Refused
from chimera.settings import Settings


def ask(verb: verbs.Read, as_json: bool) -> verbs.Reply:
    """A question's reply; where it is refused (no such tenant), that is said and the exit code is that of a refusal."""
    try:
        with open_desk(Settings()) as desk:
            return desk.ask(verb)  # type: ignore[arg-type]  # every question that is asked here is a verb
    except Refused as refusal:
        raise output.refused(refusal, as_json) from None


def give(wish: verbs.Wish, what: str, as_json: bool) -> None:
    """Ask, print, and leave with the outcome's exit code; `what` is the verb in words, e.g. `budget set`."""
    try:
        with open_desk(Settings()) as desk:
            answers = verbs.answers_of(desk.ask(wish))  # type: ignore[arg-type]  # every wish that is given here is a verb
    except Refused as refusal:
        raise output.refused(refusal, as_json) from None
    output.finish(answers, as_json, what)


def begin(
    wish: verbs.PostTakedown | verbs.PostBoost | verbs.WalletTransfer,
    what: str,
    settings: Settings,
    *,
    wait: str | None,
    as_json: bool,
    dry: Callable[[verbs.Reply], None],
) -> None:
    """Give a wish that begins a campaign of its own, and leave as `give` does: it is begun then, what comes of it is the log's
    to say. `dry` tells what a dry run would do.
    """
    try:
        with open_desk(settings) as desk:
            reply = desk.ask(wish)
    except Refused as refusal:
        raise output.refused(refusal, as_json) from None
    if wish.dry_run:
        dry(reply)
        return
    answers = verbs.answers_of(reply)
    unseen = invisible((answer for _, answer in answers), settings) if wait else None
    output.finish(answers, as_json, f"{what} {reply['campaign_id']}", unseen)
