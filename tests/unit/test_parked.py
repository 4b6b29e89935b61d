"""What flows, what is passed over and what is parked, without a database."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera.projections.batch import Entry, Stretch
from chimera.projections.heal import in_order
from chimera.projections.models import MODELS
from chimera.projections.parking import MOST_PER_WRITE, Parked, Parking, TooManyRefused
from chimera.projections.rows import Insert, Table

TABLE = Table("rows", ("partition", "offset"), ("agent_id", "data", "partition", "offset"))


@st.composite
def streams(draw: st.DrawFn) -> list[Entry]:
    made = draw(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.booleans()), max_size=30))
    return [
        Entry(model, stream, 0, offset, [] if bad else [Insert(TABLE, (stream, b"{}", 0, offset))], "planted" if bad else "")
        for offset, (model, stream, bad) in enumerate(made)
    ]


@given(streams(), st.sets(st.integers(0, 30), max_size=3))
def test_every_entry_flows_or_is_parked_or_counted_or_was_given_up(entries: list[Entry], given_up: set[int]) -> None:
    discarded = {(model, 0, offset) for model in "ab" for offset in given_up}
    found = Parking(discarded=set(discarded))
    flow = found.flowing(entries)
    skipped = sum(found.skipped.values())
    assert len(flow) + len(found.added) + skipped + sum(e.offset in given_up for e in entries) == len(entries)
    began = {entry.pair: entry.offset for entry, _ in found.added}
    for entry in flow:
        assert entry.offset < began.get(entry.pair, len(entries))
    for entry, reason in found.added:
        assert reason == "planted"
        assert found.last.get(entry.pair, entry.offset) >= entry.offset


@given(streams(), st.integers(0, 30))
def test_it_makes_no_difference_where_the_entries_are_cut(entries: list[Entry], cut: int) -> None:
    whole, parts = Parking(), Parking()
    assert whole.flowing(entries) == parts.flowing(entries[:cut]) + parts.flowing(entries[cut:])
    assert (whole.parked, whole.skipped, whole.last) == (parts.parked, parts.skipped, parts.last)


def test_more_than_a_bounded_number_of_pairs_is_no_matter_of_rows() -> None:
    entries = [Entry("a", str(n), 0, n, [], "planted") for n in range(MOST_PER_WRITE + 1)]
    Parking().flowing(entries[:-1])
    with pytest.raises(TooManyRefused, match=f"'{MOST_PER_WRITE}' at offset {MOST_PER_WRITE}: planted"):
        Parking().flowing(entries)


def test_what_is_referred_to_heals_first() -> None:
    parked = [Parked(model.name, "s", 0, 0, "", None, 0, 0) for model in reversed(MODELS)]  # type: ignore[arg-type]
    assert [p.model for p in in_order(parked)] == [model.name for model in MODELS]


def test_only_numbers_that_jsonb_may_refuse_are_written_anew() -> None:
    values = (b'{"a":1.50,"b":1e3}', b'{"a":1e200000,"b":1.50}')
    stretch = Stretch("t", 0, 0, 2, entries=[Entry("a", "s", 0, n, [Insert(TABLE, ("s", v, 0, n))]) for n, v in enumerate(values)])
    stretch.make_careful()
    written = [row.values[1] for entry in stretch.entries for row in entry.rows if isinstance(row, Insert)]
    assert written == [values[0], b'{"a": null, "b": 1.5}']
