-- The functions that guard the journal and the payments mean the ledger's own tables, whoever calls them: without this a role
-- could lay temporary tables of the same names over them.

DO $$
DECLARE
    guard TEXT;
BEGIN
    FOREACH guard IN ARRAY ARRAY['journal_is_append_only()', 'journal_lock(BIGINT)', 'journal_entry_added()',
        'journal_txn_sealed()', 'payout_is_fixed()'] LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', guard, current_schema());
    END LOOP;
END $$;
