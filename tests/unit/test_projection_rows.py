"""Rows without a database: collapsing, values, routing."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera.projections.batch import Batch
from chimera.projections.copying import copy_field
from chimera.projections.folding import new_fold, project
from chimera.projections.models import MODELS, TABLES
from chimera.projections.questions import questions
from chimera.projections.refusals import rows_json
from chimera.projections.rows import Insert, Put, Row, Set, Table, as_json, clipped, money, raw_json, real, small, ts
from tests.integration.projection_data import PARTITIONS, History, day

PLAIN = Table("rows", ("id",), once=frozenset({"first"}))
GUARDED = Table("cards", ("id",), once=frozenset({"first"}), optional=True, only_while=("status", "waiting"))
statuses = st.sampled_from(["waiting", "done", "other"])
values = st.dictionaries(st.sampled_from(["status", "note"]), statuses, min_size=1)
keys = st.integers(0, 2).map(lambda n: (n,))
Stored = dict[object, dict[str, object]]


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Row], list[Row]]:
    table = draw(st.sampled_from([PLAIN, GUARDED]))
    puts = st.builds(
        lambda key, v, n: Put(table, key, {"status": "waiting", "first": n, "note": "", **v}), keys, values, st.integers(0, 9)
    )
    sets = st.builds(lambda key, v: Set(table, key, v), keys, values)
    steps: st.SearchStrategy[list[Row]] = st.lists(st.one_of(puts, sets), max_size=12)
    return draw(steps), draw(steps)


def written(table: Stored, row: Row) -> None:
    """What Postgres does with one row."""
    if isinstance(row, Put):
        before = table.get(row.key)
        table[row.key] = dict(row.values) if before is None else before | dict(row.values) | {"first": before["first"]}
    elif isinstance(row, Set) and row.key in table:
        only = row.table.only_while
        if only is None or table[row.key][only[0]] == only[1]:
            table[row.key].update(row.values)


@given(histories())
def test_a_collapsed_batch_gives_the_table_that_row_by_row_gives(history: tuple[list[Row], list[Row]]) -> None:
    earlier, later = history
    one_by_one: Stored = {}
    for row in earlier:
        written(one_by_one, row)
    in_one = {key: dict(v) for key, v in one_by_one.items()}
    batch = Batch()
    for row in later:
        # An update of a row that is nowhere is what the projector calls a disagreement: no log leads to it.
        if isinstance(row, Set) and row.key not in one_by_one and not row.table.optional:
            continue
        written(one_by_one, row)
        batch.take([row])
    for table, rows in batch.pending.items():
        for key, pending in rows.items():
            written(in_one, Put(table, key, pending.values) if pending.put else Set(table, key, pending.values))
    assert in_one == one_by_one


def test_a_row_is_new_in_a_batch_only_where_nothing_came_before_it() -> None:
    opened, again = Put(PLAIN, (1,), {"first": 1, "note": ""}, fresh=True), Put(PLAIN, (1,), {"first": 2, "note": ""})
    noted = Set(PLAIN, (1,), {"note": "x"})
    cases: list[tuple[list[Row], bool]] = [([opened, noted, again], True), ([again, opened], False), ([noted, opened], False)]
    for rows, fresh in cases:
        batch = Batch()
        batch.take(rows)
        assert batch.pending[PLAIN][(1,)].fresh is fresh


def test_what_a_model_says_is_new_was_never_written_before() -> None:
    h, written = History("new-chimera.log"), set[tuple[Table, object]]()
    for name in ("ava", "ben"):
        day(h, name)
    folds, said = {p: new_fold(p, PARTITIONS, h.root.public) for p in range(PARTITIONS)}, set[str]()
    for raw in h.raws():
        stretch = project(folds[raw.partition], [raw], 0)
        assert stretch is not None
        for row in (row for entry in stretch.parted() for row in entry.rows):
            if isinstance(row, Put) and row.fresh:
                assert (row.table, row.key) not in written
                said.add(row.table.name)
            if not isinstance(row, Insert):
                written.add((row.table, row.key))
    assert said == {"tasks", "effects"}


def test_in_json_a_null_byte_is_replaced_and_a_text_that_speaks_of_one_is_not() -> None:
    texts = ["\x00", "\\u0000", "\\\x00", "\\\\u0000", "\x00\x00", "plain"]
    assert orjson.loads(rows_json({"t": text} for text in texts)) == [{"t": text.replace("\x00", "\ufffd")} for text in texts]


@given(st.text())
def test_text_survives_the_copy_format(text: str) -> None:
    field = copy_field(text)
    assert "\t" not in field
    assert "\n" not in field
    back = field.replace("\\\\", "\0").replace("\\t", "\t").replace("\\n", "\n").replace("\\r", "\r").replace("\0", "\\")
    assert back == text.replace("\x00", "\ufffd")


def test_copy_fields_are_postgres_text() -> None:
    assert copy_field(None) == "\\N"
    assert copy_field(True) == "t"
    assert copy_field(Decimal("1E+3")) == "1000"
    assert copy_field(['a"b', "c\\d", ""]) == '{"a\\\\"b","c\\\\\\\\d",""}'
    assert copy_field(b'{"a":"\\n"}') == '{"a":"\\\\n"}'


@pytest.mark.parametrize(
    ("amount", "stored"),
    [
        ("0.000000001", "0"),
        ("12.5", "12.50000000"),
        ("1E+30", "999999999999"),
        ("-1E+30", "-999999999999"),
        ("NaN", "999999999999"),
    ],
)
def test_money_fits_its_column(amount: str, stored: str) -> None:
    assert str(money(Decimal(amount))) == stored


@given(st.integers())
def test_numbers_and_times_fit_their_columns(number: int) -> None:
    found = small(number)
    assert found is None or -(2**31) <= found < 2**31
    assert "1970" <= ts(number)[:4] <= "9999"


def test_what_jsonb_cannot_hold_is_replaced() -> None:
    assert raw_json(b'{"a":1.50,"hex":"1e999"}') == b'{"a":1.50,"hex":"1e999"}'
    assert orjson.loads(raw_json(b'{"a":NaN,"b":[1,-Infinity],"c":"\\u0000"}') or b"") == {"a": None, "b": [1, None], "c": "\ufffd"}
    assert raw_json(b"NaN is what this is not") is None
    assert orjson.loads(as_json({"a": float("inf"), "b": Decimal("1.5"), "c": "x\x00"})) == {"a": None, "b": "1.5", "c": "x\ufffd"}
    assert b"1000000000000000000000" in as_json({"n": 10**21})
    assert real(float("nan")) is None
    assert len(clipped("k" * 5000)) == 301


TABLES_IN = (
    "0001_core.sql",
    "0004_tenants.sql",
    "0005_signals.sql",
    "0013_transactions.sql",
    "0016_asset_uses.sql",
    "0012_assets.sql",
)


def test_every_table_belongs_to_one_model_and_is_in_a_migration() -> None:
    versions = Path(__file__).parents[2] / "sql" / "versions"
    ddl = "".join((versions / name).read_text() for name in TABLES_IN)
    names = [table.name for model in MODELS for table in model.tables]
    assert len(names) == len(set(names)) == len(TABLES)
    for table in TABLES:
        body = ddl.split(f"CREATE TABLE {table.name} (", 1)[1].split("\n);", 1)[0]
        declared = [
            line.split()[0].strip('"') for line in body.splitlines() if line.startswith("    ") and line.split()[0].islower()
        ]
        declared += ["offset"] if '"offset"' in body and "offset" not in declared else []
        assert set(table.key) <= set(declared)
        if table.appended:
            assert set(table.columns) == set(declared), table.name


def test_there_are_at_least_eight_questions_and_each_explains_itself() -> None:
    found = questions()
    assert len(found) >= 8
    assert all(q.question.endswith("?") and q.columns for q in found)
