-- Which effects show which media, or order something made from them: later steps of an effect name no media themselves.
CREATE TABLE asset_uses (
    agent_id        text NOT NULL,
    campaign        integer NOT NULL,
    ordinal         integer NOT NULL,
    attempt         integer NOT NULL,
    sha256          text NOT NULL,             -- may be unknown here: a soft reference
    use             text NOT NULL CHECK (use IN ('shown', 'source')),
    platform        text NOT NULL,
    disclosure      text NOT NULL,
    actor           text NOT NULL,
    created_at      timestamptz NOT NULL,      -- when it was first proposed
    updated_at      timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    PRIMARY KEY (agent_id, campaign, ordinal, attempt, sha256)
);
CREATE INDEX asset_uses_sha256 ON asset_uses (agent_id, sha256);
CREATE INDEX events_ends ON events (created_at) WHERE type IN ('EffectEnded', 'EffectUnknown') AND outcome = 'applied';

INSERT INTO asset_uses
SELECT e.agent_id, e.campaign, e.ordinal, e.attempt, e.sha256, CASE WHEN f.effect_class = 'paid' THEN 'source' ELSE 'shown' END, min(e.platform),
       f.disclosure, min(e.actor), min(e.created_at), max(e.created_at), min(e.partition), max(e."offset")
FROM asset_events e JOIN effects f USING (agent_id, campaign, ordinal, attempt)
WHERE e.event = 'proposed' GROUP BY e.agent_id, e.campaign, e.ordinal, e.attempt, e.sha256, f.effect_class, f.disclosure;
