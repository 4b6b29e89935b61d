"""Which posts are to be looked at again: those that are a quarter older than when their numbers were last observed.

The rule not to break: what is owed follows from posts and observations alone. Nobody remembers who asked whom, so a crash, a
restart or a second asker can neither lose a post nor stop one from being looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import psycopg

from chimera.projections.checkpoints import NOTICE_ABSENCE

OLDEST_DAYS = 30
"""Posts older than this are not looked at any more."""
_OWED = """
SELECT agent_id, tenant, platform, account, platform_id, mode, made_partition, made_offset FROM (
    SELECT e.agent_id, a.tenant, e.platform, e.account, e.platform_id, e.mode, e.ended_at,
           r.partition AS made_partition, r."offset" AS made_offset, (
               SELECT max(l.observed_at) FROM core.engagement_latest l
               WHERE (l.agent_id, l.platform, l.platform_id) = (e.agent_id, e.platform, e.platform_id)
                 AND l.observed_at >= e.ended_at
           ) AS seen_at
    FROM core.effects e
    JOIN core.agents a USING (agent_id)
    LEFT JOIN core.artifacts r USING (agent_id, campaign, ordinal, attempt, edit)
    WHERE e.status = 'executed' AND e.effect_class = 'publish' AND e.mode <> 'dry_run' AND e.platform_id IS NOT NULL
      AND a.status = 'active' AND e.partition = ANY (%(partitions)s) AND e.platform = ANY (%(platforms)s)
      AND e.ended_at > now() - make_interval(days => %(days)s) AND NOT coalesce(r.content ? 'takedown', false) AND NOT EXISTS (
          SELECT FROM core.effects x
          JOIN core.artifacts k USING (agent_id, campaign, ordinal, attempt, edit)
          WHERE x.agent_id = e.agent_id AND x.platform = e.platform AND x.status = 'executed'
            AND k.content ->> 'takedown' = e.platform_id
      )
) p
WHERE coalesce(seen_at, ended_at) + least(
          greatest((coalesce(seen_at, ended_at) - ended_at) / 4, make_interval(secs => %(first_s)s)), interval '1 day'
      ) <= now()
ORDER BY coalesce(seen_at, ended_at)
LIMIT %(most)s
"""

Owed = tuple[str, str, str, str, str, str, tuple[int, int] | None]
"""Agent's stream key, tenant, platform, account, the post's id there, mode; partition and offset of the record with its words."""


def owed(dsn: str, first_s: float) -> Callable[[Collection[int], Collection[str], int], list[Owed]]:
    """Asks for at most so many posts of agents on these partitions of the log and on these platforms, the longest unseen first.

    `first_s`: seconds from a post to the first look at it. The answer blocks, and raises `OSError` where the database gives none:
    who asks knows of no database.
    """

    def ask(partitions: Collection[int], platforms: Collection[str], most: int) -> list[Owed]:
        values: dict[str, Any] = {
            "partitions": sorted(partitions), "platforms": sorted(platforms), "first_s": first_s, "days": OLDEST_DAYS, "most": most,
        }  # fmt: skip
        try:
            with psycopg.connect(dsn, application_name="chimera observer", **NOTICE_ABSENCE) as connection:
                connection.execute("SET statement_timeout TO '30s'")
                rows = connection.execute(_OWED, values).fetchall()
        except psycopg.Error as error:
            raise OSError(str(error).splitlines()[0]) from error
        return [(*told, None if partition is None else (partition, offset)) for *told, partition, offset in rows]

    return ask
