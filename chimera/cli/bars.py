"""A bar for what reads a long log: how far it is, on standard error.

The rule not to break: what it says goes to standard error; standard output belongs to the answer.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from chimera.cli import output

LONG = 50_000
"""From so many records on, one is told what takes so long."""


class Bar:
    """Told (records done, records there are): a bar on a terminal, one line elsewhere, nothing for what is quickly done."""

    def __init__(self, what: str = "folding the log") -> None:
        self._what = what
        self._bar: Progress | None = None
        self._told = False

    def __call__(self, done: int, total: int) -> None:
        """So far, of all."""
        if total < LONG:
            return
        if not self._told:
            self._told = True
            if sys.stderr.isatty():
                columns = (TextColumn(self._what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
                self._bar = Progress(*columns, console=output.console(stderr=True), transient=True)
                self._bar.add_task(self._what, total=total)
                self._bar.start()
            else:
                print(f"{self._what}: {total} records", file=sys.stderr, flush=True)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, total=total)
            if done >= total:
                self.close()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


@contextmanager
def showing(what: str) -> Iterator[Bar]:
    """A bar that is gone afterwards, whatever happens."""
    bar = Bar(what)
    try:
        yield bar
    finally:
        bar.close()
