"""What the read models know of files in the media store, for whoever verifies them or lets them go.

The rule not to break: it is asked only of read models at the log's end, or a file that was just named looks like nobody's.
"""

from __future__ import annotations

from collections.abc import Mapping

import psycopg

from chimera.media.lifecycle import Standing

_STANDING = """
WITH down AS (
  SELECT DISTINCT x.agent_id, x.platform, k.content ->> 'takedown' AS platform_id
  FROM core.effects x JOIN core.artifacts k USING (agent_id, campaign, ordinal, attempt, edit)
  WHERE x.status = 'executed' AND k.content ? 'takedown'
), used AS (
  SELECT u.agent_id, u.sha256, max(u.updated_at) AS newest,
         bool_or(e.status IN ('proposed', 'people', 'approved', 'claimed', 'submitted', 'unknown')
                 OR (e.status = 'executed' AND u.use = 'shown' AND d.platform_id IS NULL)) AS needed
  FROM core.asset_uses u
  JOIN core.effects e USING (agent_id, campaign, ordinal, attempt)
  LEFT JOIN down d ON (d.agent_id, d.platform, d.platform_id) = (e.agent_id, e.platform, e.platform_id)
  GROUP BY u.agent_id, u.sha256
)
SELECT sha256, array_remove(array_agg(DISTINCT a.role), NULL), max(greatest(a.updated_at, used.newest)),
       coalesce(bool_or(used.needed OR c.status IN ('running', 'paused')), false)
FROM core.assets a FULL JOIN used USING (agent_id, sha256)
LEFT JOIN core.campaigns c ON (c.agent_id, c.campaign) = (a.agent_id, a.campaign)
GROUP BY sha256
"""
"""An order's file may have been brought and not be shown yet: it is needed while its campaign is open."""


def standings(dsn: str) -> Mapping[str, Standing]:
    """Every hash that a record named, with what it is to whom. Raises `psycopg.Error`."""
    with psycopg.connect(dsn, connect_timeout=5) as connection:
        connection.read_only = True
        rows = connection.execute(_STANDING).fetchall()
    return {sha256: Standing(frozenset(roles), newest, needed) for sha256, roles, newest, needed in rows}
