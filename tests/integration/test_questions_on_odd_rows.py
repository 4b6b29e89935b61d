"""Questions and views on rows that are there in life and not in a demo: numbers that were never told, ids that two platforms
share, sums that are missing."""

from __future__ import annotations

import uuid
from typing import Any

import psycopg
import pytest

from chimera.projections import demo
from chimera.projections.media import standings
from chimera.projections.questions import ask, question


@pytest.fixture
def made(postgres_dsn: str) -> str:
    database = f"demo_{uuid.uuid4().hex[:12]}"
    demo.make(postgres_dsn, database, demo.Size(posts=2000, days=30, observations=3))
    return demo.address(postgres_dsn, database)


def answered(made: str, name: str) -> list[dict[str, Any]]:
    answer = ask(made, question(name))
    return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]


def told(made: str, sql: str) -> Any:
    with psycopg.connect(made) as connection:
        return connection.execute(sql.encode()).fetchall()


def test_likes_of_posts_whose_views_nobody_tells_count_for_no_rate(made: str) -> None:
    # given posts of which one knows likes and no views, as some platforms have it
    before = {row["model"]: row["likes_per_1000_views"] for row in answered(made, "engagement_by_model")}
    with psycopg.connect(made) as connection:
        connection.execute(
            "UPDATE core.engagement_latest SET metrics = '{likes}', numbers = '{1000000000}'"
            " WHERE hashtext(platform_id) % 2 = 0 AND 'likes' = ANY (metrics)"
        )
    # then the rate is that of the others
    after = {row["model"]: row["likes_per_1000_views"] for row in answered(made, "engagement_by_model")}
    assert before.keys() == after.keys()
    assert all(rate is None or rate < 1000 for rate in after.values()), after


def test_what_was_spent_on_a_day_is_the_whole_days(made: str) -> None:
    spent = answered(made, "spend_by_day")
    days = told(
        made, "SELECT tenant, day, capability, sum(calls), sum(cost_usd) FROM analytics_v1.spend GROUP BY tenant, day, capability"
    )
    whole = {(tenant, day, capability): (calls, usd) for tenant, day, capability, calls, usd in days}
    assert {(r["tenant"], r["day"], r["capability"]): (r["calls"], r["cost_usd"]) for r in spent}.items() <= whole.items()
    assert len({row["day"] for row in spent}) == 14


def test_money_that_one_side_does_not_know_at_all_is_a_difference_and_no_silence(made: str) -> None:
    with psycopg.connect(made) as connection:
        acme = "(SELECT agent_id FROM core.agents WHERE tenant = 'acme')"
        connection.execute(f"DELETE FROM core.spend_daily WHERE agent_id IN {acme}".encode())
        bolt = "(SELECT agent_id FROM core.agents WHERE tenant = 'bolt')"
        connection.execute(f"DELETE FROM core.spend_daily WHERE agent_id IN {bolt}".encode())
        connection.execute(f"DELETE FROM core.tool_calls WHERE agent_id IN {bolt}".encode())
        connection.execute(
            f"UPDATE core.effects SET max_cost_usd = 1, cost_usd = 1 WHERE status = 'executed' AND agent_id IN {bolt}".encode()
        )
    found = {row["tenant"]: row for row in answered(made, "spend_tie_out")}
    assert found["acme"]["difference_usd"] == found["acme"]["calls_usd"] > 0
    assert found["bolt"]["executed_usd"] > 0, "calls that nobody recorded were made all the same"


def test_a_takedown_on_one_platform_leaves_the_post_of_the_same_id_on_another_standing(made: str) -> None:
    # given a post on X whose id is also that of a post on Instagram, which is taken down
    (agent, sha256, platform_id), *_ = told(
        made,
        "SELECT s.agent_id, s.sha256, s.platform_id FROM analytics_v1.publishing_state s WHERE s.state = 'published' AND"
        " s.platform = 'x' AND EXISTS (SELECT FROM core.effects e WHERE e.agent_id = s.agent_id AND e.platform = 'instagram'"
        " AND e.status = 'executed') LIMIT 1",
    )
    with psycopg.connect(made) as connection:
        connection.execute("UPDATE core.campaigns SET status = 'completed'")
        connection.execute(
            "UPDATE core.artifacts SET content = jsonb_build_object('takedown', %s::text) WHERE (agent_id, campaign, ordinal) = ("
            " SELECT agent_id, campaign, ordinal FROM core.effects WHERE agent_id = %s AND platform = 'instagram'"
            " AND status = 'executed' LIMIT 1)",
            (platform_id, agent),
        )
    # then the one on X is still out, and its film is not let go
    states = told(made, f"SELECT state FROM analytics_v1.publishing_state WHERE platform = 'x' AND platform_id = '{platform_id}'")
    assert {state for (state,) in states} == {"published"}
    assert standings(made)[sha256].needed
