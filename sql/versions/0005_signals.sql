-- What outside people said to agents. Their words and names are sealed and stay on the log.

CREATE TABLE signals (
    agent_id        text NOT NULL REFERENCES agents,
    heard_at        bigint NOT NULL,           -- offset of the record that brought it, on the agent's partition
    item            integer NOT NULL,          -- its place in that record
    source          text NOT NULL,             -- platform/capability
    number          bigint NOT NULL,           -- of the poll
    thread          text NOT NULL,
    external_id     text NOT NULL,
    observed_at     timestamptz NOT NULL,      -- as the platform says
    taint           text NOT NULL,
    created_at      timestamptz NOT NULL,
    campaign        integer,                   -- the task that writes the answer; NULL = none was planned
    answered_by     integer,
    updated_at      timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    PRIMARY KEY (agent_id, heard_at, item)
);
CREATE INDEX signals_thread ON signals (agent_id, thread);

-- What takes a post down is executed too, and is no post.
CREATE OR REPLACE VIEW posts AS
SELECT e.agent_id, a.tenant, a.name AS agent, e.campaign, e.ordinal, e.attempt,
       a.name || '/' || e.campaign || '.' || e.ordinal || '.' || e.attempt AS card,
       e.platform, e.account, e.thread, e.platform_id, e.url, e.mode,
       coalesce(r.content ->> 'text', e.arguments ->> 'text') AS text,
       r.confidence, r.content, r.sources, e.disclosure, e.effect_hash, r.artifact_hash, e.edit, e.cost_usd,
       e.proposed_at, e.approved_at, e.ended_at AS published_at, e.partition, e."offset"
FROM effects e
JOIN agents a USING (agent_id)
LEFT JOIN artifacts r USING (agent_id, campaign, ordinal, attempt, edit)
WHERE e.status = 'executed' AND e.effect_class = 'publish' AND coalesce(r.content ->> 'takedown', '') = '';
