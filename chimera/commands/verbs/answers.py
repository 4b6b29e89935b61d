"""How answers travel: JSON, the same whether it crossed a socket or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chimera.commands.decision import NO_CHANGE, Answer

Reply = dict[str, Any]
"""What a verb is answered with."""


def answered(answers: Sequence[tuple[str, Answer]]) -> Reply:
    """(name, answer) pairs as a reply."""
    return {
        "answers": [
            {
                "name": name,
                "key": answer.key,
                "command_id": answer.command_id,
                "outcome": answer.outcome,
                "reason": answer.reason,
                "state_version": answer.state_version,
                "position": answer.position,
                "records": answer.records,
            }
            for name, answer in answers
        ]
    }


def nothing_to_do(key: str, version: int, id_: str = "") -> Answer:
    """The answer to a command whose work is done already."""
    return Answer(key, id_, "applied", NO_CHANGE, version)


def answers_of(reply: Reply) -> list[tuple[str, Answer]]:
    """The (name, answer) pairs of a reply; changes do not travel."""
    return [
        (
            row["name"],
            Answer(
                row["key"],
                row["command_id"],
                row["outcome"],
                row["reason"],
                row["state_version"],
                None if row["position"] is None else (row["position"][0], row["position"][1]),
                row["records"],
            ),
        )
        for row in reply["answers"]
    ]
