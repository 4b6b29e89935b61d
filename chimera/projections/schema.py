"""Brings the read models' schema up to date by Alembic, from code.

The rule not to break: nothing is truncated or altered in place outside a migration; a rebuild has a schema of its own.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, cast

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config
from psycopg import sql

from chimera.errors import ChimeraError
from chimera.projections import views

MIGRATIONS = Path(__file__).resolve().parents[2] / "sql"
CORE = "core"
LOCK = 0x43_48_49_4D  # one migration at a time per database ("CHIM")


class MigrationFailed(ChimeraError):
    """The database is not what the migrations expect, or cannot be reached."""


HEAD = "head"


def migrate(dsn: str, schema: str = CORE, *, analytics: bool | None = None, revision: str = HEAD) -> None:
    """Create or upgrade `schema` in the database behind `dsn` (a `postgresql://` address or libpq text); repeating it is harmless.

    `analytics` also makes the analysts' views `analytics_v1` (default: for `core` only). An older `revision` is for who asks how
    its tables are upgraded: those of today are read by nobody's views then. Raises `MigrationFailed`.
    """
    if not MIGRATIONS.is_dir():
        raise MigrationFailed(f"no migrations in {MIGRATIONS}: install Chimera from its source tree (`pip install -e .`)")
    logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)  # six lines at each start that say nothing
    engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=lambda: _connect(dsn), poolclass=sqlalchemy.pool.NullPool)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
            quoted = '"' + schema.replace('"', '""') + '"'
            connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {quoted}")
            connection.exec_driver_sql(f"SET LOCAL search_path TO {quoted}")
            config.attributes.update(
                connection=connection, schema=schema, analytics=schema == CORE if analytics is None else analytics
            )
            command.upgrade(config, revision)
            if config.attributes["analytics"] and revision == HEAD:
                views.build(cast(psycopg.Connection[Any], connection.connection.driver_connection), schema)
    except (sqlalchemy.exc.SQLAlchemyError, psycopg.Error) as error:
        first = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise MigrationFailed(
            f"cannot migrate schema {schema!r}: {first}. Is the database up and yours to change? (`chimera status`)"
        ) from error
    finally:
        engine.dispose()


def take_indexes(connection: psycopg.Connection[Any], schema: str) -> list[str]:
    """Drop the indexes that guard nothing; how they are made again."""
    rows = connection.execute(
        "SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " JOIN pg_class t ON t.oid = i.indrelid"
        " WHERE c.relnamespace = %s::regnamespace AND NOT i.indisunique AND NOT t.relispartition ORDER BY 1",
        (schema,),
    ).fetchall()
    for name, _ in rows:
        connection.execute(f"DROP INDEX {name}".encode())  # as regclass quotes it
    return [definition for _, definition in rows]


def take_references(connection: psycopg.Connection[Any], schema: str) -> list[str]:
    """Drop the foreign keys; statements that make them again, each harmless where its key is there already.

    They raise `psycopg.errors.ForeignKeyViolation` where a row refers to none.
    """
    rows = connection.execute(
        "SELECT conrelid::regclass::text, quote_ident(conname), pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = %s::regnamespace AND contype = 'f' AND conparentid = 0 ORDER BY 1, 2",
        (schema,),
    ).fetchall()
    for table, name, _ in rows:  # as regclass and quote_ident quote them
        connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}".encode())
    return [
        f"DO $$ BEGIN ALTER TABLE {table} ADD CONSTRAINT {name} {definition}; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
        for table, name, definition in rows
    ]


def bare(connection: psycopg.Connection[Any], schema: str) -> list[str]:
    """Take what slows a load from empty tables: foreign keys, for good (the log is what they would guard, and nobody writes there
    later), and indexes that only readers need. How those are made again.
    """
    take_references(connection, schema)
    return take_indexes(connection, schema)


def drop(dsn: str, schema: str) -> None:
    """Drop a scratch schema with all that is in it; refuses `core`."""
    if schema in (CORE, "public", "priv", "access", views.ANALYTICS):
        raise MigrationFailed(f"schema {schema!r} is not a scratch schema: it is never dropped from here")
    with _connect(dsn) as connection:
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))


def _connect(dsn: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(dsn, connect_timeout=10)
