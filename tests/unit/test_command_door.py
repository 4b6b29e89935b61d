"""What the door of the command service answers where a verb comes to nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import orjson

from chimera.commands import agents, verbs
from chimera.commands.door import _perform


def test_a_name_that_nobody_has_is_told_apart_from_what_failed(tmp_path: Path) -> None:
    class Empty:
        def perform(self, verb: verbs.Verb) -> Any:
            raise agents.UnknownAgent("no agent is called 'nobody': known are ava, ben")

    told = _perform(cast(Any, Empty()), verbs.AgentShow(name="nobody").model_dump_json().encode(), cast(Any, None), tmp_path)
    assert (told.status_code, orjson.loads(bytes(told.body))["kind"]) == (404, "unknown")
