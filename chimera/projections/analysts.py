"""Who may ask: one guarded database role per analyst.

The rule not to break: an analyst reads `analytics_v1` and nothing else, sees own tenants only, and writes nowhere. What a session
can set for itself (time limits, read-only) is comfort; what holds are missing grants, the views' guard and the watchdog.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from chimera.errors import ChimeraError
from chimera.projections import views

Connection = psycopg.Connection[Any]

CONNECTIONS = 5
LIMIT_S = 60
TEMP_FILES = "2GB"
WRITERS = (
    "lo_creat", "lo_create", "lo_from_bytea", "lo_import", "lo_put", "lo_open", "lo_unlink", "lowrite", "lo_truncate",
    "lo_truncate64", "pg_logical_emit_message", "pg_notify",
    "pg_advisory_lock", "pg_advisory_lock_shared", "pg_try_advisory_lock", "pg_try_advisory_lock_shared",
    "pg_advisory_xact_lock", "pg_advisory_xact_lock_shared", "pg_try_advisory_xact_lock", "pg_try_advisory_xact_lock_shared",
)  # fmt: skip
"""Functions that leave something behind, or hold up the projector's leases, and that PostgreSQL lets everybody call."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


class BadAnalyst(ChimeraError):
    """The role cannot be made, changed or removed so."""


class Analyst(NamedTuple):
    """One role. `limit_s`: how long a statement of theirs may run; `sessions`: how many they have open now."""

    name: str
    tenants: list[str]
    limit_s: int
    added_by: str
    added_at: datetime
    sessions: int
    exists: bool


def analysts(connection: Connection) -> list[Analyst]:
    """All of them, by name; `exists` is false where somebody dropped the role by other means."""
    rows = connection.execute(
        "SELECT a.role, array_agg(a.tenant ORDER BY a.tenant), max(a.limit_s), min(a.added_by), min(a.added_at),"
        " (SELECT count(*) FROM pg_stat_activity s WHERE s.usename = a.role AND s.datname = current_database()),"
        " EXISTS (SELECT FROM pg_roles r WHERE r.rolname = a.role)"
        " FROM access.analysts a GROUP BY a.role ORDER BY a.role"
    ).fetchall()
    return [Analyst(*row) for row in rows]


def tenants(connection: Connection) -> list[str]:
    """Every tenant that the read models know."""
    found = connection.execute("SELECT tenant FROM core.agents UNION SELECT tenant FROM core.tenants ORDER BY 1").fetchall()
    return [row[0] for row in found]


def check(connection: Connection, name: str, wanted: Sequence[str]) -> bool:
    """May this role be made (or changed: then True) for these tenants? Raises `BadAnalyst`, which says what to do instead."""
    if not _NAME.fullmatch(name) or name.startswith("pg_"):
        raise BadAnalyst(f"'{name}' is no name for an analyst: small letters, digits and _ (at most 63), not beginning with pg_")
    known = tenants(connection)
    for tenant in wanted:
        if tenant not in known:
            raise BadAnalyst(f"the read models know no tenant '{tenant}': choose among {', '.join(known) or 'none yet'}")
    ours = connection.execute("SELECT 1 FROM access.analysts WHERE role = %s", (name,)).fetchone() is not None
    there = connection.execute("SELECT rolsuper, rolcanlogin FROM pg_roles WHERE rolname = %s", (name,)).fetchone()
    if there is not None and not ours:
        raise BadAnalyst(f"the database has a role '{name}' that is no analyst of this installation: choose another name")
    return ours and there is not None


def add(
    connection: Connection, name: str, wanted: Sequence[str], *, by: str, limit_s: int = LIMIT_S, password: str | None = None
) -> list[str]:
    """Make the role, or give it exactly these tenants and this limit. Returns the guards that this user could not set up.

    Raises `BadAnalyst`.
    """
    with connection.transaction():
        known = check(connection, name, wanted)
        role = sql.Identifier(name)
        if not known:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
        connection.execute(
            sql.SQL(
                "ALTER ROLE {} LOGIN NOCREATEDB NOCREATEROLE NOINHERIT CONNECTION LIMIT {}" + (" PASSWORD {}" if password else "")
            ).format(role, sql.Literal(CONNECTIONS), *([sql.Literal(password)] if password else []))
        )
        for setting, value in (
            ("default_transaction_read_only", "on"),
            ("statement_timeout", f"{limit_s}s"),
            ("idle_in_transaction_session_timeout", "60s"),
            ("lock_timeout", "2s"),
            ("search_path", views.ANALYTICS),
            ("timezone", "UTC"),
            *views.PLANNING.items(),
        ):
            connection.execute(sql.SQL("ALTER ROLE {} SET {} = {}").format(role, sql.Identifier(setting), sql.Literal(value)))
        gaps = _close(connection, role)
        database = sql.Identifier(_database(connection))
        connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, role))
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(views.ANALYTICS), role))
        connection.execute("DELETE FROM access.analysts WHERE role = %s", (name,))
        for tenant in sorted(set(wanted)):
            connection.execute(
                "INSERT INTO access.analysts (role, tenant, added_by, limit_s) VALUES (%s, %s, %s, %s)", (name, tenant, by, limit_s)
            )
        views.grant(connection, views.views())
    return gaps


def _close(connection: Connection, role: sql.Identifier) -> list[str]:
    """Close what PostgreSQL leaves open to everybody. What this user may not close is named."""
    database = sql.Identifier(_database(connection))
    names = connection.execute(
        "SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = ANY(%s)",
        (list(WRITERS),),
    ).fetchall()
    functions = ", ".join(row[0] for row in names)
    owner = connection.execute("SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'access'").fetchone()
    assert owner is not None
    steps: list[tuple[str, sql.SQL | sql.Composed]] = [
        (
            "analysts can fill the disk with temporary files: ALTER ROLE ... SET temp_file_limit needs a superuser",
            sql.SQL("ALTER ROLE {} SET temp_file_limit = {}").format(role, sql.Literal(TEMP_FILES)),
        ),
        (
            "analysts can make temporary tables: REVOKE TEMPORARY ON DATABASE ... FROM PUBLIC needs the database's owner",
            sql.SQL("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC").format(database),
        ),
        (
            "analysts may be able to make tables in schema public: REVOKE CREATE ON SCHEMA public FROM PUBLIC needs its owner",
            sql.SQL("REVOKE CREATE ON SCHEMA public FROM PUBLIC"),
        ),
        (
            "analysts can make large objects and take advisory locks: REVOKE EXECUTE ON FUNCTION ... FROM PUBLIC needs a superuser",
            sql.SQL(f"GRANT EXECUTE ON FUNCTION {functions} TO {owner[0]}; REVOKE EXECUTE ON FUNCTION {functions} FROM PUBLIC"),
        ),
    ]
    gaps = []
    for gap, statement in steps:
        try:
            with connection.transaction():
                connection.execute(statement)
        except psycopg.errors.InsufficientPrivilege:
            gaps.append(gap)
    return gaps


def remove(connection: Connection, name: str) -> int:
    """Take the role away and end its sessions; how many there were. Raises `BadAnalyst`."""
    if connection.execute("SELECT 1 FROM access.analysts WHERE role = %s", (name,)).fetchone() is None:
        known = ", ".join(a.name for a in analysts(connection)) or "none"
        raise BadAnalyst(f"there is no analyst '{name}': there are {known} (`chimera analyst list`)")
    role = sql.Identifier(name)
    there = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,)).fetchone() is not None
    ended = 0
    if there:
        connection.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(role))  # first: nobody comes back in between
        ended = len(
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s", (name,)
            ).fetchall()
        )
    with connection.transaction():
        connection.execute("DELETE FROM access.analysts WHERE role = %s", (name,))
        if there:
            connection.execute(sql.SQL("DROP OWNED BY {}").format(role))
    if there:
        try:
            connection.execute(sql.SQL("DROP ROLE {}").format(role))
        except psycopg.errors.DependentObjectsStillExist as error:
            raise BadAnalyst(
                f"analyst '{name}' sees nothing here any more and cannot log in, but another database grants the role something, so"
                f" it was not dropped: {str(error).splitlines()[0]}"
            ) from error
    return ended


def cancel_overdue(connection: Connection) -> list[tuple[str, float]]:
    """Cancel analysts' statements that run longer than they may, whatever their session set; (role, seconds) of each.

    A session that sits idle in a transaction for as long is ended: it would hold up what vacuum may clean.
    """
    rows = connection.execute(
        "SELECT s.usename, extract(epoch FROM clock_timestamp() - s.state_change), CASE WHEN s.state = 'active'"
        " THEN pg_cancel_backend(s.pid) ELSE pg_terminate_backend(s.pid) END"
        " FROM pg_stat_activity s"
        " JOIN (SELECT role, max(limit_s) AS limit_s FROM access.analysts GROUP BY role) a ON a.role = s.usename"
        " WHERE s.datname = current_database() AND s.state IN ('active', 'idle in transaction', 'idle in transaction (aborted)')"
        " AND s.state_change < clock_timestamp() - make_interval(secs => a.limit_s)"
    ).fetchall()
    return [(row[0], float(row[1])) for row in rows]


def _database(connection: Connection) -> str:
    row = connection.execute("SELECT current_database()").fetchone()
    assert row is not None
    return str(row[0])
