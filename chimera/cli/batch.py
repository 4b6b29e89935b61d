"""`chimera review --batch FILE`: many decisions of one person, each answered for itself.

The rule not to break: every card is shown before any is decided, what is decided is what was shown, and a line that does not count
stops no other. What moves money, is sensitive or is made from outside text is approved only by the effect's hash: by somebody who
looked at that very card.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from chimera.cli import output
from chimera.cli.cards import short
from chimera.cli.folding import open_desk
from chimera.commands import verbs
from chimera.commands.cards import parse_card
from chimera.commands.decision import Answer, Refused
from chimera.commands.differences import in_words, word_diff
from chimera.commands.sheet import SHORTEST_EFFECT, Line, Row, read_sheet
from chimera.commands.telling import WHY
from chimera.commands.verbs import Reply
from chimera.commands.wiring import OpenDesk
from chimera.errors import ChimeraError
from chimera.settings import Settings

_CLOSES = {"reject": "rejected", "withdraw": "withdrawn"}
_LOOK_FIRST = ("sensitive", "taint", "new_payee", "amount", "cfo", "financial", "paid")
"""Reasons to ask people for which a line must name the effect that somebody looked at."""


class Looked(NamedTuple):
    """A line with what was seen of its card, or with its answer where there is nothing to decide."""

    row: Row
    seen: Reply | None
    answer: Answer | None
    note: str = ""


def decide(path: Path, actor: str | None, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Read, show, decide; ends with 3 where a line did not count, 1 where the desk failed half-way."""
    settings = Settings()
    who = actor or settings.actor
    rows = read_sheet(path)
    answers: list[tuple[Looked, Answer]] = []
    failed: ChimeraError | None = None
    with open_desk(settings) as desk:
        looked = [_look(desk, row) for row in rows if row.line is None or row.line.decision]
        if not as_json:
            _show(looked)
        output.sure(f"decide {sum(each.answer is None for each in looked)} cards as {who}?", yes or dry_run, as_json)
        for each in looked:
            if failed is not None:
                answers.append((each, _no("not tried: the line before it failed")))
                continue
            try:
                answers.append((each, each.answer or _hand_in(desk, each, who, dry_run)))
            except Refused as refusal:
                answers.append((each, _no(str(refusal))))
            except ChimeraError as error:
                failed = error
                answers.append((each, _no(f"failed: {error}")))
    _tell(answers, sum(row.line is not None and not row.line.decision for row in rows), as_json)
    if failed is not None:
        raise failed
    output.leave([answer.outcome for _, answer in answers])


def _look(desk: OpenDesk, row: Row) -> Looked:
    """The card as it is now, or why nothing can be decided on it."""
    line = row.line
    if line is None:
        return Looked(row, None, _no(row.problem))
    try:
        seen = desk.ask(verbs.CardShow(card=line.card, deciding=_CLOSES.get(line.decision, "")))
        if seen["closed_as"]:
            return Looked(row, None, verbs.nothing_to_do(seen["stream"], seen["state_version"]))
        _held_to(line, seen)
        note = ""
        if line.decision == "edit" and line.text != seen["card"]["text"]:
            note = _advice(desk, line)
        return Looked(row, seen, None, note)
    except Refused as refusal:
        return Looked(row, None, _no(str(refusal)))
    except ChimeraError as error:
        if _known(desk, line):
            raise
        return Looked(row, None, _no(str(error)))


def _advice(desk: OpenDesk, line: Line) -> str:
    """What the rules say of an edit's words. Where they cannot be asked, that is said; the judges are asked anyway."""
    try:
        read = desk.ask(verbs.CardReread(card=line.card, text=line.text))
    except Refused as refusal:
        return str(refusal)
    return "; ".join([*read["failed"], *read["asked"]])


def _known(desk: OpenDesk, line: Line) -> bool:
    """Does the card's agent exist? Where it does not, that is the line's fault alone."""
    named = parse_card(line.card).agent
    return any(named in (agent["name"], agent["stream"]) for agent in desk.ask(verbs.AgentList())["agents"])


def _held_to(line: Line, seen: Reply) -> None:
    card = seen["card"]
    if line.effect and not seen["effect_hash"].startswith(line.effect):
        raise Refused(f"card {line.card}: its effect is {seen['effect_hash'][:12]} by now, not {line.effect}: look at it again")
    why = card["why"] if card["why"] in _LOOK_FIRST else card["effect_class"] if card["effect_class"] != "publish" else ""
    if line.decision == "approve" and why and not line.effect:
        raise Refused(
            f"card {line.card}: {WHY.get(why, why)}, so look at it first and name its effect in the line "
            f"(effect: {SHORTEST_EFFECT} signs or more of the hash that `chimera review show {line.card}` prints)"
        )


def _hand_in(desk: OpenDesk, looked: Looked, who: str, dry_run: bool) -> Answer:
    line, seen = looked.row.line, looked.seen
    assert line is not None  # a line that could not be read, or has no card, has its answer already
    assert seen is not None
    shown = verbs.Shown(shown_hash=seen["shown_hash"], effect_hash=seen["effect_hash"], edit=seen["edit"])
    # The attempt is the one that was seen: a card made anew meanwhile is another one.
    card = seen["card"]["card"]
    wish: verbs.Verb
    if line.decision == "approve":
        wish = verbs.wish(verbs.Approve, who, card=card, shown=shown, comment=line.comment, dry_run=dry_run)
    elif line.decision == "reject":
        wish = verbs.wish(verbs.Reject, who, card=card, shown=shown, reason_code=line.reason, comment=line.comment, dry_run=dry_run)
    elif line.decision == "edit":
        wish = verbs.wish(verbs.Edit, who, card=card, shown=shown, text=line.text, comment=line.comment, dry_run=dry_run)
    else:
        wish = verbs.wish(verbs.Withdraw, who, card=card, reason=line.reason or line.comment, dry_run=dry_run)
    ((_, answer),) = verbs.answers_of(desk.ask(wish))
    return answer


def _no(reason: str) -> Answer:
    return Answer("", "", "refused", reason, 0)


# --- what people read ------------------------------------------------------------------------------------------------


def _show(looked: Sequence[Looked]) -> None:
    """Every card that is about to be decided, with all of its words."""
    cells = []
    for each in looked:
        if each.seen is None or each.row.line is None:
            continue
        card, line = each.seen["card"], each.row.line
        words = in_words(word_diff(card["text"], line.text)) if line.decision == "edit" else card["text"]
        why = WHY.get(card["why"], card["why"])
        cells.append((card["card"], line.decision, why, f"{card['platform']}/@{card['account']}", words, each.note or "-"))
    if cells:
        columns = ("card", "decision", "why people", "account", "text", "the rules on the new words")
        output.console(stderr=True).print(output.table("to be decided", columns, cells))


def _tell(answers: Sequence[tuple[Looked, Answer]], passed_over: int, as_json: bool) -> None:
    if as_json:
        rows = [
            output.answer_json(
                answer,
                line=looked.row.place,
                card=looked.row.card,
                decision=looked.row.line.decision if looked.row.line is not None else "",
                note=looked.note,
            )
            for looked, answer in answers
        ]
        output.print_json({"command": "review batch", "answers": rows, "undecided": passed_over})
        return
    out = output.console()
    cells = [
        (
            looked.row.card,
            looked.row.line.decision if looked.row.line is not None else "-",
            output.outcome(answer.outcome),
            short(answer.reason, 400) or "-",
            looked.row.place,
        )
        for looked, answer in answers
    ]
    out.print(output.table("review batch", ("card", "decision", "outcome", "reason", "line"), cells))
    out.print(output.summary([(looked.row.card, answer) for looked, answer in answers]))
    if passed_over:
        out.print(f"{passed_over} lines without a decision were passed over")
