-- The work of slots is dropped only where slot_kept says that it is not kept: who drops a range moves that first, in the same
-- transaction. A call by mistake drops nothing that windows or totals need.
CREATE OR REPLACE FUNCTION slots_drop(part TEXT, first_slot BIGINT) RETURNS BIGINT LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    behind BIGINT;
    kept BIGINT;
BEGIN
    IF part NOT IN ('slot_work', 'slot_miner', 'slot_rate') THEN
        RAISE EXCEPTION '% is not kept by ranges of slots', part;
    END IF;
    SELECT p.next_slot INTO behind FROM slot_span p WHERE p.first_slot = slots_drop.first_slot;
    IF behind IS NULL THEN
        RAISE EXCEPTION 'no range of slots begins with %', slots_drop.first_slot;
    END IF;
    SELECT CASE part WHEN 'slot_work' THEN k.workers_from ELSE k.miners_from END INTO kept FROM slot_kept k;
    IF kept IS NULL OR kept < behind THEN
        RAISE EXCEPTION 'the range of slots % to % of % is kept: slot_kept says from % on',
            slots_drop.first_slot, behind - 1, part, kept;
    END IF;
    EXECUTE format('DROP TABLE %I', part || '_' || slots_drop.first_slot);
    RETURN slots_drop.first_slot;
END $$;
-- Replaced, it has lost what it had of this: names mean the ledger's own tables, whoever calls.
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION slots_drop(TEXT, BIGINT) SET search_path = %I, pg_temp', current_schema());
END $$;
