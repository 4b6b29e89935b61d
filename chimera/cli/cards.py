"""How cards are shown to people: the words, the exact call, what is known of it, and what an edit changes.

The rule not to break: all that would leave is on the screen, every sign of it; nothing that agents wrote is obeyed by a terminal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from chimera.cli import output
from chimera.commands.differences import word_diff
from chimera.commands.telling import WHY, exact_call, shadow
from chimera.commands.verbs import Reply


def print_card(seen: Reply, out: Console) -> None:
    """All that a decision should rest on: the words, the exact call they are part of, who asks and why, and what is known of it."""
    card = seen["card"]
    words = Text(output.visible(str(card["text"])), overflow="fold")
    title = Text(f"{card['card']} · {card['platform']}/@{card['account']}")
    out.print(Panel(words, title=title, title_align="left", expand=False))
    rows: dict[str, object] = {
        "why people": WHY.get(card["why"], card["why"]),
        "held": held(seen.get("held")),
        "status": card["status"] + (" (stale: it will be made anew)" if card["stale"] else ""),
        "campaign": card["campaign"],
        "disclosure": card["disclosure"],
        "cost": f"at most {card['max_cost_usd']} USD",
        "thread": card["thread"] or "-",
        "tags": ", ".join(card["tags"]) or "-",
        "taint": card["taint"],
        "agent": shadow(seen["shadow"]),
        "approvals": f"{len(card['approvals'])} of {card['approvals_needed']} ({', '.join(card['approvals']) or 'none yet'})",
        "approvers": ", ".join(card["approvers"]) or "-",
        "edited by": card["edited_by"] or "-",
        "waiting since": f"{output.when(card['waiting_since_ts'])} UTC",
        "closes by itself": f"{output.when(seen['expires_ts'])} UTC" if seen.get("expires_ts") else "-",
        "weight": f"{seen['score']:g} = risk {seen['risk']:g} x deadline {seen['deadline']:g} x reach {seen['reach']:g}",
        "policy": f"edition {card['policy_edition']}",
        "effect hash": card["effect_hash"],
        "shown hash": seen["shown_hash"],
    }
    for verdict in card["verdicts"]:
        reasons = f": {'; '.join(verdict['reasons'])}" if verdict["reasons"] else ""
        rows[f"{verdict['judge']} judge"] = f"{verdict['decision']}, confidence {_number(verdict['confidence'])}{reasons}"
    for number, source in enumerate(card["sources"], start=1):
        rows[f"source {number}"] = _source(source)
    out.print(output.pairs("", rows))
    out.print(Text("the call, as it would be sent:", style="bold"))
    out.print(
        Text(output.visible(exact_call(card))), soft_wrap=True
    )  # a line that is broken here would be broken where it is pasted


def held(mark: Mapping[str, Any] | None) -> str:
    """Who looks into the card, until when and why; `-` where nobody does."""
    if mark is None:
        return "-"
    until = f" until {output.when(mark['until_ts'])} UTC" if mark["until_ts"] else ""
    return f"by {mark['by']}{until}" + (f": {mark['reason']}" if mark["reason"] else "")


def print_difference(old: str, new: str, out: Console) -> None:
    """Both texts as one, word by word: what goes struck out, what comes underlined, and marked for screens without colours."""
    styles = {"same": "", "old": "red strike", "new": "green underline"}
    marks = {"same": "{}", "old": "[-{}-]", "new": "{{+{}+}}"}
    words = Text(overflow="fold")
    for piece in word_diff(old, new):
        words.append(output.visible(marks[piece.what].format(piece.text)), style=styles[piece.what])
    out.print(Panel(words, title="old and new", title_align="left", expand=False))


def print_findings(read: Mapping[str, Any], out: Console) -> None:
    """What the judge's rules say of new words."""
    rows: dict[str, object] = {}
    for name, title in (("failed", "fails"), ("asked", "asks people"), ("tags", "tags")):
        rows |= {f"{title} {n}" if len(read[name]) > 1 else title: words for n, words in enumerate(read[name], start=1)}
    rows["rules"] = (
        "nothing found" if not read["failed"] and not read["asked"] else "the judges will say so too: they are asked again"
    )
    rows["not looked at"] = ", ".join(read["unseen"])
    out.print(output.pairs("the rules on the new words", rows))


def _source(source: dict[str, Any]) -> str:
    words = [str(source[field]) for field in ("title", "url", "quote") if source.get(field)]
    return " · ".join(words) or ", ".join(f"{name}: {value}" for name, value in source.items())


def _number(confidence: float | None) -> str:
    return "none" if confidence is None else f"{confidence:.3f}"


def short(text: str, width: int = 90) -> str:
    """`text` on one line, cut off."""
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"
