"""From a row of the analysts' views to the record that wrote it, and so to its proof.

The rule not to break: the database only says where to look; what is proven is the record, as the log holds it.
"""

from __future__ import annotations

import psycopg
from psycopg import sql

from chimera.errors import ChimeraError

SCHEMA = "analytics_v1"
PLACE = ("topic", "partition", "offset")


class NoSuchRow(ChimeraError):
    """No row, or more than one, goes by that name; or the view's rows come from no one record."""


def place_of(dsn: str, row: str) -> tuple[str, int, int]:
    """Topic, partition and offset of the record that wrote a row last: `VIEW:KEY`, KEY a value of that row alone, or
    COLUMN=VALUE, several of them with a comma between.

    Raises `NoSuchRow` with the way out, and what the database raises.
    """
    view, _, key = row.partition(":")
    told = [part.partition("=") for part in key.split(",")]
    with psycopg.connect(dsn) as connection:
        known: dict[str, str] = dict(
            connection.execute(
                "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = %s AND table_name = %s",
                (SCHEMA, view),
            ).fetchall()
        )
        if not known or not key:
            raise NoSuchRow(f"{row!r}: write VIEW:KEY, e.g. posts:2124522906800095232; `chimera sql --views` lists the views")
        if not known.keys() >= set(PLACE):
            raise NoSuchRow(
                f"rows of {view} come from no one record (it has no {', '.join(PLACE)}): prove a row of the view it is made of"
            )
        if all(equals and column in known for column, equals, _ in told):
            wanted = [value for _, _, value in told]
            where = sql.SQL(" AND ").join(sql.SQL("{}::text = %s").format(sql.Identifier(column)) for column, _, _ in told)
        else:
            columns = [name for name, kind in known.items() if kind in ("text", "uuid", "bigint", "integer") and name not in PLACE]
            wanted = [key] * len(columns)
            where = sql.SQL(" OR ").join(sql.SQL("{}::text = %s").format(sql.Identifier(name)) for name in columns)
        place = sql.SQL(", ").join(map(sql.Identifier, PLACE))
        query = sql.SQL("SELECT DISTINCT {} FROM {} WHERE {} LIMIT 6").format(place, sql.Identifier(SCHEMA, view), where)
        found = connection.execute(query, wanted).fetchall()
    if len(found) != 1:
        many = "no row" if not found else "more than one row" if len(found) < 6 else "many rows"
        raise NoSuchRow(
            f"{many} of {view} with {key!r}: name one by columns that tell it apart, as {view}:COLUMN=VALUE,COLUMN=VALUE"
        )
    topic, partition, offset = found[0]
    return str(topic), int(partition), int(offset)
