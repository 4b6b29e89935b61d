"""`chimera review`: cards that wait for people: list, show, approve, edit, reject, hold, withdraw, resolve; many at once by file.

The rule not to break: whoever decides is shown the card by the same command, and the record carries the digest of just that.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from chimera.cli import output
from chimera.cli.cards import held, print_card, print_difference, print_findings, short
from chimera.cli.folding import open_desk
from chimera.cli.options import (
    ActorOption,
    CardArgument,
    CommentOption,
    DryRunOption,
    EffectOption,
    JsonOption,
    ReasonOption,
    WaitOption,
    YesOption,
)
from chimera.cli.wait import invisible
from chimera.commands import verbs
from chimera.commands.decision import Refused
from chimera.commands.telling import WHY
from chimera.commands.verbs import Reply
from chimera.settings import Settings

Ask = Callable[[verbs.Verb], Reply]
"""Hand a verb in."""

app = typer.Typer(
    help="Cards that wait for people: list, show, approve, edit, reject, hold, withdraw, resolve.", no_args_is_help=True
)


@app.callback(invoke_without_command=True)
def review(
    context: typer.Context,
    batch: Annotated[
        Path | None,
        typer.Option("--batch", metavar="FILE", help="Decide by a file: YAML, CSV or JSON lines of card, decision, reason ..."),
    ] = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cards that wait for people: list, show, approve, edit, reject, hold, withdraw, resolve; or all lines of a file by --batch."""
    if context.invoked_subcommand is not None:
        if batch is not None or dry_run or yes or actor is not None or as_json:
            raise output.usage(f"give these options after `{context.invoked_subcommand}`; --batch stands alone")
        return
    if batch is None:
        raise output.usage("give a verb (`chimera review --help`), or --batch FILE")
    from chimera.cli.batch import decide  # what reads files is not paid for by whoever decides one card

    decide(batch, actor, dry_run=dry_run, yes=yes, as_json=as_json)


@app.command("list")
def list_(
    everything: Annotated[bool, typer.Option("--all", help="Also effects that are approved, under way or unknown.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Cards that wait for people, first what nobody holds and of that what weighs most: risk x deadline x reach.

    Tells the age of the oldest.
    """
    statuses = ("people",) if not everything else ("people", "approved", "claimed", "submitted", "unknown", "proposed")
    with open_desk(Settings()) as desk:
        rows = desk.ask(verbs.CardList(statuses=statuses))["cards"]
    if as_json:
        output.print_json({"cards": [_as_json(seen) for seen in rows]})
        return
    now = int(time.time() * 1000)
    columns = ("card", "weight", "waits", *(("status",) if everything else ()), "why", "account", "text", "approvers")
    shown = [seen["card"] for seen in rows]
    cells = [
        (
            card["card"],
            f"{seen['score']:g}",
            output.ago(card["waiting_since_ts"], now) if card["waiting_since_ts"] else "-",
            *((card["status"],) if everything else ()),  # else all of them wait for people
            _why(seen),
            f"{card['platform']}/@{card['account']}",
            short(card["text"]),
            " ".join(card["approvers"]) or "-",
        )
        for card, seen in zip(shown, rows, strict=True)
    ]
    out = output.console()
    out.print(output.table(f"{len(rows)} cards", columns, cells))
    waiting = [card for card in shown if card["status"] == "people"]
    if waiting:  # those that nobody holds stand first
        oldest = min(card["waiting_since_ts"] for card in waiting)
        out.print(Text(f"the oldest waits for {output.ago(oldest, now)}"))
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
        output.print_json(_as_json(seen))
    else:
        print_card(seen, output.console())


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

    def wish(who: str, seen: Reply, _: Ask) -> verbs.Wish:
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

    def wish(who: str, seen: Reply, _: Ask) -> verbs.Wish:
        _confirm(seen, f"reject as {who} ({reason})?", yes, as_json)
        return verbs.wish(verbs.Reject, who, card=card, shown=_shown(seen), reason_code=reason, comment=comment)

    _decide(card, "review reject", wish, effect, actor, wait, as_json, already="rejected")


@app.command()
def edit(
    card: CardArgument,
    text: Annotated[str | None, typer.Option("--text", help="The new text; without it $EDITOR opens with the old one.")] = None,
    effect: EffectOption = None,
    comment: CommentOption = "",
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    actor: ActorOption = None,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replace the words: shows old and new and what the rules say. The new ones carry your vote; the judges are asked again."""

    def wish(who: str, seen: Reply, ask: Ask) -> verbs.Wish:
        old = str(seen["card"]["text"])
        new = text if text is not None else _from_editor(old)
        if not as_json and new != old and new.strip():
            out = output.console(stderr=True)
            print_difference(old, new, out)
            try:
                print_findings(ask(verbs.CardReread(card=card, text=new)), out)
            except Refused as refusal:  # advice that cannot be had stops nobody: the judges are asked in any case
                output.note(str(refusal))
            output.sure(f"edit as {who}?", yes or dry_run, as_json)
        return verbs.wish(verbs.Edit, who, card=card, shown=_shown(seen), text=new, comment=comment, dry_run=dry_run)

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

    def wish(who: str, seen: Reply, _: Ask) -> verbs.Wish:
        _confirm(seen, f"withdraw as {who}?", yes, as_json)
        return verbs.wish(verbs.Withdraw, who, card=card, reason=reason)

    _decide(card, "review withdraw", wish, None, actor, wait, as_json, already="withdrawn")


@app.command()
def hold(
    card: CardArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why, for those who see it in the queue.")],
    until: Annotated[
        str | None, typer.Option("--until", metavar="WHEN", help="How long: 30m, 4h, 2d, or a time as 2026-05-01T12:00Z.")
    ] = None,
    dry_run: DryRunOption = False,
    actor: ActorOption = None,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say that you look into a card: it moves behind what nobody holds. It can still be decided, and its expiry goes on.

    Example: chimera review hold ava/1.4.2 --reason 'legal looks at it' --until 4h
    """
    ends = 0 if until is None else _moment(until, int(time.time() * 1000))

    def wish(who: str, seen: Reply, _: Ask) -> verbs.Wish:
        closes = seen["expires_ts"]
        if not as_json and closes and (not ends or closes < ends):
            output.note(f"{seen['address']} closes by itself at {output.when(closes)} UTC all the same")
        return verbs.wish(verbs.Hold, who, card=card, reason=reason, until=ends, dry_run=dry_run)

    _decide(card, "review hold", wish, None, actor, wait, as_json)


@app.command()
def release(
    card: CardArgument,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    actor: ActorOption = None,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take the mark of `review hold` off a card, whoever put it there."""

    def wish(who: str, _: Reply, __: Ask) -> verbs.Wish:
        return verbs.wish(verbs.Release, who, card=card, reason=reason, dry_run=dry_run)

    _decide(card, "review release", wish, None, actor, wait, as_json)


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

    def wish(who: str, seen: Reply, _: Ask) -> verbs.Wish:
        return verbs.wish(verbs.Resolve, who, card=card, outcome=outcome, proof=proof, platform_id=platform_id, url=url)

    _decide(card, "review resolve", wish, None, actor, wait, as_json)


# --- parts -----------------------------------------------------------------------------------------------------------


def _decide(
    card: str,
    what: str,
    wish: Callable[[str, Reply, Ask], verbs.Wish],
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
            answers = verbs.answers_of(desk.ask(wish(who, seen, desk.ask)))  # type: ignore[arg-type]  # every wish is a verb
        except Refused as refusal:
            raise output.refused(refusal, as_json) from None
    unseen = invisible((answer for _, answer in answers), settings) if wait else None
    output.finish(answers, as_json, what, unseen)


def _why(seen: Reply) -> str:
    """Why the card is there: what people are asked for, or what it waits for; and who holds it."""
    card = seen["card"]
    if card["status"] != "people":
        return str(seen["waits_because"] or "-")
    why = WHY.get(card["why"], card["why"])
    return f"held {held(seen['held'])} · {why}" if seen["held"] else why


_SPAN_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}


def _moment(said: str, now_ms: int) -> int:
    """`30m`, `4h`, `2d` from now, or a time with its zone, as ms since the epoch."""
    span = re.fullmatch(r"(\d{1,6})([mhd])", said)
    if span is not None:
        return now_ms + int(span[1]) * _SPAN_MS[span[2]]
    try:
        moment = datetime.fromisoformat(said)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise output.usage(f"--until {said}: write 30m, 4h, 2d, or a time with its zone, as 2026-05-01T12:00Z")
    return int(moment.timestamp() * 1000)


def _as_json(seen: Reply) -> Reply:
    place = {name: seen[name] for name in ("score", "risk", "deadline", "reach", "expires_ts", "shadow", "held")}
    return {**seen["card"], **place, "shown_hash": seen["shown_hash"]}


def _shown(seen: Reply) -> verbs.Shown:
    return verbs.Shown(shown_hash=seen["shown_hash"], effect_hash=seen["effect_hash"], edit=seen["edit"])


def _confirm(seen: Reply, question: str, yes: bool, as_json: bool) -> None:
    """Show the card before it is decided; ask back where a person sits at a terminal."""
    out = output.console(stderr=True)
    if not as_json:
        print_card(seen, out)
    output.sure(question, yes, as_json)


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
