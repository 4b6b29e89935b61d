"""What has left the folded states, from the read models: campaigns that are over, groups, counts, rulings of long ago.

The rule not to break: it only selects, each question within `PATIENCE_S`; who asks says up to where the log must be in, and is told
how many records are not.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

import psycopg
from psycopg.rows import dict_row

from chimera.commands.history import HistoryUnavailable
from chimera.projections.engine import MODEL_SET

PATIENCE_S = 5.0
"""A question takes no longer, waiting for the projector included."""
REST_S = 5.0
"""A database that did not answer is not asked again for so long: each question would wait for its timeouts."""

Rows = list[dict[str, Any]]
Connection = psycopg.Connection[dict[str, Any]]
Values = tuple[object, ...] | Mapping[str, object]

_ONE_CAMPAIGN = """
SELECT c.agent_id AS stream, a.name AS agent, c.campaign AS number, c.name, c.status, c.brief_edition, c.brief, c.requester AS by,
  (extract(epoch FROM c.created_at) * 1000)::bigint AS started_ts,
  CASE WHEN c.status IN ('completed', 'closed') THEN (extract(epoch FROM c.updated_at) * 1000)::bigint ELSE 0 END AS ended_ts,
  coalesce((SELECT jsonb_object_agg(t.ordinal, jsonb_build_object('status', t.status, 'reason', t.reason) ORDER BY t.ordinal)
    FROM core.tasks t WHERE (t.agent_id, t.campaign) = (c.agent_id, c.campaign)), '{}') AS tasks,
  coalesce((SELECT jsonb_object_agg(e.ordinal, e.status ORDER BY e.ordinal) FROM (
    SELECT DISTINCT ON (ordinal) ordinal, status FROM core.effects e WHERE (e.agent_id, e.campaign) = (c.agent_id, c.campaign)
    ORDER BY ordinal, attempt DESC) e), '{}') AS effects
FROM core.campaigns c JOIN core.agents a USING (agent_id) WHERE c.campaign_id = %s ORDER BY c.created_at, a.name
"""

_CAMPAIGNS = """
WITH tasks AS (
  SELECT c.campaign_id, t.status, count(*) AS n FROM core.tasks t JOIN core.campaigns c USING (agent_id, campaign) GROUP BY 1, 2),
effects AS (
  SELECT c.campaign_id, count(*) FILTER (WHERE e.status = 'executed') AS posts, count(*) FILTER (WHERE e.status = 'people') AS cards
  FROM core.effects e JOIN core.campaigns c USING (agent_id, campaign) WHERE e.status IN ('executed', 'people') GROUP BY 1),
statuses AS (SELECT campaign_id, status, count(*) AS n FROM core.campaigns GROUP BY 1, 2)
SELECT c.campaign_id, (array_agg(c.name ORDER BY c.created_at DESC))[1] AS name,
  (SELECT jsonb_object_agg(s.status, s.n) FROM statuses s WHERE s.campaign_id = c.campaign_id) AS status,
  array_agg(a.name ORDER BY c.created_at, a.name) AS agents, max(c.brief_edition) AS brief_edition,
  coalesce((SELECT jsonb_object_agg(t.status, t.n) FROM tasks t WHERE t.campaign_id = c.campaign_id), '{}') AS tasks,
  coalesce((SELECT e.posts FROM effects e WHERE e.campaign_id = c.campaign_id), 0) AS posts,
  coalesce((SELECT e.cards FROM effects e WHERE e.campaign_id = c.campaign_id), 0) AS cards_waiting,
  (extract(epoch FROM min(c.created_at)) * 1000)::bigint AS started_ts, (array_agg(c.requester ORDER BY c.created_at))[1] AS by
FROM core.campaigns c JOIN core.agents a USING (agent_id) GROUP BY c.campaign_id ORDER BY started_ts DESC
"""

_POSTS = """
SELECT a.name AS agent, e.agent_id AS stream, c.campaign_id AS campaign, e.platform, e.account, e.platform_id, e.url,
  r.content ->> 'text' AS text, (extract(epoch FROM e.ended_at) * 1000)::bigint AS published_ts,
  coalesce((extract(epoch FROM d.ended_at) * 1000)::bigint, 0) AS taken_down_ts, coalesce(d.reason, '') AS taken_down_because
FROM core.effects e JOIN core.agents a USING (agent_id) JOIN core.campaigns c USING (agent_id, campaign)
JOIN core.artifacts r USING (agent_id, campaign, ordinal, attempt, edit)
LEFT JOIN LATERAL (
  SELECT g.ended_at, t.inputs ->> 'reason' AS reason FROM core.tasks t JOIN core.effects g USING (agent_id, campaign, ordinal)
  WHERE t.agent_id = e.agent_id AND t.kind = 'takedown' AND t.inputs ->> 'platform_id' = e.platform_id
    AND g.status = 'executed' AND g.platform = e.platform ORDER BY g.ended_at LIMIT 1) d ON true
WHERE e.status = 'executed' AND e.platform_id IS NOT NULL AND r.content ->> 'text' IS NOT NULL
  AND NOT EXISTS (  -- what one person alone was told is no post (commands/posts.py)
    SELECT FROM core.events p WHERE (p.partition, p."offset") = (r.partition, r."offset")
      AND p.data -> 'effect' ->> 'capability' = 'social.dm')
  AND (%(stream)s::text IS NULL OR e.agent_id = %(stream)s)
  AND (%(post)s::text IS NULL OR e.platform_id = %(post)s OR e.url = %(post)s)
  AND NOT (%(standing)s AND d.ended_at IS NOT NULL)
ORDER BY e.ended_at DESC LIMIT %(limit)s
"""

_TOTALS = """
SELECT 'campaigns' AS what, status AS name, count(*) AS n FROM core.campaigns GROUP BY status
UNION ALL SELECT 'tasks', status, count(*) FROM core.tasks GROUP BY status
UNION ALL SELECT 'rulings', outcome, count(*) FROM core.events GROUP BY outcome
UNION ALL SELECT 'effects', 'executed', count(*) FROM core.effects WHERE status = 'executed'
"""

_GROUPS = """
SELECT a.agent_id AS stream, e.data -> 'groups' AS groups FROM core.agents a CROSS JOIN LATERAL (
  SELECT data FROM core.events e WHERE e.stream = a.agent_id AND e.type = 'AgentEnrolled' AND e.outcome = 'applied'
  ORDER BY e.created_at LIMIT 1) e
"""

_RULING = """
SELECT outcome, reason, state_version, partition, "offset" FROM core.events
WHERE stream = %s AND record_id = %s AND outcome <> 'void'
"""


_NEWEST = """
SELECT n.* FROM (SELECT DISTINCT partition FROM core.checkpoints) p CROSS JOIN LATERAL (
  SELECT partition, "offset", outcome, reason, state_version, created_at FROM core.events e
  WHERE e.partition = p.partition AND (%(type)s::text IS NULL OR type = %(type)s)
    AND (%(outcome)s::text IS NULL OR outcome = %(outcome)s)
  ORDER BY "offset" DESC LIMIT %(count)s) n
ORDER BY created_at DESC, partition DESC, "offset" DESC LIMIT %(count)s
"""

_NEWEST_OF_STREAM = """
SELECT partition, "offset", outcome, reason, state_version, created_at FROM core.events
WHERE stream = %(stream)s AND (%(type)s::text IS NULL OR type = %(type)s) AND (%(outcome)s::text IS NULL OR outcome = %(outcome)s)
ORDER BY created_at DESC, "offset" DESC LIMIT %(count)s
"""


class ReadModels:
    """The read models in the database behind `dsn`, of the log `topic`. Many threads may
    ask, one is answered at a time; connects when used."""

    def __init__(self, dsn: str, topic: str) -> None:
        self._dsn, self._topic = dsn, topic
        self._connection: Connection | None = None
        self._lock = threading.Lock()
        self._rests_until, self._trouble = 0.0, ""

    def missing(self, upto: Mapping[int, int]) -> int:
        """Wait until the read models hold the log up to these offsets; how many records they lack when patience ends.

        Raises `HistoryUnavailable`, like everything here.
        """
        deadline, pause_s = time.monotonic() + PATIENCE_S, 0.01
        while True:
            rows = self._rows(
                "SELECT partition, next_offset FROM core.checkpoints WHERE model_set = %s AND topic = %s", (MODEL_SET, self._topic)
            )
            at = {int(row["partition"]): int(row["next_offset"]) for row in rows}
            lacking = sum(max(0, end - at.get(partition, 0)) for partition, end in upto.items())
            if not lacking or time.monotonic() > deadline:
                return lacking
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 0.25)

    def campaigns(self) -> Rows:
        """One row per campaign id over all agents that have or had it, newest first."""
        return self._rows(_CAMPAIGNS)

    def campaign(self, id_: str) -> Rows:
        """One row per agent that has or had the campaign; tasks and effects by ordinal."""
        return self._rows(_ONE_CAMPAIGN, (id_,))

    def campaign_ids(self) -> list[str]:
        """Every campaign id there ever was."""
        return [str(row["campaign_id"]) for row in self._rows("SELECT DISTINCT campaign_id FROM core.campaigns")]

    def posts(self, stream: str | None, post: str | None, limit: int, standing: bool) -> Rows:
        """What was published, newest first, with when and why it was taken down."""
        return self._rows(_POSTS, {"stream": stream, "post": post, "limit": limit, "standing": standing})

    def totals(self) -> dict[str, dict[str, int]]:
        """Campaigns and tasks by status, rulings by outcome, effects executed: of all time."""
        counted: dict[str, dict[str, int]] = {"campaigns": {}, "tasks": {}, "rulings": {}, "effects": {}}
        for row in self._rows(_TOTALS):
            counted[row["what"]][row["name"]] = int(row["n"])
        return counted

    def groups(self) -> dict[str, list[str]]:
        """Stream key -> groups, as enrolled."""
        return {str(row["stream"]): list(row["groups"] or []) for row in self._rows(_GROUPS)}

    def ruling(self, key: str, id_: str) -> dict[str, Any] | None:
        """What the law said of the record of that id in this stream: outcome, reason, state_version, partition, offset."""
        rows = self._rows(_RULING, (key, id_))
        return rows[0] if rows else None

    def newest(self, count: int, stream: str | None, type_: str | None, outcome: str | None) -> Rows:
        """The newest records (of a stream, a type, an outcome), newest first: partition, offset, outcome, reason, state_version."""
        wanted = {"count": count, "stream": stream, "type": type_, "outcome": outcome}
        return self._rows(_NEWEST_OF_STREAM if stream is not None else _NEWEST, wanted)

    def close(self) -> None:
        """Let the connection go."""
        with self._lock:
            self._let_go()

    def _rows(self, query: str, values: Values = ()) -> Rows:
        with self._lock:
            if time.monotonic() < self._rests_until:
                raise HistoryUnavailable(self._trouble)
            kept = self._connection is not None
            try:
                return self._asked(query, values)
            except psycopg.OperationalError as error:
                if not kept:
                    raise self._rest(error) from error
            except psycopg.Error as error:
                raise self._rest(error) from error
            try:  # the database was started anew since the last question, and this one needs a connection anew
                return self._asked(query, values)
            except psycopg.Error as error:
                raise self._rest(error) from error

    def _asked(self, query: str, values: Values) -> Rows:
        answer: Future[tuple[Connection, Rows]] = Future()
        # In a thread of its own, since a database that stands still (rather than being down) keeps no timeout.
        threading.Thread(target=self._ask, args=(query, values, answer), name="history", daemon=True).start()
        try:
            self._connection, rows = answer.result(PATIENCE_S + 3)
        except TimeoutError:
            self._connection = None  # left to its thread
            raise psycopg.InterfaceError("no answer in time") from None
        except psycopg.Error:
            self._let_go()
            raise
        return rows

    def _ask(self, query: str, values: Values, answer: Future[tuple[Connection, Rows]]) -> None:
        try:
            connection = self._connection
            if connection is None or connection.closed:
                connection = psycopg.connect(
                    self._dsn,
                    autocommit=True,
                    connect_timeout=2,
                    row_factory=dict_row,
                    application_name="chimera-history",
                    options=f"-c statement_timeout={int(PATIENCE_S * 1000)} -c default_transaction_read_only=on",
                )
            answer.set_result((connection, connection.execute(query.encode(), values or None).fetchall()))
        except BaseException as error:  # noqa: BLE001 - handed to whoever asked
            answer.set_exception(error)

    def _rest(self, error: psycopg.Error) -> HistoryUnavailable:
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        self._trouble, self._rests_until = f"the read models do not answer ({why})", time.monotonic() + REST_S
        return HistoryUnavailable(self._trouble)

    def _let_go(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
