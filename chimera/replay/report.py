"""A rehearsal as one HTML page: figures, charts as SVG, tables. It holds everything it shows and asks nobody for anything. Pure.

The rule not to break: what agents wrote is escaped, and no chart says anything that a table beside it does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from html import escape

from chimera.eventlog.moments import said
from chimera.replay.outcome import Outcome, notes
from chimera.replay.simulate import Candidate

_STYLE = """
:root { color-scheme: light dark;
  --ink: #1b1f24; --dim: #5d6670; --page: #fff; --line: #d5dae0; --was: #8a94a0; --new: #1f6feb; }
@media (prefers-color-scheme: dark) { :root {
  --ink: #e6e9ed; --dim: #9aa4af; --page: #14171b; --line: #333a42; --was: #6c7682; --new: #5c9dff; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page);
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; } p { color: var(--dim); }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line);
  vertical-align: top; overflow-wrap: break-word; }
.n { text-align: right; font-variant-numeric: tabular-nums; } .once { white-space: nowrap; }
.wide { overflow-x: auto; }
svg { width: 100%; height: auto; } svg text { fill: var(--ink); font: 11px system-ui, sans-serif; } .axis { stroke: var(--line); }
.was { fill: var(--was); } .new { fill: var(--new); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: 1rem; }
.figures div { border: 1px solid var(--line); border-radius: .5rem; padding: .7rem; }
.figures b { font-size: 1.4rem; display: block; }
@media print {
  :root { --ink: #000; --dim: #444; --page: #fff; --line: #bbb; --was: #999; --new: #1f4fa8; }
  body { margin: 0; max-width: none; font-size: 11pt; } .wide { overflow: visible; }
  section, tr, svg { break-inside: avoid; } h2 { break-after: avoid; } }
"""
_WIDTH, _HEIGHT, _LEFT = 720, 220, 40
ONCE = frozenset(("card", "when"))
"""Columns whose cells are never broken into lines."""
_ROUTES = {"auto": "left unasked", "people": "to people", "retry": "written again"}


def html(found: Outcome, given: Candidate, asked: str) -> str:
    """The page. `asked`: what was selected, in words."""
    before, after = cards(found)
    figures = [
        ("votes judged again", f"{found.votes:,}"),
        ("verdicts that change", f"{found.changed:,}"),
        ("cards before → after", f"{before:,} → {after:,}"),
        ("posts that would not have gone out", f"{found.posts['not gone out']:,}"),
        ("posts that would have waited for people", f"{found.posts['waited for people']:,}"),
        ("dollars not spent", usd(found.spend.get("not gone out", Decimal(0)))),
    ]
    told = "".join(f"<div><b>{escape(value)}</b>{escape(name)}</div>" for name, value in figures)
    parts = [
        f"<h1>Rehearsal of {escape(given.rules.name)}</h1>",
        f"<p>{escape(given.source)}, digest {given.digest[:12]}; {escape(asked)}; {found.records:,} records folded. Recorded "
        "texts and scores under another policy: nothing was asked of any model or platform.</p>",
        f"<section class=figures>{told}</section>",
        _section("Verdicts by route", _table(("before", "after", "votes"), route_rows(found))),
        _section(
            "What changes, by rule",
            _bars(cause_rows(found)) + _table(("before", "after", "because of", "votes"), cause_rows(found)),
        ),
        _section(
            "Cards for reviewers per day",
            _days(found) + _table(("day (UTC)", "before", "after"), [(d, b, a) for d, (b, a) in sorted(found.cards.items())]),
        ),
        _section("What went out, and what it cost", _table(("would have", "effects", "US dollars"), spend_rows(found))),
        *(_section(f"Examples: {_kind(kind)}", _examples(found, kind)) for kind in sorted(found.examples)),
        _section("Not rehearsed", "".join(f"<p>{escape(note)}</p>" for note in notes(found)) or "<p>Every difference is.</p>"),
    ]
    head = f"<meta charset=utf-8><meta name=viewport content='width=device-width'><title>Rehearsal</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(parts)}</body></html>\n"


def cards(found: Outcome) -> tuple[int, int]:
    """How many votes asked people: as recorded, and under the candidate."""
    return sum(b for b, _ in found.cards.values()), sum(a for _, a in found.cards.values())


def route_rows(found: Outcome) -> list[tuple[object, ...]]:
    """(before, after, votes) of effects, then of drafts, the most first."""
    rows: list[tuple[object, ...]] = [(_ROUTES[b], _ROUTES[a], n) for (b, a), n in found.routes.most_common()]
    return rows + [(f"draft {_ROUTES[b]}", f"draft {_ROUTES[a]}", n) for (b, a), n in found.drafts.most_common()]


def cause_rows(found: Outcome) -> list[tuple[object, ...]]:
    """(before, after, because of, votes) of what changes, the most first."""
    return [(_ROUTES[b], _ROUTES[a], why, n) for (b, a, why), n in found.causes.most_common()]


def spend_rows(found: Outcome) -> list[tuple[object, ...]]:
    """(what would have become of it, effects, dollars) of what went out; last, the artifacts written again."""
    rows: list[tuple[object, ...]] = [(what, n, _cents(found.spend.get(what, Decimal(0)))) for what, n in found.posts.most_common()]
    return [*rows, ("been written again (at what the artifact cost)", "", _cents(found.rework))]


def _cents(amount: Decimal) -> Decimal:
    return amount.quantize(Decimal("0.01"))


def usd(amount: Decimal) -> str:
    """An amount as people read it."""
    return f"{amount:.2f}"


def _kind(kind: str) -> str:
    """`auto -> people` in words."""
    before, _, after = kind.partition(" -> ")
    return f"{_ROUTES.get(before, before)} → {_ROUTES.get(after, after)}"


def _section(title: str, inside: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{inside}</section>"


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    if not rows:
        return "<p>Nothing.</p>"

    # A column is of numbers where its first cell is one; its head and its empty cells stand where they do.
    kinds = [
        "n" if isinstance(value, int | Decimal) else "once" if name in ONCE else ""
        for name, value in zip(columns, rows[0], strict=True)
    ]

    def cell(tag: str, value: object, kind: str) -> str:
        text = f"{value:,}" if isinstance(value, int | Decimal) else str(value)
        return f"<{tag}{kind and f' class={kind}'}>{escape(text)}</{tag}>"

    head = "".join(cell("th", column, kind) for column, kind in zip(columns, kinds, strict=True))
    body = "".join(f"<tr>{''.join(map(cell, ['td'] * len(row), row, kinds))}</tr>" for row in rows)
    return f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _bars(rows: Sequence[tuple[object, ...]]) -> str:
    """One bar per cause, the longest first."""
    shown = [(f"{before} → {after}: {why}", int(str(n))) for before, after, why, n in rows[:12]]
    if not shown:
        return ""
    most, height = max(n for _, n in shown), 22 * len(shown) + 4
    made = []
    for i, (name, n) in enumerate(shown):
        y, wide = 22 * i, max(1, 360 * n // most)
        made.append(f"<text x=0 y={y + 15}>{escape(name)}</text><text x={306 + wide} y={y + 15}>{n:,}</text>")
        made.append(f"<rect class=new x=300 y={y + 4} height=14 width={wide} />")
    return f"<svg viewBox='0 0 {_WIDTH} {height}' role=img aria-label='changed verdicts by rule'>{''.join(made)}</svg>"


def _days(found: Outcome) -> str:
    """Two bars per day: cards as recorded, and under the candidate."""
    days = sorted(found.cards.items())[-60:]
    if not days:
        return ""
    most = max(1, *(max(pair) for _, pair in days))
    step = (_WIDTH - _LEFT) / len(days)
    wide, made = max(2.0, min(24.0, step * 0.38)), []
    for i, (day, (before, after)) in enumerate(days):
        x = _LEFT + i * step + step / 2
        for css, left, n in (("was", x - wide, before), ("new", x, after)):
            tall = (_HEIGHT - 50) * n / most
            title = f"<title>{day}: {n} cards {'before' if css == 'was' else 'after'}</title>"
            made.append(
                f"<rect class={css} x={left:.1f} y={_HEIGHT - 30 - tall:.1f} width={wide:.1f} height={tall:.1f}>{title}</rect>"
            )
        if i % max(1, len(days) // 8) == 0:
            made.append(f"<text x={x:.1f} y={_HEIGHT - 14} text-anchor=middle>{day[5:]}</text>")
    made.append(f"<line class=axis x1={_LEFT} x2={_WIDTH} y1={_HEIGHT - 30} y2={_HEIGHT - 30} />")
    for n in {most, most // 2} - {0}:
        y = _HEIGHT - 30 - (_HEIGHT - 50) * n / most
        made.append(f"<line class=axis x1={_LEFT} x2={_WIDTH} y1={y:.1f} y2={y:.1f} />")
        made.append(f"<text x={_LEFT - 6} y={y + 4:.1f} text-anchor=end>{n:,}</text>")
    made.append(f"<rect class=was x={_LEFT} y=0 width=10 height=10 /><text x={_LEFT + 15} y=10>before</text>")
    made.append(f"<rect class=new x={_LEFT + 75} y=0 width=10 height=10 /><text x={_LEFT + 90} y=10>after</text>")
    return f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' role=img aria-label='cards per day'>{''.join(made)}</svg>"


def _examples(found: Outcome, kind: str) -> str:
    rows = [
        (
            e.card,
            said(e.at)[:16].replace("T", " "),
            e.text,
            e.before_why or "passed",
            "; ".join(filter(None, (e.after_why, *e.reasons))) or "passes",
        )
        for e in found.examples[kind]
    ]
    return _table(("card", "when", "text", "before", "after"), rows)
