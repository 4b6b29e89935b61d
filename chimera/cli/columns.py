"""How wide the columns of a table are: words stay whole for as long as there is room for them.

The rule not to break: nothing is cut off; where even the longest words do not fit side by side they are broken over lines. Where
no terminal shows them (a pipe, a file) a row is one line, whole.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

GAP = 2
"""Blanks between two columns, as `Table` has them without edges."""
UNBROKEN = 1_000_000
"""How wide a console is whose lines go to no terminal: nothing is as wide."""
NEXT_LINE = " ⏎ "
"""What stands for the end of a line within a cell where a row is one line."""
LONGEST_WORD = 24
"""Signs up to which a word is kept whole: hashes and addresses do not push all else together."""


class WholeWords(Table):
    """A table without lines whose columns get their widths when it is known how wide the terminal is."""

    def __init__(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Text]]) -> None:
        super().__init__(title=Text(title), title_justify="left", header_style="bold", box=None, pad_edge=False, show_edge=False)
        for column in columns:
            self.add_column(column, overflow="fold")
        for row in rows:
            self.add_row(*row)
        cells = [[column, *(row[n].plain for row in rows)] for n, column in enumerate(columns)]
        self._cells = cells
        self._wanted = [max(cell_len(line) for cell in each for line in cell.split("\n")) for each in cells]
        self._least = [min(max(cell_len(w) for cell in each for w in cell.split() or [""]), LONGEST_WORD) for each in cells]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if options.max_width >= UNBROKEN:
            yield from self._lines()
            return
        needed = self._wanted[0] + sum(self._least[1:]) + GAP * (len(self.columns) - 1)
        gap = GAP if needed <= options.max_width else GAP - 1
        self.padding = (0, 1, 0, gap - 1)  # blanks give way before words do
        room = options.max_width - gap * (len(self.columns) - 1)
        for column, width in zip(self.columns, widths(self._wanted, self._least, room), strict=True):
            column.width = width
        yield from super().__rich_console__(console, options)

    def _lines(self) -> RenderResult:
        """The table with a line for each row: the last column is not filled up, as a long text is no reason for blanks."""
        if self.title:
            yield Text(str(self.title))
        columns = [[NEXT_LINE.join(cell.split("\n")) for cell in each] for each in self._cells]
        wide = [max(cell_len(cell) for cell in each) for each in columns]
        for row in zip(*columns, strict=True):
            filled = (cell + " " * (width - cell_len(cell)) for cell, width in zip(row, wide, strict=True))
            yield Text((" " * GAP).join(filled).rstrip())


def widths(wanted: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """A width for each column, together `room` at the most where that is possible.

    The widest gives way first, down to its longest word (`least`), and only where these do not fit beyond that. The first column
    comes last: what a line is about is what people copy.
    """
    given = [max(1, min(width, room)) for width in wanted]
    narrowest = [1] * len(given)
    for first, floors in ((1, least), (1, narrowest), (0, narrowest)):
        while sum(given) > room:
            can = [n for n in range(first, len(given)) if given[n] > floors[n]]
            if not can:
                break
            given[max(can, key=lambda n: given[n])] -= 1
    return given
