-- Roles for a ledger in Postgres, to be run by the owner of the tables in the ledger's database, after `sluice migrate`
-- and after every upgrade that migrates: psql -f postgres-roles.sql sluice
-- Whoever may drop a trigger may change the journal; so the pool does not own its tables.
--   (owner)        runs `sluice migrate`, nothing else
--   sluice_pool    runs the pool: adds to the journal and to the segments, can change or delete nothing there
--   sluice_reader  reads: `sluice ledger verify`, reports, monitors
-- The roles cannot log in by a password until you give them one: ALTER ROLE sluice_pool PASSWORD '...';

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'sluice_pool') THEN
        CREATE ROLE sluice_pool LOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'sluice_reader') THEN
        CREATE ROLE sluice_reader LOGIN;
    END IF;
END $$;

REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC, sluice_pool, sluice_reader;
REVOKE CREATE ON SCHEMA public FROM PUBLIC, sluice_pool, sluice_reader;
DO $$
BEGIN
    EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC, sluice_pool, sluice_reader', current_database());
END $$;
GRANT USAGE ON SCHEMA public TO sluice_pool, sluice_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO sluice_pool, sluice_reader;
GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO sluice_pool;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO sluice_pool;
-- Ranges of slots are tables, which the pool may make and drop in no other way than by these.
GRANT EXECUTE ON FUNCTION slots_extend(BIGINT, BIGINT), slots_drop(TEXT, BIGINT) TO sluice_pool;
-- What is written there stays as it is.
-- Whose an address is stays as it is.
REVOKE UPDATE, DELETE ON miner FROM sluice_pool;
GRANT UPDATE (rest) ON miner TO sluice_pool;
REVOKE UPDATE, DELETE, TRUNCATE ON txn, entry, segment, set_aside FROM sluice_pool;
REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON _sqlx_migrations FROM sluice_pool;
