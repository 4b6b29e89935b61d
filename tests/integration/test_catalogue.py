"""The catalogue of the read models: every index, key and guard that the design names is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from chimera.projections import parts
from chimera.projections.schema import migrate

INDEXES = {
    # by agent and time
    "tasks_agent_created": "(agent_id, created_at)",
    "artifacts_agent_created": "(agent_id, created_at)",
    "effects_agent_proposed": "(agent_id, proposed_at)",
    "rejections_agent_created": "(agent_id, created_at)",
    "retries_agent_created": "(agent_id, created_at)",
    "security_events_tenant_created": "(tenant, created_at)",
    "tool_calls_agent_created": "(agent_id, created_at)",
    "assets_agent_created": "(agent_id, created_at)",
    "asset_events_agent_created": "(agent_id, created_at)",
    "engagement_metrics_agent_created": "(agent_id, created_at)",
    "events_stream_created": "(stream, created_at)",
    # a record by its id
    "events_record": "USING hash (record_id)",
    # what waits, and nothing else
    "tasks_waiting": "(agent_id) WHERE (finished_at IS NULL",
    "reviews_waiting": "WHERE (status = 'waiting'",
    "effects_pending": "WHERE (status = ANY (ARRAY['proposed'",
    "campaigns_open": "WHERE (status = ANY (ARRAY['running'",
    "copies_owed_now": "WHERE (owed > 0)",
    # time, where rows come in its order
    "verdicts_created": "USING brin (created_at)",
    "events_created": "USING brin (created_at)",
    "security_events_created": "USING brin (created_at)",
    "tool_calls_created": "USING brin (created_at)",
    "ledger_created": "USING brin (created_at)",
    "asset_events_created": "USING brin (created_at)",
    "engagement_metrics_created": "USING brin (created_at)",
    # the questions of people
    "engagement_daily_day": "(day)",
    "engagement_latest_day": "(day)",
    "engagement_growth_day": "(day)",
    "spend_daily_day": "(day)",
    "asset_daily_day": "(day)",
    "artifacts_takedowns": "WHERE (COALESCE((content ->> 'takedown'",
    "asset_lineage_parent": "(agent_id, parent)",
    "asset_provenance_tool": "(tool_name, tool_version)",
    "assets_task": "(agent_id, campaign, ordinal, attempt)",
    "asset_uses_sha256": "(agent_id, sha256)",
    "events_ends": "(created_at) WHERE ((type = ANY (ARRAY['EffectEnded'",
    "decisions_reviewer": "(reviewer, created_at)",
}


@pytest.fixture(scope="module")
def catalogue(postgres_dsn: str) -> Iterator[psycopg.Connection[Any]]:
    import uuid
    from urllib.parse import urlsplit, urlunsplit

    name = f"catalogue_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    dsn = urlunsplit(urlsplit(postgres_dsn)._replace(path=f"/{name}"))
    migrate(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        parts.make_ahead(connection)
        yield connection
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


Ask = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture
def ask(catalogue: psycopg.Connection[Any]) -> Ask:
    return lambda query: catalogue.execute(query.encode()).fetchall()


def test_every_index_of_the_design_is_there(ask: Ask) -> None:
    found: dict[str, str] = dict(ask("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'core'"))
    for name, says in INDEXES.items():
        assert name in found
        assert says in found[name], found[name]


def test_references_stay_within_one_agent_and_can_wait_for_the_end_of_a_transaction(ask: Ask) -> None:
    rows = ask(
        "SELECT c.conname, c.condeferrable, (SELECT array_agg(a.attname::text) FROM pg_attribute a WHERE a.attrelid = c.conrelid"
        " AND a.attnum = ANY (c.conkey)) FROM pg_constraint c WHERE c.contype = 'f' AND c.connamespace = 'core'::regnamespace"
    )
    assert len(rows) >= 15
    for name, deferrable, columns in rows:
        assert deferrable, name
        assert "agent_id" in columns, name


def test_parted_tables_have_parts_that_nobody_may_enter_and_no_default(ask: Ask) -> None:
    assert {row[0] for row in ask("SELECT partrelid::regclass::text FROM pg_partitioned_table")} == {
        f"core.{t}" for t in parts.PARTED
    }
    assert ask("SELECT partrelid FROM pg_partitioned_table WHERE partdefid <> 0") == []
    children = ask(
        "SELECT DISTINCT c.relnamespace::regnamespace::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE c.relkind = 'r'"
    )
    assert children == [("priv",)]
    for schema in ("core", "priv", "access"):
        assert ask(f"SELECT has_schema_privilege('public', '{schema}', 'USAGE')") == [(False,)]


def test_a_part_has_every_index_of_its_table(ask: Ask) -> None:
    for table in parts.PARTED:
        own = ask(f"SELECT count(*) FROM pg_indexes WHERE schemaname = 'core' AND tablename = '{table}'")
        part = ask(
            f"SELECT count(*) FROM pg_indexes WHERE schemaname = 'priv' AND tablename LIKE '{table}_2%' GROUP BY tablename LIMIT 1"
        )
        assert part == own


def test_every_view_of_the_analysts_has_its_barrier_and_a_comment_on_each_column(ask: Ask) -> None:
    rows = ask(
        "SELECT relname, reloptions, obj_description(oid, 'pg_class') FROM pg_class"
        " WHERE relnamespace = 'analytics_v1'::regnamespace AND relkind = 'v'"
    )
    assert len(rows) > 30
    for name, options, comment in rows:
        assert options == ["security_barrier=true"], name
        assert comment, name
    assert (
        ask(
            "SELECT c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
            " WHERE c.relnamespace = 'analytics_v1'::regnamespace AND a.attnum > 0 AND col_description(c.oid, a.attnum) IS NULL"
        )
        == []
    )
    assert ask("SELECT matviewname FROM pg_matviews") == []
