"""The oracle itself: planted wrongs that it must see, each in a copy of the platform's books or of what the log says."""

from __future__ import annotations

import copy
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.house import House
from tests.faults.oracle import every_effect_happened_once, no_task_is_lost


@pytest.fixture(scope="module")
def names(house: House) -> list[str]:
    names = house.enrol("ora", 2)
    house.start(house.brief("Oracle", 2), names)
    house.until_completed(names)
    return names


@pytest.fixture
def planted(house: House, tmp_path: Path) -> Callable[[str], House]:
    """The same house with books in which one statement was run behind everybody's back."""

    def plant(statement: str) -> House:
        shutil.copytree(house.home / "mcp" / "x", tmp_path / "mcp" / "x")
        with closing(sqlite3.connect(tmp_path / "mcp" / "x" / "timeline.sqlite3")) as db, db:
            assert db.execute(statement).rowcount == 1
        other = copy.copy(house)
        other.home = tmp_path
        return other

    return plant


WRONGS = {
    "a second post in the same words": "INSERT INTO posts SELECT id + 1, account, text, created_at, reply_to, conversation, extra, "
    "deleted_at FROM posts WHERE account = 'ora0_x' LIMIT 1",
    "a post that was forgotten": "DELETE FROM posts WHERE id = (SELECT min(id) FROM posts WHERE account = 'ora0_x')",
    "a post that nobody approved": "INSERT INTO keys SELECT account, 'never approved', tool, arguments_sha256, response FROM keys "
    "WHERE account = 'ora0_x' LIMIT 1",
    "a call under another key": "UPDATE keys SET key = 'another' "
    "WHERE key = (SELECT key FROM keys WHERE account = 'ora0_x' LIMIT 1)",
}


@pytest.mark.parametrize("wrong", WRONGS)
def test_the_oracle_sees(house: House, names: list[str], planted: Callable[[str], House], wrong: str) -> None:
    every_effect_happened_once(house, names)
    with pytest.raises(AssertionError):
        every_effect_happened_once(planted(WRONGS[wrong]), names)


def test_the_oracle_sees_an_execution_that_the_log_lost_or_holds_twice(house: House, names: list[str]) -> None:
    ended = house.records("EffectEnded", names)
    for seen in (
        [s for s in house.seen if s is not ended[0]],
        [*house.seen, ended[0]],
    ):
        other = copy.copy(house)
        other.seen = seen
        with pytest.raises(AssertionError):
            every_effect_happened_once(other, names)


def test_the_oracle_sees_a_task_that_is_left_open(house: House, names: list[str]) -> None:
    no_task_is_lost(house, names)
    row = house.campaigns(names)[0]
    before = row.tasks[1]
    row.tasks[1] = "open"
    try:
        with pytest.raises(AssertionError):
            no_task_is_lost(house, names)
    finally:
        row.tasks[1] = before
