"""Charts and task graphs: what is drawn, said and escaped."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from chimera.control.charts import HEIGHT, Node, Series, bars, ceiling, graph, lines, short
from chimera.control.story import made_from

HOSTILE = '<script>alert("1")</script>'


def tree(markup: str) -> ElementTree.Element:
    """The first SVG of a page, as a browser reads it."""
    return ElementTree.fromstring(markup[markup.index("<svg") : markup.index("</svg>", markup.index("<svg")) + 6])


def test_a_task_stands_to_the_right_of_all_that_it_waits_for() -> None:
    nodes = [
        Node(4, "draft", "d", "planned", "/4", [2, 3]),
        Node(1, "draft", "a", "done", "/1", []),
        Node(2, "draft", "b", "open", "/2", [1]),
        Node(3, "draft", "c", "open", "/3", [2]),
    ]
    drawn = graph("tasks", nodes)
    x = {link.get("href"): float(link[0].get("x", "")) for link in tree(drawn).iter("a")}
    assert x["/1"] < x["/2"] < x["/3"] < x["/4"]
    assert drawn.count('class="edge"') == 4


def test_a_graph_with_a_circle_or_a_missing_task_is_drawn_all_the_same() -> None:
    drawn = graph("tasks", [Node(1, "draft", "a", "open", "/1", [2]), Node(2, "draft", "b", "open", "/2", [1, 9])])
    assert len(list(tree(drawn).iter("a"))) == 2


@pytest.mark.parametrize("draw", [bars, lines])
def test_a_chart_says_its_title_and_its_numbers_also_to_those_who_do_not_see_it(draw: object) -> None:
    made = draw("Spend", ["Mon", "Tue"], [Series("posts", [1.5, None])], "USD")  # type: ignore[operator]
    root = tree(made)
    assert [root[0].tag, root[0].text, root[1].tag] == ["title", "Spend", "desc"]
    assert root.get("role") == "img"
    assert '<td class="number">1.50</td>' in made
    assert '<td class="number">-</td>' in made


def test_nothing_that_is_drawn_becomes_markup_of_its_own() -> None:
    for made in (
        bars(HOSTILE, [HOSTILE], [Series(HOSTILE, [1.0])], HOSTILE),
        lines(HOSTILE, [HOSTILE], [Series(HOSTILE, [1.0])]),
        graph(HOSTILE, [Node(1, "draft", HOSTILE, "open", HOSTILE, [])]),
    ):
        assert "<script" not in made
        assert not re.search(r' (style|on\w+)="', made)


def test_bars_of_several_series_stand_on_each_other_and_stay_in_the_picture() -> None:
    rects = list(tree(bars("t", ["a"], [Series("x", [3.0]), Series("y", [2.0])])).iter("rect"))
    low, high = ((float(r.get("y", "")), float(r.get("height", ""))) for r in rects)
    assert high[0] + high[1] == pytest.approx(low[0], abs=0.2)
    assert 0 <= high[0] < low[0] < HEIGHT


@pytest.mark.parametrize(("value", "top"), [(0, 1), (0.03, 0.05), (1, 1), (1.1, 2), (4, 5), (7, 10), (101, 200)])
def test_an_axis_ends_at_a_round_number(value: float, top: float) -> None:
    assert ceiling(value) == pytest.approx(top)


def test_a_story_is_told_with_all_that_its_task_waited_for() -> None:
    assert made_from(4, {4: [3], 3: [2], 2: [1], 8: [7]}) == {1, 2, 3, 4}


def test_a_chart_of_nothing_says_so_instead_of_drawing_empty_axes() -> None:
    assert "nothing yet" in bars("Spend", [], [], "USD")
    assert "nothing but zero" in lines("Spend", ["Mon"], [Series("a", [0.0])])


@pytest.mark.parametrize(("value", "said"), [(0, "0"), (0.5, "0.5"), (250, "250"), (2_500, "2.5 k"), (5e6, "5 M"), (1e9, "1 G")])
def test_an_axis_says_large_numbers_shortly(value: float, said: str) -> None:
    assert short(value) == said
