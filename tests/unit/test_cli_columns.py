"""Tables at 80 columns: words stay whole while there is room, nothing is cut off, and what a line is about is never broken."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from chimera.cli import output, rows
from chimera.cli.columns import widths

ROWS = [
    ("autumn-spent-well", "6 running", "x/@edda_explains", "Show people that autumn on a small budget can be rich - cook food."),
    ("first-frost", "1 running, 2 paused", "x/@femi_allotment", "Soup."),
]


def printed(width: int) -> str:
    out = StringIO()
    console = Console(file=out, width=width, highlight=False)
    console.print(output.table("2 campaigns", ("campaign", "status", "account", "goal"), ROWS))
    return out.getvalue()


def test_where_everything_fits_every_column_is_as_wide_as_its_widest_cell() -> None:
    assert widths([5, 10, 7], [5, 4, 3], 30) == [5, 10, 7]


def test_the_widest_column_gives_way_first_and_not_beyond_its_longest_word() -> None:
    assert widths([5, 40, 12], [5, 9, 6], 34) == [5, 17, 12]
    assert widths([5, 40, 12], [5, 9, 6], 22) == [5, 9, 8]


def test_words_are_broken_only_where_they_do_not_fit_side_by_side_and_never_in_the_first_column() -> None:
    assert widths([5, 40, 12], [5, 9, 6], 17) == [5, 6, 6]
    assert widths([15, 40], [5, 9], 16) == [15, 1]


def test_at_eighty_columns_no_word_is_broken() -> None:
    lines = printed(80).splitlines()
    assert max(len(line) for line in lines) <= 80
    words = {word for line in lines for word in line.split()}
    assert words >= {word for row in ROWS for cell in row for word in cell.split()}


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_nothing_is_cut_off_however_narrow_the_terminal(width: int) -> None:
    signs = sorted("".join(printed(width).split()))
    assert signs == sorted("".join(f"2 campaigns campaign status account goal {' '.join(' '.join(row) for row in ROWS)}".split()))


def test_a_word_of_endless_length_takes_no_room_from_the_others() -> None:
    out = StringIO()
    rows = [("3:17", "a" * 64, "adopted by operator")]
    Console(file=out, width=60).print(output.table("", ("record", "digest", "what"), rows))
    assert "adopted by operator" in out.getvalue()


LISTS = [
    (
        ("name", "status", "accounts", "campaigns", "tasks", "cards", "version", "tenant"),
        ("femi", "active, in shadow", "x: @femi_allotment", "autumn-spent-well", "3 planned, 12 committed", "2", "41", "acme"),
    ),
    (
        ("campaign", "status", "agents", "tasks", "posts", "cards", "brief", "started (UTC)", "by"),
        ("autumn-spent-well", "6 running, 1 paused", "6", "12 done, 3 planned", "41", "12", "1", "2026-11-23 21:08:44", "operator"),
    ),
    (
        ("card", "weight", "waits", "why", "account", "text", "approvers"),
        ("edda/1.12.1", "0.125", "3 min", "sensitive (health)", "x/@edda_explains", "People who took a short walk of", "kim dora"),
    ),
]
"""The widest lists as the example fleet fills them: agents, campaigns, cards."""


@pytest.mark.parametrize(("columns", "row"), LISTS, ids=["agents", "campaigns", "cards"])
def test_the_widest_lists_break_no_word_at_eighty_columns(columns: tuple[str, ...], row: tuple[str, ...]) -> None:
    out = StringIO()
    Console(file=out, width=80).print(output.table("", columns, [row]))
    assert max(len(line) for line in out.getvalue().splitlines()) <= 80
    assert set(out.getvalue().split()) == {word for cell in (*columns, *row) for word in cell.split()}


def test_where_no_terminal_shows_it_each_row_is_one_line_and_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    long = "Soup weather. " * 40
    output.console().print(
        output.table("2 posts", ("post", "agent", "text"), [("1", "ava", f"{long}\nhttps://x"), ("22", "dov", "-")])
    )
    title, *lines = capsys.readouterr().out.splitlines()
    assert (title, lines) == ("2 posts", ["post  agent  text", f"1     ava    {long} ⏎ https://x", "22    dov    -"])


def test_rows_of_a_question_are_lines_too_and_show_what_a_terminal_would_obey(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert rows.print_table("", ("agent", "text"), [[("ava", "x" * 300)], [("dov", "\x1b[2J[red]soup[/red]")]]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["agent  text", f"ava    {'x' * 300}", "dov    \\u{1b}[2J[red]soup[/red]", "2 rows"]


def test_on_a_terminal_of_eighty_columns_a_question_is_answered_within_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    rows.print_table("", ("agent", "text"), [[("ava", "soup " * 60)]])
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines) <= 80
    assert sum(line.count("soup") for line in lines) == 60
