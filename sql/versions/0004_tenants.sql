-- The tenant's stream: members, accounts, money, editions, campaigns over many agents, copies owed.
-- Nothing here refers to `agents`: an agent's rows may lie on another partition and come later.

CREATE TABLE tenants (
    tenant_id       text PRIMARY KEY,          -- stream key, tenant/<uuid>
    tenant          text NOT NULL,
    state_version   bigint NOT NULL CHECK (state_version >= 0),
    members         integer NOT NULL,
    reserved_usd    numeric(20, 8) NOT NULL,   -- held now, in all
    spent_usd       numeric(20, 8) NOT NULL,   -- settled so far, in all
    held            integer NOT NULL,          -- reservations
    waiting         integer NOT NULL,          -- requests that no budget has room for
    copies_owed     integer NOT NULL,
    updated_at      timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL
);
CREATE INDEX tenants_name ON tenants (tenant);

CREATE TABLE tenant_members (
    tenant_id       text NOT NULL,
    agent_id        text NOT NULL,
    name            text NOT NULL,
    groups          text[] NOT NULL,
    status          text NOT NULL CHECK (status IN ('joined', 'left')),
    updated_at      timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    PRIMARY KEY (tenant_id, agent_id)
);

CREATE TABLE tenant_accounts (
    tenant_id       text NOT NULL,
    platform        text NOT NULL,
    account         text NOT NULL,
    agent_id        text NOT NULL,
    status          text NOT NULL CHECK (status IN ('claimed', 'released')),
    updated_at      timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    PRIMARY KEY (tenant_id, platform, account)
);

CREATE TABLE payees (
    tenant_id       text NOT NULL,
    payee           text NOT NULL,
    status          text NOT NULL CHECK (status IN ('voted', 'allowed', 'removed')),
    updated_at      timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    PRIMARY KEY (tenant_id, payee)
);

CREATE TABLE budgets (
    tenant_id       text NOT NULL,
    scope           text NOT NULL,             -- tenant | day | campaign/<id> | agent/<uuid>
    limit_usd       numeric(20, 8),            -- NULL = never set
    asked_usd       numeric(20, 8),            -- what the last vote asks for, while more votes are needed
    updated_at      timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    PRIMARY KEY (tenant_id, scope)
);

CREATE TABLE published (
    tenant_id       text NOT NULL,
    what            text NOT NULL CHECK (what IN ('policy', 'soul')),
    edition         bigint NOT NULL,
    digest          text NOT NULL,
    selector        text NOT NULL,             -- in words: all, group eu, 50000 ppm of all
    told            integer NOT NULL,          -- members that it was for when it was published
    actor           text NOT NULL,
    updated_at      timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    PRIMARY KEY (tenant_id, what, edition)
);

CREATE TABLE tenant_campaigns (
    tenant_id       text NOT NULL,
    campaign_id     text NOT NULL,
    name            text NOT NULL,
    status          text NOT NULL CHECK (status IN ('running', 'paused', 'cancelled')),
    brief_edition   integer NOT NULL,
    told            integer NOT NULL,
    requester       text NOT NULL,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    PRIMARY KEY (tenant_id, campaign_id)
);

CREATE TABLE copies_owed (
    tenant_id       text NOT NULL,
    agent_id        text NOT NULL,
    number          bigint NOT NULL,           -- of the last copy that was ever owed
    delivered       bigint NOT NULL,           -- up to which the agent has them
    owed            integer NOT NULL,
    next            text,                      -- type of the oldest that is owed
    updated_at      timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    PRIMARY KEY (tenant_id, agent_id)
);
CREATE INDEX copies_owed_now ON copies_owed (updated_at) WHERE owed > 0;

CREATE TABLE ledger (
    tenant_id       text NOT NULL,
    agent_id        text NOT NULL,
    campaign        integer NOT NULL,
    ordinal         integer NOT NULL,
    attempt         integer NOT NULL,
    campaign_id     text NOT NULL,
    entry           text NOT NULL CHECK (entry IN ('held', 'over_budget', 'payee', 'settled')),
    reason          text NOT NULL,             -- the scope without room, new_payee, above_reserved, ...
    amount_usd      numeric(20, 8) NOT NULL,   -- asked for; of a settlement: the actual cost
    day             date NOT NULL,             -- UTC day whose window it lies in
    created_at      timestamptz NOT NULL,
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    n               integer NOT NULL,          -- several entries may come of one record
    PRIMARY KEY (partition, "offset", n)
);
CREATE INDEX ledger_effect ON ledger (agent_id, campaign, ordinal, attempt);
CREATE INDEX ledger_created ON ledger USING brin (created_at);
