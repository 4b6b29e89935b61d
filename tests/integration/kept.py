"""What is kept of posts and media, beside the same made anew from the tables that it follows from."""

from __future__ import annotations

from typing import Any

from chimera.projections.write import Connection

KEPT = {
    "post_facts": "agent_id, campaign, ordinal, attempt",
    "asset_facts": "agent_id, sha256",
    "asset_daily": "agent_id, day, event",
}
"""View of the analysts -> its key."""

Facts = dict[str, list[tuple[Any, ...]]]


def facts(connection: Connection) -> Facts:
    """What analysts see now."""
    return {
        view: connection.execute(f"SELECT * FROM analytics_v1.{view} ORDER BY {key}".encode()).fetchall()
        for view, key in KEPT.items()
    }


def made_anew(connection: Connection) -> Facts:
    """What they would see if nothing were kept. Nothing is changed."""
    with connection.transaction(force_rollback=True):
        connection.execute("DELETE FROM core.post_facts")
        connection.execute("DELETE FROM core.asset_facts")
        connection.execute("DELETE FROM core.asset_daily")
        connection.execute("DELETE FROM core.posts_unsettled")
        connection.execute(
            "INSERT INTO core.posts_unsettled"
            " SELECT agent_id, campaign, ordinal, attempt FROM core.effects WHERE status = 'executed'"
        )
        connection.execute("DELETE FROM core.media_unsettled")
        connection.execute("INSERT INTO core.media_unsettled SELECT agent_id, '2000-01-01' FROM core.agents")
        return facts(connection)
