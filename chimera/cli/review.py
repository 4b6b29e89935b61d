"""`chimera review`: cards that wait for people: list, show, approve, edit, reject, withdraw, resolve.

The rule not to break: whoever decides is shown the card by the same command, and the record carries the digest of just that.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from chimera.cli import output
from chimera.cli.folding import open_desk
from chimera.cli.options import (
    ActorOption,
    CardArgument,
    CommentOption,
    EffectOption,
    JsonOption,
    ReasonOption,
    WaitOption,
    YesOption,
)
from chimera.cli.wait import invisible
from chimera.commands import verbs
from chimera.commands.decision import Refused
from chimera.commands.verbs import Reply
from chimera.settings import Settings

app = typer.Typer(help="Cards that wait for people: list, show, approve, edit, reject, withdraw, resolve.", no_args_is_help=True)


WHY = {
    "confidence": "confidence between the thresholds",
    "sensitive": "a sensitive topic",
    "taint": "made from outside text",
    "audit_sample": "drawn for audit",
    "shadow": "agent runs in shadow mode",
    "bad_value": "the judge's score was unusable",
    "judge": "the judge asks for people",
    "cfo": "the CFO judge asks for people",
    "amount": "an amount that policy shows to people",
    "financial": "moves money",
    "paid": "costs money",
}


@app.command("list")
def list_(
    everything: Annotated[bool, typer.Option("--all", help="Also effects that are approved, under way or unknown.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Cards that wait for people, the longest waiting first, each with the command that decides it."""
    statuses = ("people",) if not everything else ("people", "approved", "claimed", "submitted", "unknown", "proposed")
    with open_desk(Settings()) as desk:
        rows = desk.ask(verbs.CardList(statuses=statuses))["cards"]
    if as_json:
        output.print_json({"cards": [seen["card"] | {"shown_hash": seen["shown_hash"]} for seen in rows]})
        return
    now = int(time.time() * 1000)
    columns = ("card", "waits", "status", "why", "account", "text", "approvers")
    shown = [seen["card"] for seen in rows]
    cells = [
        (
            card["card"],
            output.ago(card["waiting_since_ts"], now) if card["waiting_since_ts"] else "-",
            card["status"],
            WHY.get(card["why"], card["why"]) if card["status"] == "people" else seen["waits_because"] or "-",
            f"{card['platform']}/@{card['account']}",
            _short(card["text"]),
            " ".join(card["approvers"]) or "-",
        )
        for card, seen in zip(shown, rows, strict=True)
    ]
    out = output.console()
    out.print(output.table(f"{len(rows)} cards", columns, cells))
    waiting = [card for card in shown if card["status"] == "people"]
    if waiting:
        who = (waiting[0]["approvers"] or ["NAME"])[0]
        out.print(Text(f"decide: chimera review approve {waiting[0]['card']} --as {who}   (or edit, reject)", style="dim"))


@app.command()
def show(card: CardArgument, as_json: JsonOption = False) -> None:
    """Everything that a decision should rest on, and the exact bytes that would leave."""
    with open_desk(Settings()) as desk:
        try:
            seen = desk.ask(verbs.CardShow(card=card))
        except Refused as refusal:
            raise output.refused(refusal, as_json) from None
    if as_json:
        output.print_json(seen["card"] | {"shown_hash": seen["shown_hash"]})
    else:
        _print_card(seen, output.console())


@app.command()
def approve(
    card: CardArgument,
    effect: EffectOption = None,
    comment: CommentOption = "",
    yes: YesOption = False,
    actor: ActorOption = None,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Vote for exactly what is shown."""

    def wish(who: str, seen: Reply) -> verbs.Wish:
        _confirm(seen, f"approve as {who}?", yes, as_json)
        return verbs.wish(verbs.Approve, who, card=card, shown=_shown(seen), comment=comment)

    _decide(card, "review approve", wish, effect, actor, wait, as_json)


@app.command()
def reject(
    card: CardArgument,
    reason: Annotated[str, typer.Option("--reason", help=f"One of: {', '.join(verbs.REASON_CODES)}.")],
    effect: EffectOption = None,
    comment: CommentOption = "",
    yes: YesOption = False,
    actor: ActorOption = None,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Close the card and its task; the reason feeds later tasks."""
    if reason not in verbs.REASON_CODES:
        raise output.usage(f"--reason {reason}: use one of {', '.join(verbs.REASON_CODES)}")

    def wish(who: str, seen: Reply) -> verbs.Wish:
        _confirm(seen, f"reject as {who} ({reason})?", yes, as_json)
        return verbs.wish(verbs.Reject, who, card=card, shown=_shown(seen), reason_code=reason, comment=comment)

    _decide(card, "review reject", wish, effect, actor, wait, as_json, already="rejected")


@app.command()
def edit(
    card: CardArgument,
    text: Annotated[str | None, typer.Option("--text", help="The new text; without it $EDITOR opens with the old one.")] = None,
    effect: EffectOption = None,
    comment: CommentOption = "",
    actor: ActorOption = None,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replace the words. The new ones carry your vote, and the judges are asked again."""

    def wish(who: str, seen: Reply) -> verbs.Wish:
        new = text if text is not None else _from_editor(str(seen["card"]["text"]))
        return verbs.wish(verbs.Edit, who, card=card, shown=_shown(seen), text=new, comment=comment)

    _decide(card, "review edit", wish, effect, actor, wait, as_json)


@app.command()
def withdraw(
    card: CardArgument,
    reason: ReasonOption = "",
    yes: YesOption = False,
    actor: ActorOption = None,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Undo an approval before anybody has claimed it; the task closes."""

    def wish(who: str, seen: Reply) -> verbs.Wish:
        _confirm(seen, f"withdraw as {who}?", yes, as_json)
        return verbs.wish(verbs.Withdraw, who, card=card, reason=reason)

    _decide(card, "review withdraw", wish, None, actor, wait, as_json, already="withdrawn")


@app.command()
def resolve(
    card: CardArgument,
    outcome: Annotated[str, typer.Option("--outcome", help="executed, refused or not_executed: how the call ended.")],
    proof: Annotated[str, typer.Option("--proof", help="What you found, and where; kept in the record.")],
    platform_id: Annotated[str | None, typer.Option("--platform-id", help="Its id on the platform, where it was executed.")] = None,
    url: Annotated[str | None, typer.Option("--url", help="Its address there.")] = None,
    actor: ActorOption = None,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say, with proof, how a call ended whose end nobody knows."""
    if outcome not in ("executed", "refused", "not_executed"):
        raise output.usage(f"--outcome {outcome}: use executed, refused or not_executed")

    def wish(who: str, _: Reply) -> verbs.Wish:
        return verbs.wish(verbs.Resolve, who, card=card, outcome=outcome, proof=proof, platform_id=platform_id, url=url)

    _decide(card, "review resolve", wish, None, actor, wait, as_json)


# --- parts -----------------------------------------------------------------------------------------------------------


def _decide(
    card: str,
    what: str,
    wish: Callable[[str, Reply], verbs.Wish],
    effect: str | None,
    actor: str | None,
    wait: str | None,
    as_json: bool,
    already: str = "",
) -> None:
    """Look at the card, let the person decide on what they saw (`wish`), and hand that in."""
    settings = Settings()
    who = actor or settings.actor
    with open_desk(settings) as desk:
        try:
            seen = desk.ask(verbs.CardShow(card=card, deciding=already))
            if seen["closed_as"]:
                output.finish([(seen["address"], verbs.nothing_to_do(seen["stream"], seen["state_version"]))], as_json, what)
                return
            if effect is not None and not seen["effect_hash"].startswith(effect):
                raise Refused(f"card {card}: its effect is {seen['effect_hash'][:12]} by now, not {effect}: look at it again")
            answers = verbs.answers_of(desk.ask(wish(who, seen)))  # type: ignore[arg-type]  # every wish is a verb
        except Refused as refusal:
            raise output.refused(refusal, as_json) from None
    unseen = invisible((answer for _, answer in answers), settings) if wait else None
    output.finish(answers, as_json, what, unseen)


def _shown(seen: Reply) -> verbs.Shown:
    return verbs.Shown(shown_hash=seen["shown_hash"], effect_hash=seen["effect_hash"], edit=seen["edit"])


def _confirm(seen: Reply, question: str, yes: bool, as_json: bool) -> None:
    """Show the card before it is decided; ask back where a person sits at a terminal."""
    out = output.console(stderr=True)
    if not as_json:
        _print_card(seen, out)
    if not yes and not as_json and sys.stdin.isatty():
        typer.confirm(question, abort=True, err=True)


def _from_editor(old: str) -> str:
    """What the person makes of `old` in $VISUAL or $EDITOR."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not editor:
        raise output.usage("no editor is set: give the new words by --text, or set EDITOR")
    with tempfile.TemporaryDirectory(prefix="chimera-edit-") as directory:
        path = Path(directory) / "text.txt"
        path.write_text(old + "\n", encoding="utf-8")
        try:
            ended = subprocess.run([*shlex.split(editor), str(path)], check=False)
        except OSError as error:
            raise output.usage(f"the editor '{editor}' cannot be started ({error}): set EDITOR, or give --text") from error
        if ended.returncode:
            raise output.usage(f"the editor '{editor}' ended with {ended.returncode}: nothing was changed")
        return path.read_text(encoding="utf-8").rstrip("\n")


def _print_card(seen: Reply, out: Console) -> None:
    card = seen["card"]
    words = Text(output.visible(str(card["text"])), overflow="fold")
    title = Text(f"{card['card']} · {card['platform']}/@{card['account']}")
    out.print(Panel(words, title=title, title_align="left"))
    rows: dict[str, object] = {
        "why people": WHY.get(card["why"], card["why"]),
        "status": card["status"] + (" (stale: it will be made anew)" if card["stale"] else ""),
        "campaign": card["campaign"],
        "tool": f"{card['tool']} ({card['mode']}), disclosure {card['disclosure']}",
        "thread": card["thread"] or "-",
        "tags": ", ".join(card["tags"]) or "-",
        "taint": card["taint"],
        "approvals": f"{len(card['approvals'])} of {card['approvals_needed']} ({', '.join(card['approvals']) or 'none yet'})",
        "approvers": ", ".join(card["approvers"]) or "-",
        "edited by": card["edited_by"] or "-",
        "waiting since": f"{output.when(card['waiting_since_ts'])} UTC",
        "effect hash": card["effect_hash"],
        "shown hash": seen["shown_hash"],
    }
    for verdict in card["verdicts"]:
        reasons = f": {'; '.join(verdict['reasons'])}" if verdict["reasons"] else ""
        rows[f"{verdict['judge']} judge"] = f"{verdict['decision']}, confidence {_number(verdict['confidence'])}{reasons}"
    for number, source in enumerate(card["sources"], start=1):
        rows[f"source {number}"] = _source(source)
    out.print(output.pairs("", rows))


def _source(source: dict[str, Any]) -> str:
    words = [str(source[field]) for field in ("title", "url", "quote") if source.get(field)]
    return " · ".join(words) or ", ".join(f"{name}: {value}" for name, value in source.items())


def _number(confidence: float | None) -> str:
    return "none" if confidence is None else f"{confidence:.3f}"


def _short(text: str, width: int = 90) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"
