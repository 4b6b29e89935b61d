"""The analysts' views, each made of one YAML file in `sql/views`: its query, its columns and what they mean.

The rule not to break: no view is made but here, where each gets its guard: a tenant's rows for that tenant's analysts alone,
by `current_user`, and behind a security barrier.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import yaml
from psycopg import sql

from chimera.errors import ChimeraError

VIEWS = Path(__file__).resolve().parents[2] / "sql" / "views"
ANALYTICS = "analytics_v1"
GUARD = "WHERE (SELECT everything FROM access.me) OR v.tenant IN (SELECT tenant FROM access.mine)"
"""Asked once per query, not per row. `access.me` and `access.mine` know no setting of the session, only who is logged in."""


PLANNING = {
    "enable_nestloop": "off",
    "enable_mergejoin": "off",
    "enable_sort": "off",
    "jit": "off",
    "work_mem": "64MB",
    "cursor_tuple_fraction": "1.0",
}
"""How questions are planned. Behind a security barrier PostgreSQL uses no statistics: it takes a join of views for one row and
loops over them, or sorts both sides on the disk, or all rows before it counts them, where a hash takes milliseconds; what must be
sorted is sorted all the same (docs/decisions/0064, 0121). A cursor is read to its end."""


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Where PyYAML was built with its parser in C: 41 files take a fifth of a second without."""


class BadView(ChimeraError):
    """A file in `sql/views` does not say what a view must say, or the database sees it differently."""


class Column(NamedTuple):
    """One column of a view: `type` as PostgreSQL prints it."""

    name: str
    type: str
    meaning: str


class Reference(NamedTuple):
    """Columns that lead to a row of another view."""

    columns: tuple[str, ...]
    view: str


class View(NamedTuple):
    """One file. `time` is the column to restrict a question by; `scope` is tenant (guarded) or installation (the same for all)."""

    name: str
    schema: str
    row: str
    about: str
    scope: str
    time: str | None
    columns: tuple[Column, ...]
    refers_to: tuple[Reference, ...]
    metrics: dict[str, str]
    query: str

    def seen_from(self, now: datetime) -> View:
        """The view whose present is that moment, for good."""
        return self._replace(query=re.sub(r"\bnow\(\)", f"timestamptz '{now.isoformat()}'", self.query))

    def defined(self, core: str = "core") -> str:
        """The view's query on the tables of schema `core`, with its guard."""
        inner = re.sub(r"\bcore\.", lambda _: f"{_quoted(core)}.", self.query.strip())
        names = ", ".join(f"v.{_quoted(column.name)}" for column in self.columns)
        return f"SELECT {names}\nFROM (\n{inner}\n) v" + (f"\n{GUARD}" if self.scope == "tenant" else "")


def views(directory: Path = VIEWS) -> list[View]:
    """All views, by name. Raises `BadView`."""
    return [read(path) for path in sorted(directory.glob("*.yaml"))]


def read(path: Path) -> View:
    """One file. Raises `BadView`, which names it and what it lacks."""
    try:
        said: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
        view = View(
            name=said["view"],
            schema=said["schema"],
            row=said["row"],
            about=said["about"],
            scope=said.get("scope", "tenant"),
            time=said.get("time"),
            columns=tuple(Column(c["name"], c["type"], " ".join(c["meaning"].split())) for c in said["columns"]),
            refers_to=tuple(Reference(tuple(r["columns"]), r["view"]) for r in said.get("refers_to", ())),
            metrics=said.get("metrics", {}),
            query=said["sql"],
        )
    except (KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise BadView(f"{path}: {error!r}: a view has view, schema, row, about, columns (name, type, meaning) and sql") from error
    _check(view, path)
    return view


def _check(view: View, path: Path) -> None:
    names = [column.name for column in view.columns]
    if view.name != path.stem:
        raise BadView(f"{path}: the view is called {view.name!r}: a file has its view's name")
    if len(names) != len(set(names)):
        raise BadView(f"{path}: a column is named twice")
    if view.scope not in ("tenant", "installation"):
        raise BadView(f"{path}: scope is {view.scope!r}: it is tenant or installation")
    if view.scope == "tenant" and "tenant" not in names:
        raise BadView(f"{path}: it has no column tenant: nobody could say whose rows these are")
    if view.time is not None and view.time not in names:
        raise BadView(f"{path}: there is no column {view.time!r} to restrict a question by")
    if "materialized" in view.query.lower().replace("as not materialized", ""):
        raise BadView(f"{path}: a materialized view would hold all tenants' rows")


def digest(found: list[View], core: str) -> str:
    """What the views are made of, in one number: they are built anew when it changes."""
    return hashlib.sha256(repr((GUARD, core, found)).encode()).hexdigest()


def build(connection: psycopg.Connection[Any], core: str, directory: Path = VIEWS) -> bool:
    """Make the views, their comments and grants what the files say, within the caller's transaction; False where they are.

    Raises `BadView` where a column's type is not what its file says.
    """
    found = views(directory)
    now = digest(found, core)
    row = connection.execute("SELECT digest FROM access.contract WHERE schema = %s", (ANALYTICS,)).fetchone()
    there = {r[0] for r in connection.execute("SELECT viewname FROM pg_views WHERE schemaname = %s", (ANALYTICS,)).fetchall()}
    if row is not None and row[0] == now and {view.name for view in found} <= there:
        return False
    for view in found:
        _make(connection, view, core)
    grant(connection, found)
    connection.execute(
        "INSERT INTO access.contract (schema, digest) VALUES (%s, %s)"
        " ON CONFLICT (schema) DO UPDATE SET digest = EXCLUDED.digest, built_at = clock_timestamp()",
        (ANALYTICS, now),
    )
    return True


def build_beside(connection: psycopg.Connection[Any], schema: str, core: str, now: datetime, directory: Path = VIEWS) -> list[View]:
    """The same views, with the same guard, in a schema of their own on the tables of schema `core`; as they are there.

    `now` (with its zone) is the present of these views: ages are counted up to it. Nobody may read them before `open_beside`.
    All or none. Raises `BadView`.
    """
    with connection.transaction():
        return make_beside(connection, schema, core, [view.seen_from(now) for view in views(directory)])


def open_beside(connection: psycopg.Connection[Any], schema: str, found: list[View]) -> None:
    """Every analyst may read them from now on, each sees own tenants only. Within the caller's transaction."""
    grant(connection, found)
    for (role,) in connection.execute(
        "SELECT DISTINCT a.role FROM access.analysts a JOIN pg_roles r ON r.rolname = a.role"
    ).fetchall():
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(schema), sql.Identifier(role)))


def make_beside(connection: psycopg.Connection[Any], schema: str, core: str, found: list[View]) -> list[View]:
    """These views in a new schema, on the tables of schema `core`, granted to nobody; as they are there.

    Within the caller's transaction. Raises `BadView`.
    """
    made = [view._replace(schema=schema) for view in found]
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    for view in made:
        _make(connection, view, core)
    return made


def grant(connection: psycopg.Connection[Any], found: list[View]) -> None:
    """Every analyst may read every view of the files, and no other."""
    roles = connection.execute("SELECT DISTINCT a.role FROM access.analysts a JOIN pg_roles r ON r.rolname = a.role").fetchall()
    for (role,) in roles:
        for view in found:
            connection.execute(sql.SQL("GRANT SELECT ON {} TO {}").format(_name(view), sql.Identifier(role)))


def _make(connection: psycopg.Connection[Any], view: View, core: str) -> None:
    made = sql.SQL("CREATE OR REPLACE VIEW {} WITH (security_barrier = true) AS ").format(_name(view))
    statement = made + sql.SQL(view.defined(core))  # the text of our own file
    try:
        with connection.transaction():
            connection.execute(statement)
    except psycopg.errors.InvalidTableDefinition:  # other columns than it had: what a new edition of the contract is for
        connection.execute(sql.SQL("DROP VIEW {}").format(_name(view)))
        connection.execute(statement)
    except psycopg.errors.SyntaxError as error:
        raise BadView(f"view {view.name}: {str(error).splitlines()[0]}") from error
    types = dict(
        connection.execute(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0",
            (f"{_quoted(view.schema)}.{_quoted(view.name)}",),
        ).fetchall()
    )
    for column in view.columns:
        if types[column.name] != column.type:
            raise BadView(f"view {view.name}: column {column.name} is {types[column.name]}, its file says {column.type}")
    connection.execute(sql.SQL("COMMENT ON VIEW {} IS {}").format(_name(view), f"One row is {view.row}. {view.about}"))
    comments = [
        sql.SQL("COMMENT ON COLUMN {}.{} IS {}").format(_name(view), sql.Identifier(column.name), column.meaning)
        for column in view.columns
    ]
    connection.execute(sql.SQL("; ").join(comments))


def _name(view: View) -> sql.Identifier:
    return sql.Identifier(view.schema, view.name)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
