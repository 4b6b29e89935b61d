"""Small reads of the read models, for summaries that other rooms print.

The rule not to break: these only select; whoever needs more writes SQL against `analytics_v1`.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.rows import dict_row

from chimera.eventlog.read import end_offsets
from chimera.projections.engine import LOG, MODEL_SET

Rows = list[dict[str, Any]]


def posts(dsn: str) -> Rows:
    """Published posts, oldest first: agent, account, card, text, url, published_at, why ('automatic' or why people were asked)."""
    return _rows(
        dsn,
        "SELECT p.agent, p.account, p.card, p.text, p.url, p.published_at, coalesce(r.why, 'automatic') AS why FROM core.posts p"
        " LEFT JOIN core.reviews r USING (agent_id, campaign, ordinal, attempt) ORDER BY p.published_at, p.card",
    )


def cards(dsn: str) -> Rows:
    """Cards that wait for people, oldest first: card, agent, why, text, confidence, risk_tags, opened_at, waiting (timedelta)."""
    return _rows(
        dsn,
        "SELECT card, agent, why, text, confidence, risk_tags, opened_at, waiting, approvals FROM core.review_queue"
        " ORDER BY opened_at, card",
    )


def retries(dsn: str) -> Rows:
    """Attempts that ended without success, oldest first.

    agent, campaign, ordinal, attempt, title, reason, cause, said (the judge's reasons), failures, created_at.
    """
    return _rows(
        dsn,
        "SELECT a.name AS agent, r.campaign, r.ordinal, r.attempt, t.title, r.reason, r.cause,"
        " v.reasons AS said, r.failures, r.created_at"
        " FROM core.retries r JOIN core.agents a USING (agent_id) JOIN core.tasks t USING (agent_id, campaign, ordinal)"
        ' LEFT JOIN core.verdicts v ON (v.partition, v."offset") = (r.partition, r."offset") ORDER BY r.created_at, agent',
    )


def rejections(dsn: str) -> Rows:
    """Rejected records by reason and type: reason, type, records."""
    return _rows(dsn, "SELECT reason, type, count(*) AS records FROM core.rejections GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2")


def voids(dsn: str) -> Rows:
    """Void records by reason and type: reason, type, records."""
    return _rows(dsn, "SELECT reason, type, count(*) AS records FROM core.voids GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2")


def counts(dsn: str) -> dict[str, int]:
    """How many there are: agents, campaigns, events, posts, cards (waiting), and tasks and effects by status (`tasks.open` ...)."""
    rows = _rows(
        dsn,
        "SELECT 'agents' AS what, count(*) AS n FROM core.agents UNION ALL SELECT 'campaigns', count(*) FROM core.campaigns"
        " UNION ALL SELECT 'events', count(*) FROM core.events"
        " UNION ALL SELECT 'posts', count(*) FROM core.effects WHERE status = 'executed' AND effect_class = 'publish'"
        " UNION ALL SELECT 'cards', count(*) FROM core.reviews WHERE status = 'waiting'"
        " UNION ALL SELECT 'tasks.' || status, count(*) FROM core.tasks GROUP BY status"
        " UNION ALL SELECT 'effects.' || status, count(*) FROM core.effects GROUP BY status",
    )
    return {row["what"]: row["n"] for row in rows}


def lag(dsn: str, kafka: str, topic: str = LOG) -> dict[int, int]:
    """Partition -> records of the log that are not projected yet, against the broker's end offsets; all 0 = caught up."""
    ends = end_offsets(kafka, topic)
    with psycopg.connect(dsn, connect_timeout=5) as connection:
        found = connection.execute(
            "SELECT partition, next_offset FROM core.checkpoints WHERE model_set = %s AND topic = %s", (MODEL_SET, topic)
        ).fetchall()
    done = {int(p): int(n) for p, n in found}
    return {p: end - done.get(p, 0) for p, end in sorted(ends.items())}


def _rows(dsn: str, query: str) -> Rows:
    with psycopg.connect(dsn, connect_timeout=5, row_factory=dict_row) as connection:
        connection.read_only = True
        return connection.execute(query.encode()).fetchall()
