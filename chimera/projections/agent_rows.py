"""The engine's own model: one row per agent, its state as it is now.

The rule not to break: a row moves on only from the version that the fold started from; the database looks once more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg import sql

from chimera.projections import parking
from chimera.projections.batch import Entry, Stretch, Touched
from chimera.projections.parking import Connection, Parking
from chimera.projections.refusals import REFUSED, Disagreement, rows_json
from chimera.projections.rows import Table, clipped

AGENTS = Table("agents", ("agent_id",))
"""The engine's own model: one row per agent, its state as it is now."""
AGENT_COLUMNS: dict[str, LiteralString] = {
    "tenant": "text", "name": "text", "status": "text", "quarantined": "boolean", "state_version": "bigint", "command_no": "bigint",
    "policy_edition": "bigint", "open_tasks": "integer", "open_campaigns": "integer", "updated_at": "timestamptz",
    "partition": "smallint", "offset": "bigint",
}  # fmt: skip
"""Columns of an agent's row beside its key, and their types."""


class Move(NamedTuple):
    """An agent that a stretch moved, as an entry that can be parked."""

    entry: Entry
    touched: Touched


def moves_of(stretches: Sequence[Stretch], found: Parking) -> list[Move]:
    """Those agents' rows that are to be written; the parked ones are counted."""
    every = {}
    for stretch in stretches:
        for key, touched in stretch.touched.items():
            entry = Entry(AGENTS.name, clipped(key), stretch.partition, int(touched.row["offset"]), [])
            every[entry.pair] = Move(entry, touched)
    return [every[entry.pair] for entry in found.flowing(move.entry for move in every.values())]


def place_agents(connection: Connection, schema: str, moves: Sequence[Move], found: Parking) -> None:
    """Write rows of agents; where some are refused, halve until each is alone, and park it. Raises `Disagreement`."""
    if not moves:
        return
    try:
        with connection.transaction():
            write_agents(connection, schema, moves)
    except REFUSED as error:
        if len(moves) == 1:
            found.park(moves[0].entry, parking.reason_of(error))
            return
        middle = len(moves) // 2
        place_agents(connection, schema, moves[:middle], found)
        place_agents(connection, schema, moves[middle:], found)


def put_agent(connection: Connection, schema: str, row: Mapping[str, Any]) -> None:
    """The row of an agent as healing finds it, whatever is there now, within the caller's transaction."""
    table = sql.Identifier(schema, AGENTS.name)
    connection.execute(
        sql.SQL(
            "INSERT INTO {0} ({1}) SELECT {1} FROM json_populate_recordset(NULL::{0}, %s::json)"
            " ON CONFLICT (agent_id) DO UPDATE SET {2}"
        ).format(
            table,
            sql.SQL(", ").join(sql.Identifier(c) for c in ("agent_id", *AGENT_COLUMNS)),
            sql.SQL(", ").join(sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(c)) for c in AGENT_COLUMNS),
        ),
        (rows_json([dict(row)]),),
    )


def write_agents(connection: Connection, schema: str, moves: Sequence[Move]) -> None:
    """Rows of agents, new and moved. Raises `Disagreement`.

    The database enforces the versions once more: a row is updated only from the version that the fold started from.
    """
    new = [touched.row for _, touched in moves if touched.before is None]
    known = [touched.row | {"before": touched.before} for _, touched in moves if touched.before is not None]
    sent: list[tuple[psycopg.Cursor[Any], int]] = []
    if not moves:
        return
    with connection.pipeline():
        if new:
            sent.append((connection.execute(_agents_made(schema), (rows_json(new),)), len(new)))
        if known:
            sent.append((connection.execute(_agents_moved(schema), (rows_json(known),)), len(known)))
    if any(cursor.rowcount != wanted for cursor, wanted in sent):
        _find_disagreement(connection, schema, moves)


@lru_cache(maxsize=1024)
def _agents_made(schema: str) -> bytes:
    return (
        sql.SQL(
            "INSERT INTO {0} ({1}) SELECT {1} FROM json_populate_recordset(NULL::{0}, %s::json) ON CONFLICT (agent_id) DO NOTHING"
        )
        .format(sql.Identifier(schema, "agents"), sql.SQL(", ").join(sql.Identifier(c) for c in ("agent_id", *AGENT_COLUMNS)))
        .as_bytes()
    )


@lru_cache(maxsize=1024)
def _agents_moved(schema: str) -> bytes:
    return (
        sql.SQL(
            "UPDATE {} a SET {} FROM json_to_recordset(%s::json) AS u(agent_id text, before bigint, {})"
            " WHERE a.agent_id = u.agent_id AND a.state_version = u.before"
        )
        .format(
            sql.Identifier(schema, "agents"),
            sql.SQL(", ").join(sql.SQL("{0} = u.{0}").format(sql.Identifier(c)) for c in AGENT_COLUMNS),
            sql.SQL(", ").join(sql.SQL("{} {}").format(sql.Identifier(c), sql.SQL(t)) for c, t in AGENT_COLUMNS.items()),
        )
        .as_bytes()
    )


def _find_disagreement(connection: Connection, schema: str, moves: Sequence[Move]) -> None:
    """Name the agent. The rows written so far are rolled back by the caller, so compare with what is visible outside."""
    found = connection.execute(
        sql.SQL('SELECT agent_id, state_version, "offset" FROM {} WHERE agent_id = ANY(%s)').format(
            sql.Identifier(schema, "agents")
        ),
        ([touched.row["agent_id"] for _, touched in moves],),
    ).fetchall()
    held = {row[0]: (row[1], row[2]) for row in found}
    for entry, touched in moves:
        at = held.get(touched.row["agent_id"])
        written_now = at is not None and at == (touched.row["state_version"], touched.row["offset"])
        if touched.before is None and at is not None and not written_now:
            raise Disagreement(
                entry.partition, f"agent {touched.row['name']!r} ({touched.row['agent_id']})", f"already there at version {at[0]}"
            )
        if touched.before is not None and not written_now:
            has = "no row" if at is None else f"version {at[0]}"
            raise Disagreement(
                entry.partition,
                f"agent {touched.row['name']!r} ({touched.row['agent_id']})",
                f"state_version before the batch is {touched.before} in the log, {has} in the database",
            )
    raise Disagreement(moves[0].entry.partition, "agents", "rows do not match the log")
