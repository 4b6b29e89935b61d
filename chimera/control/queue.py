"""What the review desk's queue shows, read from the read models.

The rule not to break: the order decides nothing; who may see a card is part of the statement, not of the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import orjson
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from chimera.commands.triage import (
    NEAR_END,
    REACH_BY_MODE,
    REACH_OF_ANSWER,
    RISK_BY_CLASS,
    RISK_BY_TAINT,
    RISK_BY_WHY,
)

Kind = Literal["all", "sensitive", "low confidence", "financial", "unknown"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FACETS = ("tenant", "platform", "campaign", "agent")
"""What a queue may be narrowed to one of, beside its kind."""
AT_ONCE = 100
"""Cards that one page lists; the rest is counted."""
CHIPS = 8
"""Values of a facet that one page offers, those with the most cards."""


class Wanted(NamedTuple):
    """What of the queue is asked for. `tenants` None: of every tenant. `only`: facet -> the one value wanted. `search`: words
    that the card, its account or its text must hold. `without`: cards just decided, which rows may still show. `behind`: cards that
    stand behind the others, since somebody holds them or whoever asks has voted."""

    tenants: Sequence[str] | None
    kind: Kind = "all"
    only: Mapping[str, str] = {}
    search: str = ""
    without: Sequence[str] = ()
    behind: Sequence[str] = ()

    def chosen(self) -> dict[str, str]:
        """As it stands in an address: what is not said is left out."""
        said = {
            "kind": "" if self.kind == "all" else self.kind,
            **{name: self.only.get(name, "") for name in FACETS},
            "q": self.search,
        }
        return {name: value for name, value in said.items() if value}


class Chip(NamedTuple):
    """One value that the queue can be narrowed to. `words`: as people call it."""

    value: str
    words: str
    cards: int


class Queue(NamedTuple):
    """A page of the queue: its cards, how many there are of what is wanted, how many of each kind, and chips by facet."""

    cards: Sequence[Mapping[str, Any]]
    total: int
    counts: Mapping[str, int]
    chips: Mapping[str, Sequence[Chip]]


def read_wanted(asked: Mapping[str, str], tenants: Sequence[str] | None) -> Wanted:
    """What an address asks for; an unknown kind is all of them."""
    kind: Kind = next((known for known in KINDS if known == asked.get("kind")), "all")
    only = {name: asked[name][:200] for name in FACETS if asked.get(name)}
    return Wanted(tenants, kind, only, asked.get("q", "").strip()[:200])


async def queue(connection: AsyncConnection[Any], wanted: Wanted) -> Queue:
    """The cards that wait: those that stand behind after the others, else the heaviest first (risk x deadline x reach)."""
    given = _weights() | {
        "tenants": None if wanted.tenants is None else list(wanted.tenants),
        "without": list(wanted.without),
        "behind": list(wanted.behind),
        "search": f"%{_literal(wanted.search)}%" if wanted.search else None,
        "kind": wanted.kind,
        "most": AT_ONCE,
        **{name: wanted.only.get(name, "") for name in FACETS},
    }
    (found,) = await _rows(connection, statement(wanted), given)
    counts = {str(kind): 0 for kind in KINDS} | found["counts"]
    keys = found["keys"]
    columns = {name: [key[n] for key in keys] for n, name in enumerate(("agents", "campaigns", "ordinals", "attempts"))}
    cards = await _rows(connection, _UNKNOWN_CARDS if wanted.kind == "unknown" else _CARDS, columns) if keys else []
    chips = {name: [Chip(*row) for row in found["chips"].get(name, ())] for name in FACETS}
    return Queue(cards, counts[wanted.kind], counts, chips)


def statement(wanted: Wanted) -> str:
    """The question that finds a page's cards, counts and chips in one pass over what waits: one row of JSON."""
    searched = (
        "" if not wanted.search else " AND (q.text ILIKE %(search)s OR q.card ILIKE %(search)s OR q.account ILIKE %(search)s)"
    )
    narrowed = "".join(f" AND {_COLUMN[name]} = %({name})s" for name in FACETS if wanted.only.get(name))
    return _PAGE.replace("/*narrowed*/", searched + narrowed)


async def voted(connection: AsyncConnection[Any], person: str) -> list[str]:
    """Cards that this person has approved and that wait for somebody else's vote."""
    return [row["card"] for row in await _rows(connection, _VOTED, {"person": person})]


async def mark(connection: AsyncConnection[Any]) -> str:
    """A word that changes when the queue does."""
    rows = await _rows(connection, _MARK, {})
    return "-".join(str(value) for value in rows[0].values())


_COLUMN = {"tenant": "q.tenant", "platform": "q.platform", "campaign": "q.campaign_id", "agent": "q.agent"}
_MINE = "(%(tenants)s::text[] IS NULL OR q.tenant = ANY(%(tenants)s)) AND q.card <> ALL(%(without)s::text[])"
_WEIGHT = """coalesce((%(by_class)s::jsonb ->> q.effect_class)::float8, %(worst_class)s)
      * coalesce((%(by_why)s::jsonb ->> q.why)::float8, 1) * coalesce((%(by_taint)s::jsonb ->> q.taint)::float8, 1)
      * (1 + least(9, q.max_cost_usd::float8 / 10))
      * (1 + (%(near_end)s - 1) * coalesce(least(1, greatest(0, extract(epoch FROM q.waiting)
          / nullif(extract(epoch FROM q.expires_at - q.opened_at), 0)))::float8, 0))
      * coalesce((%(by_mode)s::jsonb ->> q.mode)::float8, 1) * CASE WHEN q.thread IS NULL THEN 1 ELSE %(answer)s END"""
"""The parts of `triage.place` that rows know: what waits behind a card is left out."""
_LOST = """SELECT e.agent_id, e.campaign, e.ordinal, e.attempt, e.tenant, e.agent, e.platform, e.account,
    c.campaign_id, c.name AS campaign_name, e.agent || '/' || e.campaign || '.' || e.ordinal || '.' || e.attempt AS card,
    'unknown' AS why, e.effect_class,
    e.claimed_at AS opened_at, now() - e.claimed_at AS waiting, NULL::float8 AS confidence,
    coalesce(e.arguments ->> 'text', e.arguments ->> 'caption', e.tool) AS text,
    '{}'::text[] AS risk_tags, 0 AS approvals, NULL::timestamptz AS expires_at, e.max_cost_usd
  FROM analytics_v1.effects e LEFT JOIN analytics_v1.campaigns c USING (agent_id, campaign) WHERE e.status = 'unknown'"""
_PAGE = f"""WITH waiting AS MATERIALIZED (
  SELECT q.agent_id, q.campaign AS number, q.ordinal, q.attempt, q.card, q.tenant, q.platform, q.agent, q.campaign_id AS campaign,
    q.campaign_name, q.opened_at, q.sensitive,
    q.why IN ('confidence', 'bad_value') AS unsure, q.effect_class <> 'publish' AS money, {_WEIGHT} AS weight
  FROM analytics_v1.review_queue q WHERE {_MINE}/*narrowed*/),
lost AS MATERIALIZED (
  SELECT q.agent_id, q.campaign AS number, q.ordinal, q.attempt, q.card, q.tenant, q.platform, q.agent, q.campaign_id AS campaign,
    q.campaign_name, q.opened_at, 0::float8 AS weight FROM ({_LOST}) q WHERE {_MINE}/*narrowed*/),
wanted AS MATERIALIZED (
  SELECT agent_id, number, ordinal, attempt, card, tenant, platform, agent, campaign, campaign_name, opened_at, weight FROM waiting
  WHERE CASE %(kind)s WHEN 'all' THEN true WHEN 'sensitive' THEN sensitive WHEN 'low confidence' THEN unsure
    WHEN 'financial' THEN money ELSE false END
  UNION ALL SELECT * FROM lost WHERE %(kind)s = 'unknown'),
chips AS (
  SELECT CASE WHEN tenant IS NOT NULL THEN 'tenant' WHEN platform IS NOT NULL THEN 'platform'
      WHEN campaign IS NOT NULL THEN 'campaign' ELSE 'agent' END AS facet,
    coalesce(tenant, platform, campaign, agent) AS value, max(campaign_name) AS name, count(*) AS cards
  FROM wanted GROUP BY GROUPING SETS (tenant, platform, campaign, agent)),
ranked AS (
  SELECT facet, value, CASE facet WHEN 'campaign' THEN name ELSE value END AS words, cards,
    row_number() OVER (PARTITION BY facet ORDER BY cards DESC, value) AS place FROM chips WHERE value IS NOT NULL)
SELECT
  (SELECT jsonb_build_object('all', count(*), 'sensitive', count(*) FILTER (WHERE sensitive),
    'low confidence', count(*) FILTER (WHERE unsure),
    'financial', count(*) FILTER (WHERE money), 'unknown', (SELECT count(*) FROM lost)) FROM waiting) AS counts,
  (SELECT coalesce(jsonb_object_agg(facet, rows), '{{}}') FROM (
    SELECT facet, jsonb_agg(jsonb_build_array(value, words, cards) ORDER BY place) AS rows FROM ranked
    WHERE place <= {CHIPS} GROUP BY facet) f) AS chips,
  (SELECT coalesce(jsonb_agg(jsonb_build_array(agent_id, number, ordinal, attempt)), '[]') FROM (
    SELECT agent_id, number, ordinal, attempt FROM wanted
    ORDER BY card = ANY(%(behind)s::text[]), weight DESC, opened_at, card LIMIT %(most)s) t) AS keys"""
_KEYS = """unnest(%(agents)s::text[], %(campaigns)s::int[], %(ordinals)s::int[], %(attempts)s::int[])
  WITH ORDINALITY AS k (agent_id, campaign, ordinal, attempt, place)"""
# One look by key for each card: OFFSET keeps the planner from making the whole queue first.
_BY_KEY = "WHERE (q.agent_id, q.campaign, q.ordinal, q.attempt) = (k.agent_id, k.campaign, k.ordinal, k.attempt) OFFSET 0"
_CARDS = f"""SELECT q.* FROM {_KEYS}
  CROSS JOIN LATERAL (SELECT q.* FROM analytics_v1.review_queue q {_BY_KEY}) q ORDER BY k.place"""
_UNKNOWN_CARDS = f"SELECT q.* FROM {_KEYS} CROSS JOIN LATERAL (SELECT q.* FROM ({_LOST}) q {_BY_KEY}) q ORDER BY k.place"
_VOTED = """SELECT v.card FROM analytics_v1.reviews v
  JOIN analytics_v1.decisions d USING (agent_id, campaign, ordinal, attempt, edit)
  WHERE v.status = 'waiting' AND v.approvals > 0 AND d.reviewer = %(person)s AND d.decision = 'approved' AND d.ruling = 'applied'
  AND d.created_at >= v.opened_at"""
_MARK = """SELECT (SELECT count(*) || '-' || coalesce(max("offset"), 0) || '-' || coalesce(sum("offset"), 0)
    FROM analytics_v1.reviews WHERE status = 'waiting') AS waiting,
  (SELECT count(*) || '-' || coalesce(sum("offset"), 0) FROM analytics_v1.effects WHERE status = 'unknown') AS lost"""


def _weights() -> dict[str, Any]:
    return {
        "by_class": orjson.dumps(RISK_BY_CLASS).decode(),
        "worst_class": max(RISK_BY_CLASS.values()),
        "by_why": orjson.dumps(RISK_BY_WHY).decode(),
        "by_taint": orjson.dumps(RISK_BY_TAINT).decode(),
        "by_mode": orjson.dumps(REACH_BY_MODE).decode(),
        "near_end": NEAR_END,
        "answer": REACH_OF_ANSWER,
    }


def _literal(words: str) -> str:
    """Words as LIKE finds just them."""
    return words.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")


async def _rows(connection: AsyncConnection[Any], sql: str, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(sql, given)
        return await cursor.fetchall()
