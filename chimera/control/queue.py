"""What the review desk's queue shows, read from the read models.

The rule not to break: the order decides nothing; who may see a card is part of the statement, not of the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from chimera.commands.triage import RISK_BY_CLASS, RISK_BY_WHY

FILTERS = ("all", "sensitive", "low confidence", "financial", "unknown")
AT_ONCE = 200
"""Cards that one page lists; the rest is counted."""

_ORDER = """(%(by_class)s::jsonb ->> q.effect_class)::float8 * coalesce((%(by_why)s::jsonb ->> q.why)::float8, 1)
  * (1 + extract(epoch FROM q.waiting) / 86400)"""
_WHERE: Mapping[str, str] = {
    "all": "true",
    "sensitive": "cardinality(q.risk_tags) > 0 OR q.why = 'sensitive'",
    "low confidence": "q.why IN ('confidence', 'bad_value')",
    "financial": "q.effect_class <> 'publish'",
}


class Queue(NamedTuple):
    """A page of the queue: its cards, how many there are of this filter, and how many of each."""

    cards: Sequence[Mapping[str, Any]]
    total: int
    counts: Mapping[str, int]


class Wanted(NamedTuple):
    """What of the queue is asked for. `tenants` None: of every tenant. `without`: cards just decided, which rows may still show."""

    tenants: Sequence[str] | None
    kind: str = "all"
    platform: str = ""
    agent: str = ""
    without: Sequence[str] = ()


async def queue(connection: AsyncConnection[Any], wanted: Wanted) -> Queue:
    """The cards that wait, the heaviest first: class x reason x days of waiting."""
    given = {
        "by_class": _json(RISK_BY_CLASS),
        "by_why": _json(RISK_BY_WHY),
        "tenants": None if wanted.tenants is None else list(wanted.tenants),
        "platform": wanted.platform,
        "agent": wanted.agent,
        "without": list(wanted.without),
        "most": AT_ONCE,
    }
    if wanted.kind == "unknown":
        cards = await _rows(connection, f"{_UNKNOWN} ORDER BY e.claimed_at LIMIT %(most)s", given)
    else:
        cards = await _rows(
            connection,
            f"SELECT q.*, {_ORDER} AS weight FROM analytics_v1.review_queue q WHERE {_SEEN} AND ({_WHERE[wanted.kind]})"
            " ORDER BY weight DESC, q.opened_at, q.card LIMIT %(most)s",
            given,
        )
    counted = await _rows(connection, _COUNTS, given)
    counts = {name.replace("_", " "): number for name, number in counted[0].items()}
    return Queue(cards, counts[wanted.kind], counts)


_SEEN = """(%(tenants)s::text[] IS NULL OR q.tenant = ANY(%(tenants)s)) AND (%(platform)s = '' OR q.platform = %(platform)s)
  AND (%(agent)s = '' OR q.agent = %(agent)s) AND q.card <> ALL(%(without)s::text[])"""
_OF_EFFECT = "e.agent || '/' || e.campaign || '.' || e.ordinal || '.' || e.attempt"
_UNKNOWN = f"""SELECT e.tenant, e.agent, {_OF_EFFECT} AS card, 'unknown' AS why, e.effect_class, e.platform, e.account,
  coalesce(e.arguments ->> 'text', e.arguments ->> 'caption', e.tool) AS text, NULL::float8 AS confidence,
  '{{}}'::text[] AS risk_tags, now() - e.claimed_at AS waiting, 0 AS approvals
  FROM analytics_v1.effects e WHERE e.status = 'unknown'
  AND (%(tenants)s::text[] IS NULL OR e.tenant = ANY(%(tenants)s)) AND (%(agent)s = '' OR e.agent = %(agent)s)
  AND (%(platform)s = '' OR e.platform = %(platform)s)"""
_COUNTS = f"""SELECT count(*) AS "all", count(*) FILTER (WHERE {_WHERE["sensitive"]}) AS sensitive,
  count(*) FILTER (WHERE {_WHERE["low confidence"]}) AS low_confidence, count(*) FILTER (WHERE {_WHERE["financial"]}) AS financial,
  (SELECT count(*) FROM ({_UNKNOWN}) u) AS unknown FROM analytics_v1.review_queue q WHERE {_SEEN}"""


async def mark(connection: AsyncConnection[Any]) -> str:
    """A word that changes when the queue does."""
    rows = await _rows(
        connection,
        'SELECT count(*) AS cards, max("offset") AS newest, sum("offset") AS places FROM analytics_v1.review_queue',
        {},
    )
    return "-".join(str(value) for value in rows[0].values())


async def _rows(connection: AsyncConnection[Any], sql: str, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(sql, given)
        return await cursor.fetchall()


def _json(table: Mapping[str, float]) -> str:
    return "{" + ", ".join(f'"{name}": {value}' for name, value in table.items()) + "}"
