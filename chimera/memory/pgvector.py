"""Notes in PostgreSQL with pgvector, which the local stack's wheel brings: what remembers out of the box.

The rule not to break: every tenant's notes lie in a table of its own (a partition), and no query is made without a tenant.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import orjson
import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from chimera.events.notes import Kind
from chimera.memory.contract import Found, MemoryAway, Query, allowed
from chimera.memory.embedding import Vector
from chimera.memory.pgrows import COLUMNS, copied
from chimera.memory.store import Row, newest
from chimera.projections.checkpoints import NOTICE_ABSENCE
from chimera.projections.write import Connection

SCHEMA = "memory"
PATIENCE_MS = 3_000
"""What one question may take; whoever asked goes on without."""
MOST_DIMENSIONS = 3_072
"""Numbers of a vector that fit into a page beside the rest of a note."""
MOST_WORDED = 100
"""Notes among which those that share most words are looked for."""
_READ = (
    "id::text, agent, kind, platform, sealed, title, url, published, numbers, taint, policy_edition, ts, record, record_partition,"
    ' record_offset, partition, "offset"'
)
_ALIKE = "vector OPERATOR(public.<=>) %(vector)s::public.halfvec"
_ANY_WORD = "replace(plainto_tsquery('english', %(text)s)::text, '&', '|')::tsquery"
_TABLE = """
CREATE TABLE IF NOT EXISTS {} (
    tenant text NOT NULL, id uuid NOT NULL, agent text NOT NULL, kind text NOT NULL, platform text NOT NULL, sealed jsonb NOT NULL,
    subject_key text NOT NULL, title text NOT NULL, url text NOT NULL, published text NOT NULL, numbers jsonb NOT NULL,
    taint text NOT NULL, policy_edition integer NOT NULL, ts bigint NOT NULL, record text NOT NULL,
    record_partition smallint NOT NULL, record_offset bigint NOT NULL,
    partition smallint NOT NULL, "offset" bigint NOT NULL, words tsvector NOT NULL,
    vector public.halfvec({dimensions}) NOT NULL, PRIMARY KEY (tenant, id)
) PARTITION BY LIST (tenant)
"""


class PgVector:
    """The store over one database. `dsn` is where it reads; what writes brings its connection. Safe for several threads."""

    kind = "postgres"

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None

    # --- writing ------------------------------------------------------------------------------------------------------

    def make(self, connection: Connection, build: int, dimensions: int) -> None:
        """Raises `MemoryAway` where the server has no pgvector that knows half precision, or vectors are too long for a page."""
        if dimensions > MOST_DIMENSIONS:
            raise MemoryAway(
                f"vectors of {dimensions} numbers do not fit into PostgreSQL's pages, {MOST_DIMENSIONS} do: choose another model,"
                " or set CHIMERA_MEMORY=weaviate"
            )
        try:
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")
        except (psycopg.errors.FeatureNotSupported, psycopg.errors.UndefinedFile, psycopg.errors.InsufficientPrivilege) as error:
            raise MemoryAway(
                f"PostgreSQL has no pgvector ({str(error).splitlines()[0]}): install the extension 'vector' there, or set"
                " CHIMERA_MEMORY=weaviate"
            ) from error
        table = self._table(build)
        try:
            connection.execute(sql.SQL(_TABLE).format(table, dimensions=sql.Literal(dimensions)))
        except psycopg.errors.UndefinedObject as error:
            raise MemoryAway(
                "PostgreSQL's pgvector is older than 0.8: update the extension 'vector', or set CHIMERA_MEMORY=weaviate"
            ) from error
        # Put aside, as PostgreSQL does with the largest of a long row, each vector that is compared would be a look-up of its own.
        connection.execute(sql.SQL("ALTER TABLE {} ALTER vector SET STORAGE PLAIN").format(table))
        for name, how in (("agent", "btree (agent)"), ("subject", "btree (subject_key)"), ("words", "gin (words)")):
            index = sql.Identifier(f"notes_{build}_{name}")
            connection.execute(sql.SQL(f"CREATE INDEX IF NOT EXISTS {{}} ON {{}} USING {how}").format(index, table))
        index = sql.Identifier(f"notes_{build}_vector")
        # Half of the default's links and search when a note is kept: twice the notes a second, and questions look further instead.
        statement = (
            "CREATE INDEX IF NOT EXISTS {} ON {} USING hnsw (vector public.halfvec_cosine_ops) WITH (m = 8, ef_construction = 40)"
        )
        connection.execute(sql.SQL(statement).format(index, table))

    def drop(self, connection: Connection, build: int) -> None:
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(self._table(build)))

    def put(self, connection: Connection, build: int, rows: Sequence[Row]) -> None:
        if not rows:
            return
        rows = newest(rows)
        for tenant in {row.note.tenant for row in rows}:
            self._of_tenant(connection, build, tenant)
        names = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
        new = sql.Identifier("pg_temp", f"notes_new_{build}")  # builds differ in the size of their vectors
        with connection.cursor() as cursor:
            if cursor.execute("SELECT to_regclass(%s)", (f"pg_temp.notes_new_{build}",)).fetchone() in (None, (None,)):
                statement = "CREATE TEMP TABLE {} (LIKE {}) ON COMMIT DELETE ROWS; ALTER TABLE {} ALTER words TYPE text"
                cursor.execute(sql.SQL(statement).format(new, self._table(build), new))
            cursor.execute(sql.SQL("TRUNCATE {}").format(new))
            with cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(new, names)) as copy:
                copy.write(copied(rows))
            taken = sql.SQL(", ").join(
                sql.SQL("to_tsvector('english', words)") if name == "words" else sql.Identifier(name) for name in COLUMNS
            )
            told = [sql.Identifier(name) for name in COLUMNS if name not in ("tenant", "id")]
            news = sql.SQL(", ").join(sql.SQL("{0} = EXCLUDED.{0}").format(name) for name in told)
            statement = (
                "INSERT INTO {} AS t ({}) SELECT {} FROM {} ON CONFLICT (tenant, id) DO UPDATE SET {} WHERE EXCLUDED.ts >= t.ts"
            )
            cursor.execute(sql.SQL(statement).format(self._table(build), names, taken, new, news))

    def forget(self, connection: Connection, build: int, subjects: Collection[str]) -> int:
        statement = sql.SQL("DELETE FROM {} WHERE subject_key = ANY (%s)").format(self._table(build))
        return connection.execute(statement, (sorted(subjects),)).rowcount

    def _of_tenant(self, connection: Connection, build: int, tenant: str) -> None:
        name = f"notes_{build}_{hashlib.sha256(tenant.encode()).hexdigest()[:16]}"
        if connection.execute("SELECT to_regclass(%s)", (f"{SCHEMA}.{name}",)).fetchone() in (None, (None,)):
            statement = sql.SQL("CREATE TABLE {} PARTITION OF {} FOR VALUES IN ({})")
            connection.execute(statement.format(sql.Identifier(SCHEMA, name), self._table(build), sql.Literal(tenant)))

    def _table(self, build: int) -> sql.Identifier:
        return sql.Identifier(SCHEMA, f"notes_{build}")

    # --- reading ------------------------------------------------------------------------------------------------------

    def candidates(self, build: int, tenant: str, query: Query, vector: Vector, most: int) -> list[Found]:
        where, values = _where(tenant, query)
        # One question for both ways: what each of them finds is a few ids, and only these rows are read whole.
        statement = (
            f"WITH near AS (SELECT id FROM {{notes}} WHERE {where} ORDER BY {_ALIKE} LIMIT %(most)s),"
            f" sharing AS (SELECT id, words FROM {{notes}} WHERE {where} AND words @@ {_ANY_WORD} LIMIT %(among)s),"
            f" worded AS (SELECT id FROM sharing ORDER BY ts_rank(words, {_ANY_WORD}) DESC, id LIMIT %(most)s)"
            f" SELECT {_READ}, 1 - ({_ALIKE}) FROM {{notes}} WHERE tenant = %(tenant)s"
            " AND id = ANY (ARRAY(SELECT id FROM near UNION SELECT id FROM worded))"
        )
        values |= {"vector": as_text(vector), "text": query.text, "most": most, "among": MOST_WORDED}
        return self._ask(build, statement, values)

    def contents(self, build: int) -> Iterator[Found]:
        # A connection of its own: this is no question that somebody waits for, and takes as long as it takes.
        statement = sql.SQL(f"SELECT {_READ}, 0.0 FROM {{notes}} ORDER BY tenant, id").format(notes=self._table(build))
        try:
            with (
                psycopg.connect(self._dsn, row_factory=tuple_row, **NOTICE_ABSENCE) as connection,
                connection.cursor("contents") as cursor,
            ):
                for row in cursor.execute(statement):
                    yield _found(row)
        except psycopg.Error as error:
            raise MemoryAway(f"memory in PostgreSQL does not answer: {str(error).splitlines()[0]}") from error

    def kinds(self, build: int, tenant: str, agent: str) -> frozenset[Kind]:
        statement = "SELECT DISTINCT kind FROM {notes} WHERE tenant = %(tenant)s AND agent = %(agent)s"
        return frozenset(row[0] for row in self._rows(build, statement, {"tenant": tenant, "agent": agent}))

    def counts(self, build: int) -> list[tuple[str, str, int, int]]:
        statement = "SELECT tenant, kind, count(*)::int, max(ts) FROM {notes} GROUP BY tenant, kind ORDER BY tenant, kind"
        return [(str(t), str(k), int(n), int(ts)) for t, k, n, ts in self._rows(build, statement, {})]

    def get(self, build: int, tenant: str, note: str) -> Found | None:
        statement = f"SELECT {_READ}, 0.0 FROM {{notes}} WHERE tenant = %(tenant)s AND id::text = %(id)s"
        return next(iter(self._ask(build, statement, {"tenant": tenant, "id": note})), None)

    def _ask(self, build: int, statement: str, values: dict[str, Any]) -> list[Found]:
        return [_found(row) for row in self._rows(build, statement, values)]

    def _rows(self, build: int, statement: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = psycopg.connect(self._dsn, autocommit=True, row_factory=tuple_row, **_READING)
                return self._connection.execute(sql.SQL(statement).format(notes=self._table(build)), values).fetchall()
            except psycopg.Error as error:
                self._let_go()
                raise MemoryAway(f"memory in PostgreSQL does not answer: {str(error).splitlines()[0]}") from error

    def _let_go(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        with self._lock:
            self._let_go()


_READING: dict[str, Any] = {
    **NOTICE_ABSENCE,
    "application_name": "chimera memory",
    # Where filters leave few of what is near, the index is asked on until there are enough.
    "options": f"-c statement_timeout={PATIENCE_MS} -c timezone=UTC -c jit=off -c hnsw.ef_search=80"
    " -c hnsw.iterative_scan=strict_order",
}


def _found(row: tuple[Any, ...]) -> Found:
    """A row of `_READ` and the likeness after it."""
    *told, record_partition, record_offset, partition, offset, alike = row
    return Found._make((*told, (record_partition, record_offset), (partition, offset), float(alike)))


def _where(tenant: str, query: Query) -> tuple[str, dict[str, Any]]:
    """The conditions of a query and their values. The tenant is always one of them."""
    clauses, values = ["tenant = %(tenant)s"], {"tenant": tenant, "agent": query.agent, "kinds": list(query.kinds)}
    if query.agent:
        clauses.append("agent = %(agent)s")
    if query.kinds:
        clauses.append("kind = ANY (%(kinds)s)")
    if query.worst != "open":
        clauses.append("taint = ANY (%(taints)s)")
    if query.since_ts:
        clauses.append("ts >= %(since)s")
    return " AND ".join(clauses), values | {"taints": list(allowed(query.worst)), "since": query.since_ts}


def as_text(vector: Vector) -> str:
    """As pgvector reads it: each number by the shortest digits that say it. Of numpy or plain."""
    return orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY, default=list).decode()
