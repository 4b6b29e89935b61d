"""Verbs travel as closed data; tokens and rotated laws are read as they stand."""

from __future__ import annotations

import secrets
from pathlib import Path

import orjson
import pytest

from chimera.commands import verbs
from chimera.commands.decision import Answer
from chimera.commands.desk import PERFORM
from chimera.commands.keys import KeyFile, KeyTrouble, make_keys
from chimera.commands.room import order_id
from chimera.commands.rotation import editions
from chimera.commands.tokens import Tokens
from chimera.events.envelope import SigningKey
from chimera.events.state import Law

PAUSE = verbs.AgentStatus(verb="agent.pause", id="12345678", actor="kim", names=("ava",))


def test_every_verb_is_performed_and_nothing_else() -> None:
    known = set(verbs.Verb.__args__)
    assert set(PERFORM) == known
    names = [name for model in known for name in model.model_fields["verb"].annotation.__args__]
    assert len(names) == len(set(names))


def test_a_verb_comes_back_from_json_as_it_was() -> None:
    assert verbs.read_verb(PAUSE.model_dump_json().encode()) == PAUSE


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"extra": 1}, "extra"),
        ({"names": []}, "names"),
        ({"verb": "agent.erase"}, "body"),
        ({"id": "short"}, "id"),
        ({"id": "a\nb" * 4}, "id"),
        ({"actor": ""}, "actor"),
        ({"actor": "kim\x1b[2K"}, "actor"),
        ({"actor": " kim"}, "actor"),
    ],
)
def test_what_is_no_verb_is_refused_with_the_place_and_without_the_content(change: dict[str, object], where: str) -> None:
    body = orjson.dumps(PAUSE.model_dump() | change)
    with pytest.raises(verbs.BadVerb, match=where) as refused:
        verbs.read_verb(body)
    assert "\x1b" not in str(refused.value)


def test_a_wish_that_no_command_may_carry_is_told_in_one_line() -> None:
    with pytest.raises(verbs.BadVerb, match="actor"):
        verbs.wish(verbs.AgentStatus, "", verb="agent.pause", names=("ava",))


def test_an_answer_comes_back_as_it_was() -> None:
    answer = Answer("agent/1", "id", "rejected", "stale", 4, (3, 7), 1)
    reply = orjson.loads(orjson.dumps(verbs.answered([("ava", answer)])))
    assert verbs.answers_of(reply) == [("ava", answer)]


def test_a_verb_makes_one_record_id_per_stream_and_the_same_one_again() -> None:
    assert order_id(PAUSE, "agent/1") == order_id(PAUSE, "agent/1") != order_id(PAUSE, "agent/2")


def test_a_token_speaks_for_its_name_until_its_line_is_gone(tmp_path: Path) -> None:
    path, token = tmp_path / "keys" / "tokens", secrets.token_hex(32)
    path.parent.mkdir()
    path.touch(0o600)
    path.write_text(f"# people\n\nkim {token}\nlee {'b' * 64}\n")
    tokens = Tokens(tmp_path)
    assert (tokens.name_of(token), tokens.name_of("b" * 64)) == ("kim", "lee")
    assert [tokens.name_of(wrong) for wrong in ("", token[:-1], token.upper(), "kim")] == [None] * 4
    path.write_text(f"lee {'b' * 64}\n")
    assert tokens.name_of(token) is None
    path.chmod(0o640)
    path.write_text("\n")
    with pytest.raises(KeyTrouble, match="chmod 600"):
        tokens.name_of(token)


def test_a_replaced_key_file_is_seen_once_and_a_broken_one_leaves_the_old_key_in_use(tmp_path: Path) -> None:
    keys = make_keys(tmp_path)
    path = tmp_path / "keys" / "command.key"
    watched = KeyFile(tmp_path)
    assert watched.changed() is None
    path.write_bytes(b"half")
    assert watched.changed() is None
    fresh = SigningKey.generate()
    draft = path.with_suffix(".new")
    draft.touch(0o600)
    draft.write_bytes(fresh.private_bytes())
    draft.replace(path)
    found = watched.changed()
    assert found is not None
    assert found.id == fresh.id != keys.command.id
    assert watched.changed() is None


def test_editions_that_are_alike_are_told_together() -> None:
    one, two = (
        Law(number=1, edition=1, keys={"command": frozenset({"a"})}),
        Law(number=1, edition=2, keys={"command": frozenset({"a", "b"})}),
    )
    told = editions({0: one, 1: two, 2: two}, "b")
    assert [(row["edition"], row["partitions"]) for row in told] == [(1, [0]), (2, [1, 2])]
    assert told[1]["keys"] == {"command": [{"id": "a", "signs": False}, {"id": "b", "signs": True}]}
