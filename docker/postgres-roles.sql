-- Roles for a ledger in Postgres, to be run in the ledger's database by a superuser, or else by the owner of the tables, who
-- cannot do the last part of it, after `sluice migrate` and after every upgrade that migrates: psql -f postgres-roles.sql sluice
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
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO sluice_pool;
-- Ranges of slots are tables, which the pool may make and drop in no other way than by these.
GRANT EXECUTE ON FUNCTION slots_extend(BIGINT, BIGINT), slots_drop(TEXT, BIGINT) TO sluice_pool;

-- What the pool adds. What is written to the journal, of a segment, of a block's split and of what a batch pays, stays as it is.
GRANT INSERT ON account, block, block_output, block_weight, entry, fee_block, fee_rate, ledger_order, meta, miner, opening, payout,
    payout_input, payout_item, payout_order, payout_signature, payout_threshold, payout_tx, rest_mark, segment, set_aside, slot,
    slot_end, slot_miner, slot_open, slot_rate, slot_span, slot_work, terms, txn, wallet_change, watermark, worker TO sluice_pool;
-- What it changes, column by column: not whose an address is, say, nor what was asked of it.
GRANT UPDATE (balance_msat) ON account TO sluice_pool;
GRANT UPDATE (state, credits, matured, confirmations, watched) ON block TO sluice_pool;
GRANT UPDATE (done_ms, outcome) ON ledger_order, payout_order TO sluice_pool;
GRANT UPDATE (rest) ON miner TO sluice_pool;
GRANT UPDATE (epoch, coins_sats, immature_sats, kept_ms, trouble) ON payer TO sluice_pool;
GRANT UPDATE (state, settlements, txid, confirmations, watched, trouble) ON payout TO sluice_pool;
GRANT UPDATE (sats, set_ms) ON payout_threshold TO sluice_pool;
GRANT UPDATE (raw) ON payout_tx TO sluice_pool;
GRANT UPDATE (closed_ms, shares, work, bits, terms_id, fee_rate_id) ON slot TO sluice_pool;
GRANT UPDATE (workers_from, miners_from) ON slot_kept TO sluice_pool;
GRANT UPDATE (shares, work) ON slot_open TO sluice_pool;
GRANT UPDATE (work) ON slot_rate TO sluice_pool;
GRANT UPDATE (accepted_shares, rejected_shares, work, height) ON tally TO sluice_pool;
GRANT UPDATE (segment, byte) ON watermark TO sluice_pool;
GRANT UPDATE (accepted_shares, rejected_shares, work, last_share_ms, base_shares, base_work) ON worker TO sluice_pool;
-- What it clears: the open slot when it is closed, and what is written anew.
GRANT DELETE ON payout_threshold, rest_mark, slot_open, wallet_change TO sluice_pool;

-- Whoever holds a lock that the pool needs holds up the pool, and whoever may make large objects fills its disk; Postgres lets
-- everybody do both. In this database the locks are for the pool, the two that it takes, and for the owner of the tables, who
-- migrates; large objects are for nobody.
DO $$
DECLARE
    tables_owner TEXT := (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'txn'::regclass);
    taking REGPROCEDURE;
BEGIN
    IF NOT (SELECT pg_has_role(proowner, 'USAGE') FROM pg_proc WHERE oid = 'pg_advisory_lock(bigint)'::regprocedure) THEN
        IF has_function_privilege('sluice_reader', 'pg_advisory_lock(bigint)', 'EXECUTE') THEN
            RAISE WARNING 'any role that may connect can still hold up the pool by its locks, and make large objects: run this '
                'file once as a superuser in this database';
        END IF;
        RETURN;
    END IF;
    FOR taking IN
        SELECT oid FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND (proname ~ '^pg_(try_)?advisory_(xact_)?lock'
            OR proname IN ('lo_creat', 'lo_create', 'lo_from_bytea', 'lo_import', 'lo_put', 'lowrite', 'lo_truncate', 'lo_truncate64'))
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC, sluice_pool, sluice_reader', taking);
        IF taking::TEXT LIKE '%advisory%' THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', taking, tables_owner);
        END IF;
    END LOOP;
    GRANT EXECUTE ON FUNCTION pg_try_advisory_lock(BIGINT), pg_advisory_xact_lock(BIGINT) TO sluice_pool;
END $$;
