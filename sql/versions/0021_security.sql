-- What doors noted of who came in, who was turned away and who changed what guards the fleet (topic chimera.security, not part of the fold).
CREATE TABLE security_events (
    id              text NOT NULL,             -- of the event: what was sent twice has it twice
    tenant          text NOT NULL,             -- as the door says; * is the installation's
    what            text NOT NULL,             -- login_refused, switch_closed ...; unreadable where the record is none
    outcome         text NOT NULL,             -- done, refused, failed
    door            text NOT NULL,
    who             text NOT NULL,
    origin          text NOT NULL,
    action          text NOT NULL,
    resource        text NOT NULL,
    reason          text NOT NULL,
    digest          text NOT NULL,             -- of the bytes that were shown
    count           integer NOT NULL,          -- like refusals that are one record
    began_at        timestamptz NOT NULL,      -- clock of the process that noted it
    ended_at        timestamptz NOT NULL,
    created_at      timestamptz NOT NULL,      -- append time
    partition       smallint NOT NULL,
    "offset"        bigint NOT NULL,
    PRIMARY KEY (partition, "offset")
);
CREATE INDEX security_events_created ON security_events USING brin (created_at);
CREATE INDEX security_events_tenant_created ON security_events (tenant, created_at);
