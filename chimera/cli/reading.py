"""What Chimera's own MCP server is answered by: the same looks that the command line takes, as JSON.

The rule not to break: every function here reads; none of them takes a verb that changes anything.
"""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import orjson

from chimera.cli.events import trace_json
from chimera.cli.folding import open_desk
from chimera.commands import verbs
from chimera.mcp.own import Readers
from chimera.projections import questions
from chimera.settings import Settings
from chimera.stack.addresses import load

MOST_ROWS = 200
"""Of an answer; a model that wants more asks a narrower question."""


def readers(settings: Settings) -> Readers:
    """The looks, over one installation."""

    def fleet_status() -> dict[str, Any]:
        with open_desk(settings) as desk:
            return _plain(desk.ask(verbs.FleetStatus()))

    def waiting_cards() -> dict[str, Any]:
        with open_desk(settings) as desk:
            return _plain({"now_ts": int(time.time() * 1000), **desk.ask(verbs.CardList(statuses=("people",)))})

    def trace(target: str) -> dict[str, Any]:
        return _plain(trace_json(settings, target))

    def listed() -> dict[str, Any]:
        return {"questions": [{"name": q.name, "question": q.question, "columns": list(q.columns)} for q in questions.questions()]}

    def ask(name: str) -> dict[str, Any]:
        asked = questions.question(name)
        answer = questions.ask(load(settings).postgres, asked)
        rows = [list(row) for row in answer.rows[:MOST_ROWS]]
        told = {"name": name, "question": asked.question, "columns": list(answer.columns), "rows": rows}
        return _plain(told | {"left_out": len(answer.rows) - len(rows)})

    return Readers(fleet_status, waiting_cards, trace, listed, ask)


def _plain(value: Any) -> dict[str, Any]:
    """The same in plain JSON values: times and amounts as text."""
    plain: dict[str, Any] = orjson.loads(orjson.dumps(value, default=_text))
    return plain


def _text(value: Any) -> str:
    return format(value, "f") if isinstance(value, Decimal) else str(value)
