"""Every cell of the law's table, walked: the record that counts, and for each number, hash, signature and guard the wrong one.

The cells stand in `tests.cells`. Each record is tried twice: the second is always void and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from chimera.events import records as rec
from chimera.events.does.campaigns import Spot, spot_of
from chimera.events.envelope import Record
from chimera.events.law import TABLE, THERE, Row, TaskRow
from chimera.events.state import Agent
from chimera.events.state_codec import state_from_json
from tests import situations as was
from tests.cells import COUNTS, WRONG, Counts, Wrong, generated
from tests.histories import KEY, record
from tests.lawspec import Given, Then, given
from tests.makes import TOLD, next_number
from tests.situations import given_of, log_of

COUNTING = [(name, i, cell) for name, cells in COUNTS.items() for i, cell in enumerate(cells)]
VOID = [
    *((name, f"{i} {cell.reason}", cell) for name, cells in WRONG.items() for i, cell in enumerate(cells)),
    *generated(),
]


def run(cell: Counts | Wrong) -> Then:
    g = given_of(cell.given)
    return g.when(cell.when(log_of(cell.given)), actor=cell.actor, after=cell.after)


@pytest.mark.parametrize("cell", [pytest.param(c, id=f"{name}-{i}") for name, i, c in COUNTING])
def test_a_record_that_counts_does_what_the_law_says(cell: Counts) -> None:
    then = run(cell)
    assert then.said == (("rejected", cell.reason) if cell.reason else ("applied", ""))
    assert " ".join(f"{c.what}:{c.status}" for c in then.ruling.changes) == cell.changes
    assert then.ruling.version - then.ruling.version_before == cell.version


@pytest.mark.parametrize("cell", [pytest.param(c, id=f"{name}-{why}") for name, why, c in VOID])
def test_a_record_that_does_not_count_is_void(cell: Wrong) -> None:
    assert run(cell).said == ("void", cell.reason)


@pytest.mark.parametrize("name", COUNTS)
class TestWhateverTheRecordIs:
    """Cells that every row has."""

    def cell(self, name: str) -> tuple[Given, Counts, rec.Data]:
        first = COUNTS[name][0]
        return given_of(first.given), first, first.when(log_of(first.given))

    def test_bytes_nobody_can_read_are_void_and_quarantine_the_agent(self, name: str) -> None:
        g, _, data = self.cell(name)
        then = g.when_record(replace(record(data, g.offset, g.now + 1), data=None, defect="no value"))
        assert then.said == ("void", "unreadable")
        assert then.state is None or (then.state.held and then.changed("agent") == ["quarantined"])

    def test_a_type_this_code_does_not_know_is_void(self, name: str) -> None:
        g, _, data = self.cell(name)
        unknown = replace(record(data, g.offset, g.now + 1), data=None, type=f"{name}2")
        assert g.when_record(unknown).said == ("void", "unknown_type")

    def test_content_that_does_not_match_its_hash_is_void(self, name: str) -> None:
        g, first, data = self.cell(name)
        assert g.when(data, actor=first.actor, after=first.after, hash_ok=False).said == ("void", "wrong_hash")

    def test_another_tenants_record_is_void(self, name: str) -> None:
        g, first, data = self.cell(name)
        if name != "AgentEnrolled":
            assert g.when(data, actor=first.actor, after=first.after, tenant="other").said == ("void", "forged")

    def test_before_the_agent_is_enrolled_it_is_void(self, name: str) -> None:
        _, first, data = self.cell(name)
        if name != "AgentEnrolled":
            assert given_of(was.nobody).when(data, actor=first.actor).said == ("void", "unknown")

    def test_it_is_signed_where_the_law_lists_a_key_for_its_role(self, name: str) -> None:
        g, first, data = self.cell(name)
        role, copied = data.ROLE, getattr(data, "copied", None) is not None
        if role in ("command", "courier") or copied:
            for signer in (None, "another key"):
                assert g.when(data, actor=first.actor, after=first.after, signed_by=signer).said == ("void", "forged")
            assert g.when(data, actor=first.actor, after=first.after, signed_by=KEY).ruling.outcome == "applied"
        if role == "command":
            return
        hard = replace(g, law=replace(g.law, keys={**g.law.keys, role: frozenset(["role key"])}))
        for signer in (None, KEY):
            assert hard.when(data, actor=first.actor, after=first.after, signed_by=signer).said == ("void", "forged")
        assert hard.when(data, actor=first.actor, after=first.after, signed_by="role key").ruling.outcome == "applied"

    def test_after_its_campaign_has_closed_it_is_void(self, name: str) -> None:
        _, first, data = self.cell(name)
        if not hasattr(data, "campaign") or name == "FundsAnswered":
            return
        closed = log_of(was.closed)
        if hasattr(data, "command_no") and data.command_no:
            data = data.model_copy(update={"command_no": next_number(closed)})
        assert given_of(was.closed).when(data, actor=first.actor).said == ("void", "closed")

    def test_after_its_task_has_closed_it_is_void(self, name: str) -> None:
        _, first, data = self.cell(name)
        if not hasattr(data, "ordinal") or name == "FundsAnswered":
            return
        closed = log_of(was.task_closed)
        update: dict[str, Any] = {"ordinal": 1}
        if hasattr(data, "command_no") and data.command_no:
            update["command_no"] = next_number(closed)
        assert given_of(was.task_closed).when(data.model_copy(update=update), actor=first.actor).said == ("void", "closed")


def test_every_row_has_a_record_that_counts() -> None:
    assert COUNTS.keys() == TABLE.keys()


def test_every_guard_of_every_row_is_the_one_that_says_no_in_some_cell() -> None:
    walked = set()
    cells = [*((name, cell) for name, _, cell in VOID), *_closing_cells()]
    for name, cell in cells:
        g = given_of(cell.given)
        r = record(cell.when(log_of(cell.given)), g.offset, g.now + cell.after, actor=cell.actor)
        if not g.state:
            continue
        agent = state_from_json(g.state)
        walked.add((name, _refusing(name, agent, r)))
    expected = {(name, guard.__name__) for name, row_ in TABLE.items() for guard in (*_first(row_), *row_.counts_when)}
    assert walked >= expected, f"guards that no cell has seen saying no: {sorted(expected - walked)}"


def test_where_a_record_lands_is_told_as_its_first_guards_tell_it() -> None:
    counting: list[tuple[str, Any]] = [(name, cell) for name, found in COUNTS.items() for cell in found]
    told = set()
    for name, cell in [*counting, *((name, cell) for name, _, cell in VOID), *_closing_cells()]:
        state = given_of(cell.given).state
        if not isinstance(TABLE[name], TaskRow) or not state:
            continue
        agent, r = state_from_json(state), record(cell.when(log_of(cell.given)), 1, 1)
        at = spot_of(agent, r)
        said = next((reason for guard in THERE if (reason := guard(agent, r)) is not None), None)
        told.add(said)
        if said is None:
            assert isinstance(at, Spot)
            assert (at.campaign.number, at.task.ordinal) == (r.data.campaign, r.data.ordinal)  # type: ignore[union-attr]
        else:
            assert at == said
    assert told == {None, "closed", "unknown"}


def _first(row_: Row[Agent] | TaskRow) -> tuple[Callable[[Agent, Record], str | None], ...]:
    return THERE if isinstance(row_, TaskRow) else ()


def _refusing(name: str, agent: Agent, r: Record) -> str | None:
    """The guard of the record's row that says no, if any does."""
    row_ = TABLE[name]
    refusing = next((guard.__name__ for guard in _first(row_) if guard(agent, r) is not None), None)
    if refusing is not None:
        return refusing
    at: Any = spot_of(agent, r) if isinstance(row_, TaskRow) else agent
    return next((guard.__name__ for guard in row_.counts_when if guard(at, r) is not None), None)


def _closing_cells() -> Iterator[tuple[str, Wrong]]:
    for name, cells in COUNTS.items():
        if hasattr(cells[0].when(log_of(cells[0].given)), "ordinal") and name != "FundsAnswered":
            yield (
                name,
                Wrong(was.task_closed, lambda log, c=cells[0]: c.when(log_of(c.given)).model_copy(update={"ordinal": 1}), "closed"),
            )


def test_a_copy_that_may_not_count_is_rejected_and_does_not_block_the_next() -> None:
    copied = rec.Copied(source="tenant/acme", number=1)
    refused = given_of(was.closed).when(rec.BriefChanged(copied=copied, **TOLD))
    assert refused.said == ("rejected", "unknown")
    assert refused.state is not None
    assert refused.state.copies_in == {"tenant/acme": 1}


def test_a_command_is_answered_from_its_id_for_as_long_as_32_others_have_come() -> None:
    log = was.enrolled()
    first = record(rec.SoulAdopted(command_no=2, digest="d", soul="s"), 1, log.now + 1, id_="the-one")
    log.add_record(first)
    for _ in range(31):
        log.command(rec.SoulAdopted, digest="d", soul="s")
    retried = replace(first, offset=99, data=first.data.model_copy(update={"command_no": next_number(log)}))  # type: ignore[union-attr]
    assert given(log).when_record(retried).said == ("void", "duplicate")
    log.command(rec.SoulAdopted, digest="d", soul="s")
    retried = replace(first, offset=99, data=first.data.model_copy(update={"command_no": next_number(log)}))  # type: ignore[union-attr]
    assert given(log).when_record(retried).said == ("applied", "")
