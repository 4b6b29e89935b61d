-- Transfers of coins and tokens. What they cost in dollars lies in effects; here is what was moved, and what the chain says of it.

CREATE TABLE transactions (
    agent_id        text NOT NULL REFERENCES agents DEFERRABLE INITIALLY IMMEDIATE,
    campaign        integer NOT NULL,
    ordinal         integer NOT NULL,
    attempt         integer NOT NULL,
    asset           text NOT NULL,             -- its symbol
    amount          numeric(38, 18),           -- whole units
    payee           text NOT NULL,
    hash            text,                      -- NULL = nothing was sent, or nobody knows its hash
    chain_status    text,                      -- success, reverted; NULL = the chain did not say
    block           bigint,
    block_hash      text,
    nonce           bigint,
    gas             bigint,
    fee             numeric(38, 18),           -- whole units of the chain's own coin
    sender          text,
    token           text,                      -- the token's contract; NULL = the chain's own coin
    submitted_at    timestamptz,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    PRIMARY KEY (agent_id, campaign, ordinal, attempt)
);
CREATE INDEX transactions_agent_created ON transactions (agent_id, created_at);
CREATE INDEX transactions_hash ON transactions (hash) WHERE hash IS NOT NULL;
