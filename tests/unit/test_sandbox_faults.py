"""Faults on demand: read from a line, owed in a book, taken call by call."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from chimera.mcp.sandbox.faults import BadWish, FaultBook, Wish, Words, faults_of, read_wish
from chimera.mcp.sandbox.x_tools import TOOLS

NAMES = [tool.name for tool in TOOLS]
WORDS = Words(busy="busy", refusal="no")


@pytest.mark.parametrize(
    ("line", "wish"),
    [
        ("hang", Wish("hang")),
        ("createPosts:429=3", Wish("429", "createPosts", 3)),
        ("createPosts:503_after_write=20@0.5", Wish("503_after_write", "createPosts", 20, 0.5)),
        ("slow(2.5)=2", Wish("slow", None, 2, 1.0, 2.5)),
        ("getUsersMe:slow(1)=4@.25", Wish("slow", "getUsersMe", 4, 0.25, 1.0)),
    ],
)
def test_a_wish_is_read_and_written_alike(line: str, wish: Wish) -> None:
    assert read_wish(line, NAMES) == wish
    assert read_wish(str(wish), NAMES) == wish


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("burn", "no kind 'burn': use one of 429"),
        ("hang=x", "write it as"),
        ("a:b:c", "write it as"),
        ("createPost:hang", "no tool 'createPost': it has createPosts"),
        ("slow", "seconds go with slow"),
        ("hang(3)", "seconds go with slow"),
        ("hang@0", "a chance lies above 0"),
        ("hang@1.5", "a chance lies above 0"),
    ],
)
def test_a_wish_that_cannot_be_is_refused_with_the_way_out(line: str, what: str) -> None:
    with pytest.raises(BadWish) as refused:
        read_wish(line, NAMES)
    assert what in str(refused.value)
    assert line in str(refused.value)


def test_faults_are_taken_one_call_at_a_time_and_only_by_their_tool(tmp_path: Path) -> None:
    asker, server = FaultBook(tmp_path), FaultBook(tmp_path)
    asker.ask(Wish("hang", "createPosts", 2))
    asker.ask(Wish("429"))
    taken = [server.take(tool) for tool in ("getUsersMe", "createPosts", "createPosts", "createPosts")]
    assert [fault and fault.kind for fault in taken] == ["429", "hang", "hang", None]
    assert asker.left() == []


def test_what_is_owed_is_listed_and_can_be_taken_back(tmp_path: Path) -> None:
    book = FaultBook(tmp_path)
    book.ask(Wish("hang", "createPosts", 2))
    book.ask(Wish("die"))
    assert book.take("createPosts") == Wish("hang", "createPosts")
    assert book.left() == [Wish("hang", "createPosts", 1), Wish("die")]
    assert book.clear() == 2
    assert book.take("createPosts") is None


def test_a_chance_is_drawn_alike_for_the_same_seed_and_counts_what_went_wrong() -> None:
    def weather(seed: int) -> list[bool]:
        book = FaultBook(None)
        book.ask(Wish("429", None, 30, 0.3), seed)
        calls = [book.take("createPosts") is not None for _ in range(60)]
        assert sum(calls) + sum(wish.calls for wish in book.left()) == 30
        return calls

    assert weather(1) == weather(1)
    assert weather(1) != weather(2)
    assert 8 <= sum(weather(1)) <= 28


def test_a_drifted_listing_is_no_call_and_a_call_no_listing() -> None:
    book = FaultBook(None)
    book.ask(Wish("drift", "createPosts"))
    assert book.take("createPosts") is None
    assert book.take("deletePosts", listing=True) is None
    assert book.take("createPosts", listing=True) == Wish("drift", "createPosts")
    assert book.take("createPosts", listing=True) is None


def started(directory: Path, line: str = "") -> list[str]:
    """A server's start; what it owes then."""
    options = argparse.Namespace(data=directory, faults=line, fault_seed=0)
    book = faults_of(options, "x", TOOLS, WORDS).book
    try:
        return [str(wish) for wish in book.left()]
    finally:
        book.close()


def test_the_environment_names_the_server_and_a_restart_owes_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHIMERA_SANDBOX_FAULTS", "x/createPosts:die=1, feeds/read_feed:hang, 429")
    assert started(tmp_path, "hang") == ["hang=1", "createPosts:die=1", "429=1"]
    with FaultBook(tmp_path)._db as db:
        db.execute("UPDATE faults SET remaining = 0 WHERE kind = 'die'")
    assert started(tmp_path, "hang") == ["hang=1", "429=1"], "the server that died of it does not die again"


def test_a_server_does_not_start_with_a_fault_that_it_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="--faults: fault 'createPost:die': this server has no tool"):
        started(tmp_path, "createPost:die")
