"""What posts took, what media were made from and what happened to them by day: kept, so that a question need not find it out again.

The rule not to break: a row is made anew from the tables it follows from, never added to. Triggers of these tables note whose
rows are no longer right (`posts_unsettled`, `media_unsettled`), whoever writes; the views compute those, and those alone, until
they are settled.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from psycopg import sql

from chimera.projections.write import Connection

KEPT = ("post_facts", "asset_facts", "asset_daily", "engagement_growth")
"""What is filled where something is settled, here or by `growth`."""
AGENTS, POSTS = 100, 20_000
"""Settled in one transaction: who writes media of one of these agents waits for its end."""


def settle(connection: Connection, schema: str) -> int:
    """Make everything unsettled anew, some at a time; of how many agents and posts. Raises `psycopg.Error`."""
    count = 0
    for some in (_settle_agents, _settle_posts):
        while settled := some(connection, schema):
            count += settled
    return count


def unsettle(connection: Connection, schema: str, agent: str) -> None:
    """Note that all facts of an agent are to be made anew, within the caller's transaction: for who replaces a model's rows."""
    for statement in _statements(schema).unsettle:
        connection.execute(statement, (agent,))


def _settle_agents(connection: Connection, schema: str) -> int:
    statements = _statements(schema)
    with connection.transaction():
        row = connection.execute(statements.agents, (AGENTS,)).fetchone()
        agents: list[Any] = row[0] if row else []
        if agents:
            with connection.pipeline():
                for statement in statements.media:  # of their own: they see what was committed before the locks were there
                    connection.execute(statement, {"agents": agents})
    return len(agents)


def _settle_posts(connection: Connection, schema: str) -> int:
    statements = _statements(schema)
    with connection.transaction():
        posts = connection.execute(statements.posts, (POSTS,)).fetchall()
        if posts:
            keys = [list(column) for column in zip(*posts, strict=True)]
            with connection.pipeline():
                for statement in statements.facts:
                    connection.execute(statement, keys)
    return len(posts)


class _Statements(NamedTuple):
    """`agents`, `posts`: lock what is unsettled and nobody is just writing. `media`, `facts`: make it, and forget the notes."""

    agents: bytes
    media: tuple[bytes, ...]
    posts: bytes
    facts: tuple[bytes, ...]
    unsettle: tuple[bytes, ...]


FACTS = (
    "role", "media_type", "tier", "duration_s", "platform", "profile", "tool_name", "tool_version", "model", "cost_usd",
    "ancestors", "origins_cost_usd", "origin", "origin_role", "steps", "created_at", "partition", "offset",
)  # fmt: skip
POST_FACTS = (
    "agent_id", "campaign", "ordinal", "attempt", "platform", "account", "platform_id", "url", "mode", "is_reply", "published_at",
    "model", "tool_name", "tool_version", "worker_confidence", "judge_confidence", "why", "was_edited", "review_took",
    "asset_sha256", "making_cost_usd", "publishing_cost_usd", "partition", "offset",
)  # fmt: skip
TABLES = (
    "media_unsettled", "asset_facts", "asset_facts_anew", "asset_daily", "asset_daily_anew", "posts_unsettled", "post_facts",
    "post_facts_anew", "effects",
)  # fmt: skip
_KEYS = "unnest(%s::text[], %s::int[], %s::int[], %s::int[]) AS k(agent_id, campaign, ordinal, attempt)"
_POST = "(t.agent_id, t.campaign, t.ordinal, t.attempt) = (k.agent_id, k.campaign, k.ordinal, k.attempt)"


@lru_cache(maxsize=64)
def _statements(schema: str) -> _Statements:
    names: dict[str, sql.Composable] = {name: sql.Identifier(schema, name) for name in TABLES}
    names["facts"] = _listed("{}", FACTS)
    names["new"] = _listed("EXCLUDED.{}", FACTS)
    names["old"] = _listed("t.{}", FACTS)
    names["set"] = _listed("{0} = EXCLUDED.{0}", FACTS)
    names["post"] = _listed("{}", POST_FACTS)
    names["its"] = _listed("t.{}", POST_FACTS)

    def made(statement: str) -> bytes:
        return sql.SQL(statement).format(**names).as_bytes()

    return _Statements(
        agents=made(
            "SELECT coalesce(array_agg(agent_id), '{{}}') FROM (SELECT agent_id FROM {media_unsettled} ORDER BY agent_id LIMIT %s"
            " FOR UPDATE SKIP LOCKED) t"
        ),
        media=(
            made(
                "WITH now AS MATERIALIZED (SELECT * FROM {asset_facts_anew} WHERE agent_id = ANY (%(agents)s)), gone AS ("
                " DELETE FROM {asset_facts} t WHERE t.agent_id = ANY (%(agents)s) AND NOT EXISTS ("
                "SELECT FROM now n WHERE (n.agent_id, n.sha256) = (t.agent_id, t.sha256)))"
                " INSERT INTO {asset_facts} AS t (agent_id, sha256, {facts}) SELECT agent_id, sha256, {facts} FROM now"
                " ON CONFLICT (agent_id, sha256) DO UPDATE SET {set} WHERE ({old}) IS DISTINCT FROM ({new})"
            ),
            made(
                "WITH now AS MATERIALIZED (SELECT * FROM {asset_daily_anew} WHERE agent_id = ANY (%(agents)s)), gone AS ("
                " DELETE FROM {asset_daily} d USING {media_unsettled} w"
                " WHERE d.agent_id = ANY (%(agents)s) AND w.agent_id = d.agent_id AND d.day >= w.day AND NOT EXISTS ("
                "SELECT FROM now n WHERE (n.agent_id, n.day, n.event) = (d.agent_id, d.day, d.event)))"
                ' INSERT INTO {asset_daily} AS d SELECT agent_id, day, event, assets, events, partition, "offset" FROM now'
                " ON CONFLICT (agent_id, day, event) DO UPDATE SET assets = EXCLUDED.assets, events = EXCLUDED.events,"
                ' partition = EXCLUDED.partition, "offset" = EXCLUDED."offset" WHERE (d.assets, d.events, d."offset")'
                ' IS DISTINCT FROM (EXCLUDED.assets, EXCLUDED.events, EXCLUDED."offset")'
            ),
            made("DELETE FROM {media_unsettled} WHERE agent_id = ANY (%(agents)s)"),
        ),
        posts=made("SELECT agent_id, campaign, ordinal, attempt FROM {posts_unsettled} LIMIT %s FOR UPDATE SKIP LOCKED"),
        facts=(
            made(f"INSERT INTO {{post_facts}} ({{post}}) SELECT {{its}} FROM {_KEYS} JOIN {{post_facts_anew}} t ON {_POST}"),
            made(f"DELETE FROM {{posts_unsettled}} t USING {_KEYS} WHERE {_POST}"),
        ),
        unsettle=(
            made(
                "INSERT INTO {posts_unsettled} AS t SELECT agent_id, campaign, ordinal, attempt FROM {effects}"
                " WHERE agent_id = %s AND status = 'executed' AND effect_class = 'publish' ORDER BY 2, 3, 4"
                " ON CONFLICT (agent_id, campaign, ordinal, attempt) DO UPDATE SET attempt = t.attempt WHERE false"
            ),
            made("DELETE FROM {post_facts} WHERE agent_id = %s"),
            made(
                "INSERT INTO {media_unsettled} AS t VALUES (%s, NULL) ON CONFLICT (agent_id) DO UPDATE SET day = t.day WHERE false"
            ),
        ),
    )


def _listed(how: str, columns: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL(how).format(sql.Identifier(column)) for column in columns)
