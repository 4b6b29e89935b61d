"""The file of a sandbox: several begin on it at once, as two processes of a swarm do."""

from __future__ import annotations

import multiprocessing
from multiprocessing.synchronize import Barrier
from pathlib import Path

from chimera.mcp.sandbox.book import open_book

AT_ONCE, FILES = 3, 60
SCHEMA = "CREATE TABLE IF NOT EXISTS said (text TEXT)"


def begin(folder: Path, together: Barrier) -> None:
    for n in range(FILES):
        together.wait(120)
        try:
            book = open_book(folder / f"{n}.sqlite3", SCHEMA)
            book.execute("INSERT INTO said VALUES ('here')")
        except BaseException:
            together.abort()  # nobody waits for one who failed
            raise
        book.close()


def test_processes_that_open_a_new_file_at_once_wait_instead_of_failing(tmp_path: Path) -> None:
    new = multiprocessing.get_context("spawn")
    together = new.Barrier(AT_ONCE)
    begun = [new.Process(target=begin, args=(tmp_path / "made", together), daemon=True) for _ in range(AT_ONCE)]
    for one in begun:
        one.start()
    for one in begun:
        one.join(120)
    assert [one.exitcode for one in begun] == [0] * AT_ONCE
    for n in range(FILES):
        book = open_book(tmp_path / "made" / f"{n}.sqlite3", SCHEMA)
        assert book.execute("SELECT count(*) FROM said").fetchone() == (AT_ONCE,)
        book.close()
