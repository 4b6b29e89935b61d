"""Many new rows at once are copied; the table is the one that statements would have made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal

import psycopg
import pytest

from chimera.projections.batch import Batch
from chimera.projections.checkpoints import connect
from chimera.projections.new_rows import FEW, open_new
from chimera.projections.rows import Put, Set, Table, Value
from chimera.projections.write import Connection, write_batch

THINGS = Table("things", ("id", "part"), once=frozenset({"first"}))
AWKWARD = [
    "plain",
    "tab\tand\nline\r",
    "C:\\temp \\n",
    'quotes " and \\"',
    "a NUL \x00 here",
    "says \\u0000 and \\\\u0000",
    "ü €",
    "",
]


@pytest.fixture
def connection(make_database: Callable[[], str]) -> Iterator[Connection]:
    with connect(make_database()) as made:
        for schema in ("copied", "stated"):
            made.execute(f"CREATE SCHEMA {schema}".encode())
            made.execute(
                f"CREATE TABLE {schema}.things (id text, part int, first text, note text, tags text[], body jsonb, cost numeric,"
                " flag boolean, score float8, seen timestamptz, PRIMARY KEY (id, part))".encode()
            )
        yield made


def thing(n: int, *, fresh: bool, first: str = "then") -> Put:
    text = AWKWARD[n % len(AWKWARD)]
    values: dict[str, Value] = {
        "first": first, "note": text, "tags": [text, "x"] if n % 3 else [], "body": b'{"a": "\\\\ \\" \\n", "n": 1.50}',
        "cost": Decimal("0.00100000") * n, "flag": bool(n % 2), "score": n / 7, "seen": "2026-11-22T00:00:00.123+00:00",
    }  # fmt: skip
    return Put(THINGS, (f"{text.replace(chr(0), '')}{n}", n), values | ({"note": None} if n % 5 == 0 else {}), fresh)


def batch_of(*rows: Put | Set) -> Batch:
    batch = Batch()
    batch.take(rows)
    return batch


def there(connection: Connection, schema: str) -> list[tuple[object, ...]]:
    return connection.execute(f"SELECT * FROM {schema}.things ORDER BY id, part".encode()).fetchall()


def test_rows_that_are_copied_are_those_that_statements_write(connection: Connection) -> None:
    for schema, fresh in (("copied", True), ("stated", False)):
        rows = [thing(n, fresh=fresh) for n in range(2 * FEW)]
        changed = [Set(THINGS, row.key, {"note": "changed"}) for row in rows[::7]]
        write_batch(connection, schema, batch_of(*rows, *changed), [THINGS])
    assert len(there(connection, "copied")) == 2 * FEW
    assert there(connection, "copied") == there(connection, "stated")


def test_only_many_that_were_said_to_be_new_are_copied(connection: Connection) -> None:
    for fresh, left in ((FEW, FEW + 50), (FEW + 1, 49)):
        batch = batch_of(*(thing(n, fresh=n < fresh) for n in range(FEW + 50)))
        entries = list(batch.pending[THINGS].items())
        assert len(open_new(connection, "copied", THINGS, tuple(entries[0][1].values), entries)) == left


def test_a_row_that_is_there_though_it_was_said_to_be_new_takes_the_new_values_and_keeps_what_is_set_once(
    connection: Connection,
) -> None:
    write_batch(connection, "copied", batch_of(thing(7, fresh=True, first="long ago")), [THINGS])
    with connection.transaction():
        write_batch(connection, "copied", batch_of(*(thing(n, fresh=True) for n in range(2 * FEW))), [THINGS])
    assert len(there(connection, "copied")) == 2 * FEW
    (first, note) = connection.execute("SELECT first, note FROM copied.things WHERE part = 7").fetchall()[0]
    assert (first, note) == ("long ago", thing(7, fresh=True).values["note"])


def test_of_many_new_rows_one_that_is_refused_leaves_none(connection: Connection) -> None:
    bad = Put(THINGS, ("bad", 1), thing(1, fresh=True).values | {"body": b'{"n": 1e200000}'}, fresh=True)
    with pytest.raises(psycopg.DataError), connection.transaction():
        write_batch(connection, "copied", batch_of(*(thing(n, fresh=True) for n in range(2 * FEW)), bad), [THINGS])
    assert there(connection, "copied") == []
