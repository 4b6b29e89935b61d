"""Watching a fleet goes on where one look fails."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chimera.cli import fleet
from chimera.errors import ChimeraError


class Desk:
    """Answers as it is told, and is left by Ctrl-C when nothing is left to answer."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def ask(self, _verb: object) -> Any:
        if not self.answers:
            raise KeyboardInterrupt
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_look_that_fails_is_told_as_a_line_of_its_own_and_the_next_one_follows(capsys: pytest.CaptureFixture[str]) -> None:
    desk = Desk({"records": 1}, ChimeraError("Kafka is away"), {"records": 2})
    with pytest.raises(KeyboardInterrupt):
        fleet._watch(desk, 0.0, True)  # type: ignore[arg-type]
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert said == [{"records": 1}, {"error": "Kafka is away"}, {"records": 2}]
