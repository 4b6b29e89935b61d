"""An analyst sees own tenants' rows in every way there is, and writes nowhere."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import psycopg
import pytest
from psycopg import sql
from typer.testing import CliRunner

from chimera.cli.main import build
from chimera.projections import analysts, asking, demo, views
from chimera.projections.analysts import BadAnalyst
from chimera.projections.schema import migrate

OURS, THEIRS = "CANARYacme", "CANARYbolt"
NAMED = [view.name for view in views.views() if view.scope == "tenant"]
Say = Callable[[str], list[tuple[Any, ...]]]


class House:
    """A database with two tenants' rows, each of which says whose it is, and an analyst of the first."""

    def __init__(self, dsn: str) -> None:
        database = f"analysts_{uuid.uuid4().hex[:12]}"
        demo.make(dsn, database, demo.Size(posts=300, days=10, observations=2))
        self.dsn = demo.address(dsn, database)
        self.name = f"ida_{uuid.uuid4().hex[:8]}"
        with self.owner() as connection:
            _plant(connection)
            self.gaps = analysts.add(connection, self.name, ["acme"], by="test")

    def owner(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.dsn, autocommit=True)

    def as_analyst(self) -> psycopg.Connection[Any]:
        connection = psycopg.connect(self.dsn, autocommit=True, user=self.name)
        connection.execute("SET default_transaction_read_only TO off")  # what a session may switch off is no guard
        connection.execute("SET statement_timeout TO 0")
        return connection


def _plant(connection: psycopg.Connection[Any]) -> None:
    """Whatever text is shown names its tenant; and one forged record claims the other's."""
    mark = f"CASE (SELECT tenant FROM core.agents a WHERE a.agent_id = t.agent_id) WHEN 'acme' THEN '{OURS}' ELSE '{THEIRS}' END"
    for statement in (
        f"UPDATE core.agents SET name = CASE tenant WHEN 'acme' THEN '{OURS}' ELSE '{THEIRS}' END || name",
        f"UPDATE core.campaigns t SET name = {mark}",
        f"UPDATE core.tasks t SET title = {mark}",
        f"UPDATE core.artifacts t SET content = jsonb_build_object('text', {mark})",
        f"UPDATE core.effects t SET arguments = jsonb_build_object('text', {mark}), url = {mark}",
        "UPDATE core.effects SET effect_class = 'financial' WHERE ordinal = 1",
        f"UPDATE core.verdicts t SET reasons = ARRAY[{mark}]",
        f"UPDATE core.decisions t SET comment = {mark}",
        f"UPDATE core.policies t SET rules = {mark}",
        f"UPDATE core.tool_calls t SET reason = {mark}",
        f"UPDATE core.security_events SET resource = CASE tenant WHEN 'acme' THEN '{OURS}' ELSE '{THEIRS}' END",
        f"UPDATE core.tenant_members t SET name = {mark}",
        f"UPDATE core.ledger t SET reason = {mark}",
        f"UPDATE core.asset_provenance t SET model = {mark}",
        f"UPDATE core.asset_events t SET actor = {mark}",
        f"UPDATE core.engagement_metrics t SET source = {mark}",
        f"UPDATE core.events t SET data = to_jsonb({mark}) FROM core.agents a WHERE a.agent_id = t.stream".replace(
            "t.agent_id", "t.stream"
        ),
        "INSERT INTO core.events SELECT a.agent_id, 'forged', 'X', 1, 'acme', '', '', '', NULL, NULL, NULL, 'void', 'forged', 1,"
        f" to_jsonb('{THEIRS}'::text), now(), 0, 999999 FROM core.agents a WHERE tenant = 'bolt' LIMIT 1",
        "INSERT INTO core.voids SELECT 'agent/nobody', 'x', 'X', 'forged', '" + THEIRS + "', '', now(), 0, 999999",
        "UPDATE core.checkpoints SET stopped = '" + THEIRS + "' WHERE partition = 3",
    ):
        connection.execute(statement.encode())


@pytest.fixture(scope="module")
def house(postgres_dsn: str) -> Iterator[House]:
    made = House(postgres_dsn)
    yield made
    with made.owner() as connection:
        for analyst in analysts.analysts(connection):
            analysts.remove(connection, analyst.name)


@pytest.mark.parametrize("view", NAMED)
def test_no_row_of_another_tenant_crosses_in_any_view(house: House, view: str) -> None:
    with house.as_analyst() as connection, house.owner() as owner:
        shown = connection.execute(f"SELECT tenant, v::text FROM analytics_v1.{view} v".encode()).fetchall()
        everything = owner.execute(
            f"SELECT count(*), count(*) FILTER (WHERE v::text LIKE '%{THEIRS}%') FROM analytics_v1.{view} v".encode()
        ).fetchone()
    assert shown, "a view that shows nothing proves nothing"
    assert everything is not None
    assert everything[0] > len(shown), "the owner sees both tenants"
    assert everything[1] > 0 or view in {"budgets", "hitl_queue"}, "there is no canary to cross"
    assert {tenant for tenant, _ in shown} == {"acme"}
    assert not [text for _, text in shown if THEIRS in text]


def test_nothing_crosses_in_a_copy_or_in_the_view_that_all_share(house: House) -> None:
    with house.as_analyst() as connection:
        for view in [*NAMED, "freshness"]:
            with connection.cursor() as cursor, cursor.copy(f"COPY (SELECT * FROM analytics_v1.{view}) TO STDOUT".encode()) as copy:
                assert THEIRS.encode() not in b"".join(bytes(block) for block in copy)


def test_tables_parts_and_the_map_of_tenants_are_closed(house: House) -> None:
    with house.owner() as owner:
        tables = owner.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('core', 'priv', 'access', 'snapshots')"
        ).fetchall()
    assert len([name for schema, name in tables if schema == "priv"]) > 10
    with house.as_analyst() as connection:
        for schema, name in tables:
            for statement in ("SELECT 1 FROM {}", "COPY {} TO STDOUT", "EXPLAIN SELECT * FROM {}"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(sql.SQL(statement).format(sql.Identifier(schema, name)))


def test_no_setting_and_no_role_changes_whose_rows_are_seen(house: House) -> None:
    with house.as_analyst() as connection:
        connection.execute("SET app.tenant TO 'bolt'")
        connection.execute("SET search_path TO core, priv, analytics_v1")
        assert connection.execute("SELECT DISTINCT tenant FROM agents").fetchall() == [("acme",)]
        for statement in (
            "SET ROLE postgres",
            "SET ROLE pg_read_all_data",
            "SET SESSION AUTHORIZATION postgres",
            "SET row_security TO off",
        ):
            try:
                connection.execute(statement.encode())
            except psycopg.errors.InsufficientPrivilege:
                continue
            assert connection.execute("SELECT DISTINCT tenant FROM agents").fetchall() == [("acme",)]


def test_an_expression_that_fails_or_leaks_sees_own_rows_alone(house: House) -> None:
    """A cast that fails quotes the value that it was given: behind the barrier that is never another tenant's."""
    with house.as_analyst() as connection:
        for expression in (
            "agent::int = 1",
            "1 / (CASE WHEN agent LIKE 'CANARYbolt%' THEN 0 ELSE 1 END) = 1",
            "xmlparse(content agent) IS NULL",
        ):
            said = ""
            try:
                connection.execute(f"SELECT count(*) FROM analytics_v1.agents WHERE {expression}".encode())
            except psycopg.Error as error:
                said = repr(error)
            assert THEIRS not in said, expression
            assert "DivisionByZero" not in said, expression
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(
                "CREATE FUNCTION pg_temp.leak(text) RETURNS bool COST 0.0001 LANGUAGE plpgsql"
                " AS $$ BEGIN RAISE NOTICE '%', $1; RETURN true; END $$"
            )


def test_a_plan_names_no_value_of_another_tenant(house: House) -> None:
    with house.as_analyst() as connection:
        for view in NAMED:
            plan = connection.execute(
                f"EXPLAIN (ANALYZE, VERBOSE, FORMAT JSON) SELECT * FROM analytics_v1.{view}".encode()
            ).fetchone()
            assert THEIRS not in str(plan)
        for table in ("pg_stats", "pg_statistic_ext_data"):
            try:
                assert THEIRS not in str(connection.execute(f"SELECT * FROM {table}".encode()).fetchall())
            except psycopg.errors.InsufficientPrivilege:
                continue


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (a int)",
        "CREATE TABLE public.mine (a int)",
        "CREATE TABLE analytics_v1.mine (a int)",
        "CREATE TEMP TABLE mine (a int)",
        "SELECT 1 INTO mine",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "INSERT INTO analytics_v1.agents (agent) VALUES ('x')",
        "UPDATE analytics_v1.agents SET agent = 'x'",
        "DELETE FROM analytics_v1.agents",
        "COPY analytics_v1.agents FROM STDIN",
        "INSERT INTO core.voids DEFAULT VALUES",
        "INSERT INTO access.analysts VALUES ('x', 'bolt', '', now(), 1)",
        "SELECT lo_create(0)",
        "SELECT lo_from_bytea(0, 'x')",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_try_advisory_xact_lock(1, 2)",
        "SELECT pg_logical_emit_message(false, 'x', 'y')",
        "COPY (SELECT 1) TO '/tmp/mine'",
        "COPY (SELECT 1) TO PROGRAM 'cat'",
        "SELECT pg_read_file('/etc/passwd')",
        "CREATE ROLE mine",
        "ALTER ROLE CURRENT_USER SUPERUSER",
        "LOCK TABLE core.agents",
        "REFRESH MATERIALIZED VIEW analytics_v1.agents",
        "CREATE EXTENSION dblink",
        "SELECT * FROM analytics_v1.agents FOR UPDATE",
        "COMMENT ON VIEW analytics_v1.agents IS 'mine'",
        "SET temp_file_limit TO -1",
    ],
)
def test_an_analyst_writes_nowhere(house: House, statement: str) -> None:
    assert house.gaps == []
    with house.as_analyst() as connection, pytest.raises(psycopg.Error) as failed:
        _give(connection, statement)
    assert not isinstance(failed.value, psycopg.errors.SyntaxError), "the statement must fail for the right reason"


def _give(connection: psycopg.Connection[Any], statement: str) -> None:
    if not statement.endswith("STDIN"):
        connection.execute(statement.encode())
        return
    with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        copy.write("x\n")


def test_the_watchdog_ends_what_a_session_allowed_itself(house: House) -> None:
    slow = f"slow_{uuid.uuid4().hex[:8]}"
    with house.owner() as owner:
        analysts.add(owner, slow, ["acme"], by="test", limit_s=1)
        with psycopg.connect(house.dsn, user=slow, autocommit=True) as connection:
            connection.execute("SET statement_timeout TO 0")
            ended = threading.Event()
            watch = threading.Thread(target=_watch, args=(house, slow, ended))
            watch.start()
            with pytest.raises(psycopg.errors.QueryCanceled, match="user request"):
                connection.execute("SELECT pg_sleep(120)")
            watch.join(60)
        assert ended.is_set()
        analysts.remove(owner, slow)


def _watch(house: House, role: str, ended: threading.Event) -> None:
    deadline = time.monotonic() + 60
    with house.owner() as owner:
        while not ended.is_set() and time.monotonic() < deadline:
            if any(name == role and seconds >= 1 for name, seconds in analysts.cancel_overdue(owner)):
                ended.set()


def test_a_role_is_made_changed_listed_and_removed_by_command(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHIMERA_POSTGRES", house.dsn)
    monkeypatch.setenv("CHIMERA_KAFKA", "unused:1")
    name = f"joe_{uuid.uuid4().hex[:8]}"

    def chimera(*words: str) -> Any:
        return CliRunner().invoke(build(["analyst"]), ["analyst", *words])

    assert orjson.loads(chimera("add", name, "--tenant", "acme", "--dry-run", "--json").stdout)["would"] == "make"
    assert name not in {a["name"] for a in orjson.loads(chimera("list", "--json").stdout)}
    made = orjson.loads(chimera("add", name, "--tenant", "acme", "--password", "--json").stdout)
    assert made["gaps"] == []
    assert len(made["password"]) > 20
    with psycopg.connect(made["address"]) as connection:
        assert connection.execute("SELECT DISTINCT tenant FROM agents").fetchall() == [("acme",)]
    chimera("add", name, "--tenant", "acme", "--tenant", "bolt", "--json")
    found = next(a for a in orjson.loads(chimera("list", "--json").stdout) if a["name"] == name)
    assert (found["tenants"], found["exists"]) == (["acme", "bolt"], True)
    assert name in chimera("list").stdout
    assert orjson.loads(chimera("remove", name, "--dry-run", "--json").stdout)["analyst"] == name
    assert chimera("remove", name, "--yes").exit_code == 0
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(made["address"])
    gone = chimera("remove", name, "--yes")
    assert isinstance(gone.exception, BadAnalyst)
    assert "there is no analyst" in str(gone.exception)


def test_names_and_tenants_that_cannot_be_are_refused_with_the_way_out(house: House) -> None:
    with house.owner() as owner:
        with pytest.raises(BadAnalyst, match="choose among acme, bolt"):
            analysts.add(owner, "zoe", ["nobody"], by="test")
        with pytest.raises(BadAnalyst, match="no name for an analyst"):
            analysts.add(owner, 'x"; DROP ROLE y', ["acme"], by="test")
        with pytest.raises(BadAnalyst, match="is no analyst of this installation"):
            analysts.add(owner, "postgres", ["acme"], by="test")


def test_an_operator_can_look_through_an_analysts_eyes(house: House) -> None:
    question = "SELECT DISTINCT tenant FROM agents ORDER BY 1"
    with asking.asked(house.dsn, question, what="t", timeout_s=30, analyst=house.name) as answer:
        assert [row for rows in answer.batches for row in rows] == [("acme",)]
    with asking.asked(house.dsn, question, what="t", timeout_s=30) as answer:
        assert [row for rows in answer.batches for row in rows] == [("acme",), ("bolt",)]


def test_views_are_built_again_when_they_are_lost_and_keep_their_grants(house: House) -> None:
    with house.owner() as owner:
        owner.execute("DROP VIEW analytics_v1.stale_rate")
    migrate(house.dsn)
    with house.as_analyst() as connection:
        assert connection.execute("SELECT DISTINCT tenant FROM stale_rate").fetchall() == [("acme",)]
