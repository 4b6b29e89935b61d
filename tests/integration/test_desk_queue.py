"""The review desk's queue over many cards: its order, what it can be narrowed to, and who may see what."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Mapping
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from benchmarks.desk import let_wait
from chimera.commands.triage import NEAR_END, REACH_BY_MODE, REACH_OF_ANSWER, RISK_BY_CLASS, RISK_BY_TAINT, RISK_BY_WHY
from chimera.control.queue import AT_ONCE, Queue, Wanted, mark, queue, read_wanted
from chimera.projections import demo


@pytest.fixture(scope="module")
def made(postgres_dsn: str) -> str:
    """A database in which 240 made-up cards wait, of two tenants, and some calls' ends are unknown."""
    database = f"demo_{uuid.uuid4().hex[:12]}"
    demo.make(postgres_dsn, database, demo.Size(posts=200, observations=1, asset_events=0))
    own = demo.address(postgres_dsn, database)
    let_wait(own, 240)
    return own


def asked(made: str, wanted: Wanted) -> Queue:
    async def ask() -> Queue:
        async with await psycopg.AsyncConnection.connect(made, autocommit=True) as connection:
            return await queue(connection, wanted)

    return asyncio.run(ask())


def waiting(made: str) -> list[dict[str, Any]]:
    with psycopg.connect(made, row_factory=dict_row) as connection:
        return connection.execute("SELECT * FROM analytics_v1.review_queue").fetchall()


def weight(row: Mapping[str, Any]) -> float:
    """As `triage.place` has it, of what a row knows."""
    lasts = (row["expires_at"] - row["opened_at"]).total_seconds() if row["expires_at"] is not None else 0
    passed = min(1.0, max(0.0, row["waiting"].total_seconds() / lasts)) if lasts else 0.0
    risk = RISK_BY_CLASS[row["effect_class"]] * RISK_BY_WHY.get(row["why"], 1.0) * RISK_BY_TAINT[row["taint"] or "owner"]
    reach = REACH_BY_MODE[row["mode"]] * (1 if row["thread"] is None else REACH_OF_ANSWER)
    return risk * (1 + min(9.0, float(row["max_cost_usd"]) / 10)) * (1 + (NEAR_END - 1) * passed) * reach


def test_the_heaviest_cards_stand_first_and_the_rest_is_counted(made: str) -> None:
    # given cards of every class, reason and price that wait for longer and less long
    with psycopg.connect(made, autocommit=True) as connection:
        connection.execute("UPDATE core.policies SET inline = jsonb_build_object('expiry_ms', 86400000)")
    rows = waiting(made)
    # when a page of them is asked for
    found = asked(made, Wanted(None))
    # then it holds the heaviest, risk x deadline x reach, in that order
    assert len(found.cards) == AT_ONCE < found.total == len(rows)
    shown = [weight(row) for row in found.cards]
    assert shown == sorted(shown, reverse=True)
    assert min(shown) >= sorted(map(weight, rows), reverse=True)[AT_ONCE - 1] * 0.999  # time passes between the two questions


def test_a_card_that_somebody_holds_stands_behind_what_nobody_holds(made: str) -> None:
    first = asked(made, Wanted(None, only={"agent": "demo1"})).cards
    held = str(first[0]["card"])
    assert [row["card"] for row in asked(made, Wanted(None, only={"agent": "demo1"}, behind=(held,))).cards][-1] == held


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        (Wanted(None, "sensitive"), lambda row: row["risk_tags"] or row["why"] == "sensitive"),
        (Wanted(None, "low confidence"), lambda row: row["why"] in ("confidence", "bad_value")),
        (Wanted(None, "financial"), lambda row: row["effect_class"] != "publish"),
        (Wanted(None, only={"platform": "instagram"}), lambda row: row["platform"] == "instagram"),
        (
            Wanted(None, only={"campaign": "demo-2", "agent": "demo3"}),
            lambda row: (row["campaign_id"], row["agent"]) == ("demo-2", "demo3"),
        ),
        (Wanted(None, search="number 77"), lambda row: "number 77" in row["text"]),
        (Wanted(None, search="100%"), lambda row: "100%" in row["text"]),
        (Wanted(["bolt"]), lambda row: row["tenant"] == "bolt"),
        (Wanted(["acme"], only={"tenant": "bolt"}), lambda row: False),
        (Wanted([]), lambda row: False),
    ],
    ids=lambda value: repr(value)[:60] if isinstance(value, Wanted) else "",
)
def test_a_queue_holds_what_was_asked_for_and_counts_it(made: str, wanted: Wanted, fits: Any) -> None:
    found = asked(made, wanted)
    expected = {row["card"] for row in waiting(made) if fits(row)}
    assert {row["card"] for row in found.cards} <= expected
    assert (found.total, len(found.cards)) == (len(expected), min(AT_ONCE, len(expected)))


def test_chips_offer_what_the_queue_can_be_narrowed_to_with_how_many_cards(made: str) -> None:
    found = asked(made, Wanted(None))
    by_platform = Counter(row["platform"] for row in waiting(made))
    assert {chip.value: chip.cards for chip in found.chips["platform"]} == by_platform
    assert {chip.value for chip in found.chips["tenant"]} == {"acme", "bolt"}
    assert {chip.words for chip in found.chips["campaign"]} == {"Autumn", "Winter"}
    assert [chip.value for chip in asked(made, Wanted(["bolt"])).chips["tenant"]] == ["bolt"]


def test_what_nobody_knows_the_end_of_is_a_queue_of_its_own(made: str) -> None:
    found = asked(made, Wanted(None, "unknown"))
    assert found.cards
    assert {row["why"] for row in found.cards} == {"unknown"}
    assert found.total == found.counts["unknown"] == len(found.cards)
    assert asked(made, Wanted(["nobody"], "unknown")).cards == []


@pytest.mark.parametrize("expiry_ms", [10**15, 2**53, -(2**53)])
def test_a_policy_whose_cards_never_close_hides_no_queue(made: str, expiry_ms: int) -> None:
    # given one agent whose cards would stay open beyond the year 9999, or were over before the calendar began
    own = "agent_id = (SELECT min(agent_id) FROM core.reviews WHERE status = 'waiting')"
    with psycopg.connect(made) as connection:
        connection.execute(f"UPDATE core.policies SET inline = jsonb_build_object('expiry_ms', {expiry_ms}) WHERE {own}".encode())
    # then every card is listed, and those are said to have no such time
    found = {row["card"]: row["expires_at"] for row in waiting(made)}
    assert None in found.values()
    assert asked(made, Wanted(None)).total == len(found)
    with psycopg.connect(made) as connection:
        connection.execute("UPDATE core.policies SET inline = jsonb_build_object('expiry_ms', 86400000)")


def test_a_page_s_address_is_read_and_written_the_same() -> None:
    address = {"kind": "low confidence", "platform": "x", "q": "tea"}
    assert read_wanted(address, None).chosen() == address
    assert read_wanted({"kind": "no such", "q": " "}, None).chosen() == {}


def test_a_queue_that_moved_is_marked_otherwise(made: str) -> None:
    async def marks() -> tuple[str, str, str]:
        async with await psycopg.AsyncConnection.connect(made) as connection:  # rolled back at the end
            before, again = await mark(connection), await mark(connection)
            await connection.execute("UPDATE core.reviews SET status = 'approved' WHERE ordinal = 100001")
            after = await mark(connection)
            await connection.rollback()
            return before, again, after

    before, again, after = asyncio.run(marks())
    assert before == again != after
