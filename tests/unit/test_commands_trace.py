"""The causal tree: causation first, numbers where it is missing, nothing lost and nothing twice."""

from __future__ import annotations

from chimera.commands.cards import Address
from chimera.commands.trace import Node, Ruled, about, grown_from, tree
from chimera.events.envelope import Record
from chimera.events.records import CampaignStarted, Data, EffectClaimed, PlanDrafted, TaskPlanned, WorkFailed
from chimera.events.state import Change, Ruling

START = CampaignStarted(campaign_id="soup", name="Soup", brief={}, brief_hash="h")
PLAN = PlanDrafted(campaign=1, round=1, brief_edition=1, rows=[])


def opened(ordinal: int, attempt: int) -> TaskPlanned:
    return TaskPlanned(campaign=1, ordinal=ordinal, attempt=attempt)


def failed(ordinal: int, attempt: int) -> WorkFailed:
    return WorkFailed(campaign=1, ordinal=ordinal, attempt=attempt, reason="r")


def log(*entries: tuple[str, Data, str]) -> list[Ruled]:
    """(id, data, causation) in order; a campaign that starts is number 1."""
    made = []
    for offset, (id_, data, causation) in enumerate(entries):
        record = Record("t", 0, offset, offset, "agent/1", id_, data.TYPE, 1, "acme", "op", "", causation, "", data)
        changes = (Change("campaign", 1, 0, 0, "running"),) if data is START else ()
        made.append(Ruled(record, Ruling("applied", "", 0, 0, changes)))
    return made


def shape(nodes: list[Node]) -> object:
    return {node.ruled.record.id: shape(node.children) for node in nodes}


def test_causation_decides_where_it_is_known_and_numbers_elsewhere() -> None:
    events = log(
        ("s", START, ""),
        ("p", PLAN, ""),
        ("t1", opened(1, 1), ""),
        ("t2", opened(2, 1), "t1"),
        ("f", failed(1, 1), "gone"),
    )
    assert shape(tree(events, [r.record.id for r in events])) == {"s": {"p": {"t1": {"t2": {}, "f": {}}}}}


def test_a_task_is_shown_with_what_leads_to_it_and_nothing_else() -> None:
    events = log(("s", START, ""), ("p", PLAN, ""), ("t1", opened(1, 1), ""), ("t2", opened(2, 1), ""), ("f", failed(2, 1), ""))
    assert about(events, Address("ava", 1, 2, 0)) == {"t2", "f"}
    assert shape(tree(events, about(events, Address("ava", 1, 2, 0)))) == {"s": {"p": {"t2": {"f": {}}}}}


def test_one_attempt_of_a_task_leaves_the_others_out() -> None:
    events = log(("s", START, ""), ("a", opened(1, 1), ""), ("f", failed(1, 1), ""), ("b", opened(1, 2), ""))
    assert about(events, Address("ava", 1, 1, 2)) == {"b"}
    assert about(events, Address("ava", 1, 0, 0)) == {"s", "a", "f", "b"}


def test_everything_that_a_record_caused_hangs_below_it() -> None:
    events = log(("s", START, ""), ("p", PLAN, ""), ("t1", opened(1, 1), ""), ("t2", opened(2, 1), ""), ("f", failed(1, 1), ""))
    assert grown_from(events, "t1") == {"t1", "f"}
    assert grown_from(events, "s") == {"s", "p", "t1", "t2", "f"}


def test_a_second_copy_and_a_cause_that_comes_later_make_no_loop() -> None:
    claim = EffectClaimed(campaign=1, ordinal=1, attempt=1, effect_hash="h", claim=1, token="t", lease_ms=1)
    events = log(("a", opened(1, 1), "b"), ("b", claim, "a"), ("a", opened(1, 1), "b"), ("c", claim, "c"))
    assert shape(tree(events, ["a", "b", "c"])) == {"a": {"b": {"c": {}}}}
