"""What posts gained by agent, day and number: kept, so that a week of it is not computed from every post's every day.

The rule not to break: a sum is made anew from `engagement_daily`, never added to. Who writes observations says in the same
transaction whose sums are no longer right (`engagement_unsettled`); the view computes those itself until they are settled.
"""

from __future__ import annotations

from functools import lru_cache

from psycopg import sql

from chimera.projections.write import Connection

EVERY_S = 5.0
"""How often sums are settled while observations come in."""


@lru_cache(maxsize=64)
def unsettling(schema: str) -> bytes:
    """Says of what was staged in `pg_temp.engagement_new` whose sums are no longer right."""
    return (
        sql.SQL(
            "INSERT INTO {} AS t SELECT agent_id, platform, min(day) FROM pg_temp.engagement_new GROUP BY agent_id, platform"
            # Locked also where nothing changes: who settles cannot take it for settled before this transaction is over.
            " ON CONFLICT (agent_id, platform) DO UPDATE SET day = EXCLUDED.day WHERE EXCLUDED.day < t.day"
        )
        .format(sql.Identifier(schema, "engagement_unsettled"))
        .as_bytes()
    )


def settle(connection: Connection, schema: str) -> int:
    """Make every unsettled sum anew, in one transaction; of how many agents on how many platforms. Raises `psycopg.Error`."""
    taken, kept, forgotten = _statements(schema)
    with connection.transaction():
        row = connection.execute(taken).fetchone()
        count = int(row[0]) if row else 0
        if count:
            with connection.pipeline():
                # A statement of its own: it sees what was committed before the locks were there.
                connection.execute(kept)
                connection.execute(forgotten)
    return count


@lru_cache(maxsize=64)
def _statements(schema: str) -> tuple[bytes, bytes, bytes]:
    """Lock what is unsettled and note it; make its sums; forget it. What comes meanwhile is not noted, so it stays."""
    unsettled = sql.Identifier(schema, "engagement_unsettled")
    taken = sql.SQL("json_to_recordset(current_setting('chimera.settling')::json) AS u(agent_id text, platform text)")
    return (
        sql.SQL(
            "WITH taken AS (SELECT agent_id, platform FROM {} ORDER BY agent_id, platform FOR UPDATE)"
            " SELECT count(*), set_config('chimera.settling', coalesce(json_agg(taken)::text, '[]'), true) FROM taken"
        )
        .format(unsettled)
        .as_bytes(),
        sql.SQL(
            'INSERT INTO {} AS g (agent_id, platform, day, metric, posts, gained, observed_at, partition, "offset")'
            ' SELECT agent_id, platform, day, metric, posts, gained, observed_at, partition, "offset" FROM {}'
            " WHERE (agent_id, platform) IN (SELECT agent_id, platform FROM {})"
            " ON CONFLICT (agent_id, platform, day, metric) DO UPDATE SET posts = EXCLUDED.posts, gained = EXCLUDED.gained,"
            ' observed_at = EXCLUDED.observed_at, partition = EXCLUDED.partition, "offset" = EXCLUDED."offset"'
            ' WHERE (g.posts, g.gained, g."offset") IS DISTINCT FROM (EXCLUDED.posts, EXCLUDED.gained, EXCLUDED."offset")'
        )
        .format(sql.Identifier(schema, "engagement_growth"), sql.Identifier(schema, "engagement_gaining"), taken)
        .as_bytes(),
        sql.SQL("DELETE FROM {} t USING {} WHERE (t.agent_id, t.platform) = (u.agent_id, u.platform)")
        .format(unsettled, taken)
        .as_bytes(),
    )
