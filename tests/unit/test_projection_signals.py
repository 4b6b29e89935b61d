"""What people said becomes rows without their words, and the round of answers names who answers what."""

from __future__ import annotations

from chimera.events import records as rec
from chimera.events.sealed import seal
from chimera.events.state import Ruling
from chimera.projections.models.signals import MODEL, SIGNALS
from chimera.projections.rows import Put, Set
from tests.histories import AGENT, record
from tests.unit.test_listening import Keys

APPLIED = Ruling("applied", "", 1, 1)


def heard(*ids: str) -> rec.SignalObserved:
    items = [
        rec.Signal(
            thread="x:7", external_id=id_, author=seal(Keys(), "s", "mia"), text=seal(Keys(), "s", "soup?"), observed_at=1000
        )
        for id_ in ids
    ]
    return rec.SignalObserved(source="x/social.mentions", number=3, cursor=ids[-1], items=items)


def drafted(signal: list[int], item: object) -> rec.PlanDrafted:
    def row(ordinal: int, kind: str) -> rec.PlanRow:
        return rec.PlanRow(ordinal=ordinal, kind=kind, title=kind, inputs={"signal": signal, "item": item})

    return rec.PlanDrafted(campaign=2, round=4, brief_edition=1, rows=[row(8, "reply"), row(9, "publish")], answers=1)


def test_each_item_of_a_poll_is_a_row_without_words_or_names() -> None:
    rows = MODEL.rows(record(heard("70", "71"), 5, 9000), APPLIED, None)
    assert [row.key for row in rows if isinstance(row, Put)] == [(AGENT, 5, 0), (AGENT, 5, 1)]
    second = rows[1]
    assert isinstance(second, Put)
    assert second.values["external_id"] == "71"
    assert "mia" not in str(rows)
    assert "soup" not in str(rows)


def test_the_round_of_answers_names_the_task_that_writes_the_answer() -> None:
    (row,) = MODEL.rows(record(drafted([0, 5], 1), 6, 9000), APPLIED, None)
    assert isinstance(row, Set)
    assert (row.table, row.key, row.values["campaign"], row.values["answered_by"]) == (SIGNALS, (AGENT, 5, 1), 2, 8)


def test_a_plan_that_names_no_signal_of_this_partition_answers_none() -> None:
    for signal, item in (([1, 5], 0), ([0], 0), ([0, 5], "x"), ([0, 5], None)):
        assert MODEL.rows(record(drafted(signal, item), 6, 9000), APPLIED, None) == []
