-- Room to grow, and an end to it: work by miner for windows, work by worker for statistics, both in ranges of slots that are
-- dropped when they are old. docs/LEDGER.md, "Growth".

SET LOCAL statement_timeout = 0; -- all slots that there are are gone through once

CREATE TABLE slot_kept (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    workers_from BIGINT NOT NULL CHECK (workers_from >= 1),
    miners_from BIGINT NOT NULL CHECK (miners_from BETWEEN 1 AND workers_from)
);
COMMENT ON TABLE slot_kept IS 'How far back the work of slots is kept.';
COMMENT ON COLUMN slot_kept.id IS 'Always 1.';
COMMENT ON COLUMN slot_kept.workers_from IS 'From this slot on there is slot_work; what was before is in worker.base_shares and base_work.';
COMMENT ON COLUMN slot_kept.miners_from IS 'From this slot on there are slot_miner and slot_rate.';
INSERT INTO slot_kept VALUES (1, 1, 1);

CREATE TABLE slot_span (
    first_slot BIGINT PRIMARY KEY,
    next_slot BIGINT NOT NULL UNIQUE CHECK (next_slot > first_slot)
);
COMMENT ON TABLE slot_span IS 'The ranges of slots that are dropped together; in Postgres each is a partition of slot_work, slot_miner and slot_rate.';
COMMENT ON COLUMN slot_span.first_slot IS 'Its first slot, which the partitions are named after.';
COMMENT ON COLUMN slot_span.next_slot IS 'The first slot behind it.';

ALTER TABLE worker ADD COLUMN base_shares BIGINT NOT NULL DEFAULT 0 CHECK (base_shares >= 0);
COMMENT ON COLUMN worker.base_shares IS 'Of accepted_shares, those in slots whose slot_work is not kept any more.';
ALTER TABLE worker ADD COLUMN base_work NUMERIC(39, 0) NOT NULL DEFAULT 0 CHECK (base_work >= 0);
COMMENT ON COLUMN worker.base_work IS 'The work of these.';

CREATE TABLE rest_mark (
    slot_id BIGINT NOT NULL,
    miner_id BIGINT NOT NULL REFERENCES miner,
    rest BIGINT NOT NULL CHECK (rest > 0),
    PRIMARY KEY (slot_id, miner_id)
);
COMMENT ON TABLE rest_mark IS 'What miners had left over where a range of slots began, so that what its slots paid can be done again without those before.';
COMMENT ON COLUMN rest_mark.slot_id IS 'The first slot of the range: slot_span.first_slot.';
COMMENT ON COLUMN rest_mark.miner_id IS 'The miner; one that is not here had nothing left.';
COMMENT ON COLUMN rest_mark.rest IS 'As miner.rest.';

-- The open slot is written again with every batch, a closed one never: so it has a table of its own, and the ranges stay dense.
CREATE TABLE slot_open (
    worker_id BIGINT PRIMARY KEY,
    shares BIGINT NOT NULL CHECK (shares > 0),
    work NUMERIC(39, 0) NOT NULL CHECK (work > 0)
) WITH (fillfactor = 50);
COMMENT ON TABLE slot_open IS 'What each worker did in the slot that is open. Empty while none is.';
COMMENT ON COLUMN slot_open.worker_id IS 'The worker.';
COMMENT ON COLUMN slot_open.shares IS 'Its shares in this slot.';
COMMENT ON COLUMN slot_open.work IS 'Their work.';
INSERT INTO slot_open SELECT w.worker_id, w.shares, w.work FROM slot_work w JOIN slot s ON s.id = w.slot_id WHERE s.closed_ms IS NULL;
DELETE FROM slot_work w USING slot s WHERE s.id = w.slot_id AND s.closed_ms IS NULL;

-- Without references: to drop a range that refers to worker would lock all workers, and to fill it would look each one up.
-- Who writes has read the workers; `sluice ledger verify` compares.
ALTER TABLE slot_work RENAME TO slot_work_1;
ALTER INDEX slot_work_pkey RENAME TO slot_work_1_pkey;
ALTER TABLE slot_work_1 DROP CONSTRAINT slot_work_slot_id_fkey, DROP CONSTRAINT slot_work_worker_id_fkey;
CREATE TABLE slot_work (
    slot_id BIGINT NOT NULL,
    worker_id BIGINT NOT NULL,
    shares BIGINT NOT NULL CONSTRAINT slot_work_shares_check CHECK (shares > 0),
    work NUMERIC(39, 0) NOT NULL CONSTRAINT slot_work_work_check CHECK (work > 0),
    PRIMARY KEY (slot_id, worker_id)
) PARTITION BY RANGE (slot_id);
COMMENT ON TABLE slot_work IS 'What each worker did in a closed slot: statistics, and what proofs of splits begin with. There is no row per share.';
COMMENT ON COLUMN slot_work.slot_id IS 'The slot.';
COMMENT ON COLUMN slot_work.worker_id IS 'The worker.';
COMMENT ON COLUMN slot_work.shares IS 'Its shares in this slot.';
COMMENT ON COLUMN slot_work.work IS 'Their work.';

ALTER TABLE slot_rate RENAME TO slot_rate_1;
ALTER INDEX slot_rate_pkey RENAME TO slot_rate_1_pkey;
ALTER TABLE slot_rate_1 DROP CONSTRAINT slot_rate_slot_id_fkey, DROP CONSTRAINT slot_rate_miner_id_fkey;
CREATE TABLE slot_rate (
    slot_id BIGINT NOT NULL,
    miner_id BIGINT NOT NULL,
    bits BIGINT NOT NULL,
    halvings BIGINT NOT NULL,
    work NUMERIC(39, 0) NOT NULL CONSTRAINT slot_rate_work_check CHECK (work > 0),
    PRIMARY KEY (slot_id, miner_id, bits, halvings)
) PARTITION BY RANGE (slot_id);
COMMENT ON TABLE slot_rate IS 'pps, fpps, pps_plus: what of a slot was mined at which network target and subsidy.';
COMMENT ON COLUMN slot_rate.slot_id IS 'The slot.';
COMMENT ON COLUMN slot_rate.miner_id IS 'The miner.';
COMMENT ON COLUMN slot_rate.bits IS 'Network target, compact form.';
COMMENT ON COLUMN slot_rate.halvings IS 'How often the subsidy had been halved.';
COMMENT ON COLUMN slot_rate.work IS 'Work of the miner''s shares of that kind in the slot.';

CREATE TABLE slot_miner (
    slot_id BIGINT NOT NULL,
    miner_id BIGINT NOT NULL,
    work NUMERIC(39, 0) NOT NULL CHECK (work > 0),
    PRIMARY KEY (slot_id, miner_id)
) PARTITION BY RANGE (slot_id);
COMMENT ON TABLE slot_miner IS 'What each miner did in a closed slot: windows are made of it.';
COMMENT ON COLUMN slot_miner.slot_id IS 'The slot.';
COMMENT ON COLUMN slot_miner.miner_id IS 'The miner.';
COMMENT ON COLUMN slot_miner.work IS 'Work of all its workers in the slot.';

-- A role that may not create or drop tables makes and drops ranges through these, and nothing else: docker/postgres-roles.sql.
-- A new range is attached and not created in place, which would wait for everybody who reads.
CREATE FUNCTION slots_extend(first_slot BIGINT, next_slot BIGINT) RETURNS BIGINT LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    part TEXT;
BEGIN
    IF first_slot < 1 OR next_slot <= first_slot THEN
        RAISE EXCEPTION 'slots % to % are no range', first_slot, next_slot;
    END IF;
    FOREACH part IN ARRAY ARRAY['slot_work', 'slot_miner', 'slot_rate'] LOOP
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', part || '_' || first_slot, part);
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)',
            part, part || '_' || first_slot, first_slot, next_slot);
    END LOOP;
    RETURN next_slot;
END $$;
CREATE FUNCTION slots_drop(part TEXT, first_slot BIGINT) RETURNS BIGINT LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF part NOT IN ('slot_work', 'slot_miner', 'slot_rate') THEN
        RAISE EXCEPTION '% is not kept by ranges of slots', part;
    END IF;
    EXECUTE format('DROP TABLE %I', part || '_' || first_slot);
    RETURN first_slot;
END $$;
REVOKE ALL ON FUNCTION slots_extend(BIGINT, BIGINT), slots_drop(TEXT, BIGINT) FROM PUBLIC;
-- Names mean the ledger's own tables, whoever calls, and never a temporary one of the caller.
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION slots_extend(BIGINT, BIGINT) SET search_path = %I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION slots_drop(TEXT, BIGINT) SET search_path = %I, pg_temp', current_schema());
END $$;

-- What there is becomes the first range, as it lies there.
DO $$
DECLARE
    next_slot BIGINT := (SELECT MAX(id) + 1 FROM slot);
BEGIN
    IF next_slot IS NULL THEN
        DROP TABLE slot_work_1, slot_rate_1;
    ELSE
        EXECUTE format('ALTER TABLE slot_work ATTACH PARTITION slot_work_1 FOR VALUES FROM (1) TO (%s)', next_slot);
        EXECUTE format('ALTER TABLE slot_rate ATTACH PARTITION slot_rate_1 FOR VALUES FROM (1) TO (%s)', next_slot);
        EXECUTE format('CREATE TABLE slot_miner_1 (LIKE slot_miner INCLUDING ALL)');
        EXECUTE format('ALTER TABLE slot_miner ATTACH PARTITION slot_miner_1 FOR VALUES FROM (1) TO (%s)', next_slot);
        INSERT INTO slot_span VALUES (1, next_slot);
        INSERT INTO slot_miner
            SELECT s.slot_id, w.miner_id, SUM(s.work) FROM slot_work s JOIN worker w ON w.id = s.worker_id
            GROUP BY s.slot_id, w.miner_id ORDER BY s.slot_id, w.miner_id;
    END IF;
END $$;
