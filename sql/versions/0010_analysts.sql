-- Which database role sees which tenant. Views ask by current_user, which no setting of a session changes.
CREATE SCHEMA IF NOT EXISTS access;
REVOKE ALL ON SCHEMA access FROM PUBLIC;

CREATE TABLE IF NOT EXISTS access.analysts (
    role            text NOT NULL,             -- of PostgreSQL
    tenant          text NOT NULL,
    added_by        text NOT NULL,
    added_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    limit_s         integer NOT NULL CHECK (limit_s > 0),  -- how long one statement may run
    PRIMARY KEY (role, tenant)
);

-- One row: does who asks see everything? Those who own the read models do, and what their questions run as.
CREATE OR REPLACE VIEW access.me AS
SELECT pg_has_role(current_user, n.nspowner, 'USAGE') OR current_user = 'pg_read_all_data' AS everything FROM pg_namespace n WHERE n.nspname = 'access';

CREATE OR REPLACE VIEW access.mine AS
SELECT tenant FROM access.analysts WHERE role = current_user;

-- What `analytics_v1` was built from.
CREATE TABLE IF NOT EXISTS access.contract (
    schema          text PRIMARY KEY,
    digest          text NOT NULL,
    built_at        timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Views made by hand until now: their places are taken by those of sql/views, which nobody can forget to guard.
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN SELECT c.relname FROM pg_class c WHERE c.relkind = 'v' AND c.relnamespace = 'analytics_v1'::regnamespace LOOP
        EXECUTE 'DROP VIEW analytics_v1.' || quote_ident(found.relname);
    END LOOP;
END $$;
