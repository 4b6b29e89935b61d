"""The analysts' views of a build, made beside the live ones before a swap, which then only has to rename two schemas.

The rule not to break: whoever may read a view before a swap may read it afterwards, and nobody else. Where other people's objects
stand on the live views, those are replaced in place instead, which takes longer under the locks and keeps what stands on them.
"""

from __future__ import annotations

from collections.abc import Set
from typing import NamedTuple

from psycopg import sql

from chimera.projections import views
from chimera.projections.write import Connection

NEXT, WAS = f"{views.ANALYTICS}_next", f"{views.ANALYTICS}_was"
"""Where a build's views wait, and where those that were live are until they are dropped."""


class Prepared(NamedTuple):
    """How the views take part in a swap. `beside`: they are made already and are renamed; else `in_place` replaces them."""

    beside: bool
    in_place: str
    names: frozenset[str]


def prepare(connection: Connection, build: str) -> Prepared:
    """Make the views on the tables of schema `build` beside the live ones, with the rights that those have now."""
    clear(connection)
    found = views.views()
    in_place = "; ".join(
        f'CREATE OR REPLACE VIEW {views.ANALYTICS}."{view.name}" WITH (security_barrier = true) AS {view.defined()}'
        for view in found
    )
    prepared = Prepared(True, in_place, frozenset(view.name for view in found))
    if not _alone(connection, prepared.names):
        return prepared._replace(beside=False)
    with connection.transaction():
        views.make_beside(connection, NEXT, build, found)
        grant_alike(connection, views.ANALYTICS, NEXT)
    return prepared


def still_fits(connection: Connection, prepared: Prepared) -> bool:
    """Under the locks: since they were prepared, was nobody granted or denied anything, and nothing put upon the live views?"""
    if not prepared.beside:
        return True
    row = connection.execute(
        f"SELECT EXISTS ({_RIGHTS} EXCEPT {_RIGHTS}) OR EXISTS ({_RIGHTS} EXCEPT {_RIGHTS})".encode(),
        (views.ANALYTICS, NEXT, NEXT, views.ANALYTICS),
    ).fetchone()
    return row == (False,) and _alone(connection, prepared.names)


def take_place(prepared: Prepared) -> str:
    """The statements by which the views of the build become the live ones; its tables are the schema `core` by then."""
    if not prepared.beside:
        return prepared.in_place
    return f"ALTER SCHEMA {views.ANALYTICS} RENAME TO {WAS}; ALTER SCHEMA {NEXT} RENAME TO {views.ANALYTICS}"


def clear(connection: Connection) -> None:
    """Drop what this swap, or one that was killed, left: nobody reads it, and nothing stands on it."""
    for schema in (NEXT, WAS):
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))


def grant_alike(connection: Connection, source: str, target: str) -> None:
    """Who was granted something on the schema `source` or what is in it has it on what is called so in `target` as well."""
    rows = connection.execute(
        "SELECT c.relname, a.privilege_type, coalesce(r.rolname, 'public'), r.rolname IS NULL FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee"
        " WHERE n.nspname = %s AND c.relkind IN ('r', 'p', 'v') AND a.grantee <> c.relowner",
        (source,),
    ).fetchall()
    for relation, privilege, role, everybody in rows:
        who = sql.SQL("PUBLIC") if everybody else sql.Identifier(role)
        connection.execute(sql.SQL(f"GRANT {privilege} ON {{}} TO {{}}").format(sql.Identifier(target, relation), who))
    schemas = connection.execute(
        "SELECT a.privilege_type, coalesce(r.rolname, 'public'), r.rolname IS NULL FROM pg_namespace n, aclexplode(n.nspacl) a"
        " LEFT JOIN pg_roles r ON r.oid = a.grantee WHERE n.nspname = %s AND a.grantee <> n.nspowner",
        (source,),
    ).fetchall()
    for privilege, role, everybody in schemas:
        who = sql.SQL("PUBLIC") if everybody else sql.Identifier(role)
        connection.execute(sql.SQL(f"GRANT {privilege} ON SCHEMA {{}} TO {{}}").format(sql.Identifier(target), who))


_RIGHTS = (
    "(SELECT c.relname, a.grantee, a.privilege_type FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid,"
    " aclexplode(c.relacl || n.nspacl) a WHERE n.nspname = %s AND a.grantee <> c.relowner)"
)


def _alone(connection: Connection, names: Set[str]) -> bool:
    """Does the live schema hold these views and nothing else, and does nothing elsewhere stand on them?"""
    rows = connection.execute(
        "SELECT c.relname, EXISTS (SELECT FROM pg_attribute t WHERE t.attrelid = c.oid AND t.attacl IS NOT NULL) OR EXISTS ("
        "  SELECT FROM pg_depend d LEFT JOIN pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid"
        "  LEFT JOIN pg_class o ON o.oid = w.ev_class"
        "  WHERE (d.refclassid, d.refobjid) IN (('pg_class'::regclass, c.oid), ('pg_type'::regclass, c.reltype))"
        "  AND d.deptype <> 'i' AND o.relnamespace IS DISTINCT FROM c.relnamespace)"
        " FROM pg_class c WHERE c.relnamespace = %(schema)s::regnamespace"
        " UNION ALL SELECT p.proname, true FROM pg_proc p WHERE p.pronamespace = %(schema)s::regnamespace",
        {"schema": views.ANALYTICS},
    ).fetchall()
    return {row[0] for row in rows} == names and not any(row[1] for row in rows)
