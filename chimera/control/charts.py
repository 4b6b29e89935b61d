"""Pictures as SVG made here: a task graph, bars, lines. Pure; each has a title, a description, and its numbers as a table.

The rule not to break: whatever is drawn is escaped, colours come by class from `control.css`, and nothing is told by colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from zlib import crc32

from markupsafe import Markup

WIDTH, HEIGHT = 640, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 14, 34
_BOX, _GAP_X, _GAP_Y = (184, 46), 40, 18
MOST_LABELS = 8


class Node(NamedTuple):
    """A task of a graph. `status` is its class too; `after`: numbers of those that it waits for."""

    number: int
    kind: str
    title: str
    status: str
    href: str
    after: Sequence[int]


class Series(NamedTuple):
    """Values under one name, one for each label; None: there is none."""

    name: str
    values: Sequence[float | None]


def graph(title: str, nodes: Sequence[Node]) -> Markup:
    """A task graph from left to right, each task in the first column in which all that it waits for lies to the left."""
    columns = _columns(nodes)
    tallest = max((len(column) for column in columns), default=0)
    width = len(columns) * (_BOX[0] + _GAP_X) - _GAP_X + 4
    height = tallest * (_BOX[1] + _GAP_Y) - _GAP_Y + 4
    at = {
        node.number: (2 + x * (_BOX[0] + _GAP_X), 2 + (tallest - len(column)) * (_BOX[1] + _GAP_Y) // 2 + y * (_BOX[1] + _GAP_Y))
        for x, column in enumerate(columns)
        for y, node in enumerate(column)
    }
    lines = Markup("").join(
        _edge(at[before], at[node.number]) for node in nodes for before in node.after if before in at and node.number in at
    )
    boxes = Markup("").join(_box(node, *at[node.number]) for node in nodes)
    waits = "; ".join(f"{n.number} waits for {', '.join(map(str, n.after))}" for n in nodes if n.after) or "none waits for another"
    return _svg(f"{len(nodes)} tasks: {waits}", title, max(width, 40), max(height, 40), lines + boxes, "graph", "group")


def bars(title: str, labels: Sequence[str], series: Sequence[Series], unit: str = "") -> Markup:
    """Stacked bars, one for each label."""
    totals = [sum(s.values[n] or 0.0 for s in series) for n in range(len(labels))]
    top = ceiling(max(totals, default=0.0))
    step = (WIDTH - _LEFT - _RIGHT) / max(1, len(labels))
    drawn = []
    for n, label in enumerate(labels):
        below = 0.0
        for index, one in enumerate(series):
            value = one.values[n] or 0.0
            if value <= 0:
                continue
            y, tall = _y(below + value, top), _y(below, top) - _y(below + value, top)
            drawn.append(
                Markup('<rect class="s{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>').format(
                    index % 6, _LEFT + n * step + step * 0.12, y, step * 0.76, max(tall, 0.8), _hint(label, one.name, value, unit)
                )
            )
            below += value
    body = _axes(labels, top, unit, step) + Markup("").join(drawn)
    return _figure(title, labels, series, unit, body)


def lines(
    title: str, labels: Sequence[str], series: Sequence[Series], unit: str = "", top: float | None = None, diagonal: bool = False
) -> Markup:
    """A line for each series. `diagonal` draws where value and label would be the same (of a calibration)."""
    known = [value for one in series for value in one.values if value is not None]
    most = top if top is not None else ceiling(max(known, default=0.0))
    step = (WIDTH - _LEFT - _RIGHT) / max(1, len(labels))
    drawn = []
    if diagonal:
        drawn.append(
            Markup('<line class="ideal" x1="{}" y1="{:.1f}" x2="{}" y2="{:.1f}"/>').format(
                _LEFT + step / 2, _y(0, most), WIDTH - _RIGHT - step / 2, _y(most, most)
            )
        )
    for index, one in enumerate(series):
        points = [(_LEFT + (n + 0.5) * step, _y(value, most), n, value) for n, value in enumerate(one.values) if value is not None]
        if len(points) > 1:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y, *_ in points)
            drawn.append(Markup('<polyline class="l{}" points="{}"/>').format(index % 6, path))
        drawn += [
            Markup('<circle class="s{}" cx="{:.1f}" cy="{:.1f}" r="3.5"><title>{}</title></circle>').format(
                index % 6, x, y, _hint(labels[n], one.name, value, unit)
            )
            for x, y, n, value in points
        ]
    return _figure(title, labels, series, unit, _axes(labels, most, unit, step) + Markup("").join(drawn))


def ceiling(value: float) -> float:
    """A round number that is not below `value`: 1, 2 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 1.0
    while power * 10 <= value:
        power *= 10
    while power > value:
        power /= 10
    return next(power * times for times in (1, 2, 5, 10) if power * times >= value * 0.999999)


def told(value: float | None) -> str:
    """A number as a table says it: no more digits than say something."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}" if abs(value) >= 1 else f"{value:.4g}"


def short(value: float) -> str:
    """A number as an axis says it: thousands as k, millions as M."""
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g} {sign}"
    return told(value)


# --- the parts -------------------------------------------------------------------------------------------------------


def _columns(nodes: Sequence[Node]) -> list[list[Node]]:
    depth: dict[int, int] = {}
    by_number: Mapping[int, Node] = {node.number: node for node in nodes}

    def deep(number: int, above: frozenset[int]) -> int:
        if number not in depth:
            before = [n for n in by_number[number].after if n in by_number and n not in above]  # a circle would never end
            depth[number] = 1 + max((deep(n, above | {number}) for n in before), default=-1)
        return depth[number]

    columns: list[list[Node]] = []
    for node in sorted(nodes, key=lambda n: n.number):
        place = deep(node.number, frozenset({node.number}))
        while len(columns) <= place:
            columns.append([])
        columns[place].append(node)
    return columns


def _edge(start: tuple[int, int], end: tuple[int, int]) -> Markup:
    x1, y1, x2, y2 = start[0] + _BOX[0], start[1] + _BOX[1] // 2, end[0], end[1] + _BOX[1] // 2
    bend = max(18, (x2 - x1) // 2)
    return Markup('<path class="edge" d="M{} {}C{} {} {} {} {} {}"/>').format(x1, y1, x1 + bend, y1, x2 - bend, y2, x2, y2)


def _box(node: Node, x: int, y: int) -> Markup:
    title = node.title or node.kind
    name = title if len(title) <= 23 else title[:22] + "…"
    words = Markup('<text x="{}" y="{}" class="name">{}</text><text x="{}" y="{}" class="state">{} · {} · {}</text>').format(
        x + 10, y + 19, name, x + 10, y + 36, node.number, node.kind, node.status
    )
    box = Markup('<rect class="node {}" x="{}" y="{}" width="{}" height="{}" rx="8"/>').format(node.status, x, y, *_BOX)
    told_as = f"task {node.number}, {node.kind}: {title}, {node.status}"
    return Markup('<a href="{}" aria-label="{}">{}{}</a>').format(node.href, told_as, box, words)


def _y(value: float, top: float) -> float:
    return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * value / top


def _hint(label: str, name: str, value: float, unit: str) -> str:
    return f"{label}, {name}: {told(value)}{' ' + unit if unit else ''}"


def _axes(labels: Sequence[str], top: float, unit: str, step: float) -> Markup:
    drawn = []
    for part in (0.0, 0.5, 1.0):
        y = _y(top * part, top)
        drawn.append(Markup('<line class="grid" x1="{}" y1="{:.1f}" x2="{}" y2="{:.1f}"/>').format(_LEFT, y, WIDTH - _RIGHT, y))
        drawn.append(Markup('<text class="tick end" x="{}" y="{:.1f}">{}</text>').format(_LEFT - 6, y + 4, short(top * part)))
    if unit:
        drawn.append(Markup('<text class="tick" x="0" y="0">{}</text>').format(unit))
    every = max(1, -(-len(labels) // MOST_LABELS))
    for n, label in enumerate(labels):
        if n % every == 0:
            drawn.append(
                Markup('<text class="tick middle" x="{:.1f}" y="{}">{}</text>').format(_LEFT + (n + 0.5) * step, HEIGHT - 14, label)
            )
    return Markup("").join(drawn)


def _svg(description: str, title: str, width: int, height: int, body: Markup, kind: str, role: str) -> Markup:
    key = f"{kind}-{crc32(f'{title}{description}'.encode())}"
    names = Markup('<title id="{0}-t">{1}</title><desc id="{0}-d">{2}</desc>').format(key, title, description)
    return Markup(
        '<svg class="{}" viewBox="0 0 {} {}" width="{}" height="{}" role="{}" aria-labelledby="{}-t {}-d">{}{}</svg>'
    ).format(kind, width, height, width, height, role, key, key, names, body)


def _figure(title: str, labels: Sequence[str], series: Sequence[Series], unit: str, body: Markup) -> Markup:
    if not any(value for one in series for value in one.values):
        told_as = "nothing but zero" if labels else "nothing yet"
        return Markup('<figure class="chart"><figcaption>{}</figcaption><p class="dim">There is {}.</p></figure>').format(
            title, told_as
        )
    names = Markup("").join(
        Markup(
            '<li><svg width="12" height="12" aria-hidden="true"><rect class="s{}" width="12" height="12" rx="2"/></svg> {}</li>'
        ).format(index % 6, one.name)
        for index, one in enumerate(series)
    )
    first, last = labels[0], labels[-1]
    description = (
        f"{', '.join(s.name for s in series)}{' in ' + unit if unit else ''}, from {first} to {last}; the table says it in numbers"
    )
    picture = _svg(description, title, WIDTH, HEIGHT, body, "plot", "img")
    return Markup(
        '<figure class="chart"><figcaption>{}</figcaption>{}<ul class="legend">{}</ul><details><summary>The numbers</summary>{}'
        "</details></figure>"
    ).format(title, picture, names, _table(labels, series, unit))


def _table(labels: Sequence[str], series: Sequence[Series], unit: str) -> Markup:
    heads = Markup("").join(
        Markup('<th scope="col" class="number">{}{}</th>').format(s.name, f" ({unit})" if unit else "") for s in series
    )
    body = Markup("").join(
        Markup('<tr><th scope="row">{}</th>{}</tr>').format(
            label, Markup("").join(Markup('<td class="number">{}</td>').format(told(s.values[n])) for s in series)
        )
        for n, label in enumerate(labels)
    )
    table = Markup("<table><thead><tr><td></td>{}</tr></thead><tbody>{}</tbody></table>").format(heads, body)
    return Markup('<div class="scroll" tabindex="0" role="region" aria-label="The numbers">{}</div>').format(table)
