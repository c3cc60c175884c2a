-- What every scheme needs: the terms that work was done under, work that is paid at a fixed rate, and the fees of the chain.

-- The terms that the pool has ever had. What was mined under them keeps them.
CREATE TABLE terms (
    id BIGINT PRIMARY KEY,
    scheme TEXT NOT NULL CHECK (scheme IN ('solo', 'pplns', 'tides', 'pps', 'fpps', 'pps_plus')),
    factor BIGINT NOT NULL CHECK (factor >= 0),
    fee_ppm BIGINT NOT NULL CHECK (fee_ppm >= 0),
    UNIQUE (scheme, factor, fee_ppm)
);
COMMENT ON TABLE terms IS 'The terms that the pool has ever had. What was mined under them keeps them.';
COMMENT ON COLUMN terms.id IS 'Counts up from 1.';
COMMENT ON COLUMN terms.scheme IS 'How rewards are divided.';
COMMENT ON COLUMN terms.factor IS 'For how many blocks'' worth of work a share stays in the window: 8 for tides, 0 for solo.';
COMMENT ON COLUMN terms.fee_ppm IS 'The pool''s part, in millionths.';

-- Under which terms the records of a spool were written: each opening has one set, since terms change with a restart.
CREATE TABLE opening (
    spool BYTEA NOT NULL,
    epoch BIGINT NOT NULL,
    terms_id BIGINT NOT NULL REFERENCES terms,
    PRIMARY KEY (spool, epoch)
);
COMMENT ON TABLE opening IS 'Under which terms the records of a spool were written: terms change with a restart only.';
COMMENT ON COLUMN opening.spool IS 'Random id of the spool directory.';
COMMENT ON COLUMN opening.epoch IS 'Which opening of it: the upper half of the numbers of its segments.';
COMMENT ON COLUMN opening.terms_id IS 'The terms.';

-- The mean of the fees of the latest blocks of the chain, whenever it was worked out anew. fpps pays it for work.
CREATE TABLE fee_rate (
    id BIGINT PRIMARY KEY,
    tip_hash BYTEA NOT NULL,
    blocks BIGINT NOT NULL CHECK (blocks > 0),
    trimmed BIGINT NOT NULL CHECK (trimmed >= 0 AND 2 * trimmed < blocks),
    mean_msat BIGINT NOT NULL CHECK (mean_msat >= 0),
    created_ms BIGINT NOT NULL
);
COMMENT ON TABLE fee_rate IS 'The mean of the fees of the latest blocks of the chain. fpps pays it for work.';
COMMENT ON COLUMN fee_rate.id IS 'Counts up from 1.';
COMMENT ON COLUMN fee_rate.tip_hash IS 'The newest block that it is of; the others follow from fee_block.prev_hash.';
COMMENT ON COLUMN fee_rate.blocks IS 'How many blocks it is of.';
COMMENT ON COLUMN fee_rate.trimmed IS 'How many of the highest, and how many of the lowest, were left out.';
COMMENT ON COLUMN fee_rate.mean_msat IS 'Mean fees of a block, rounded down.';
COMMENT ON COLUMN fee_rate.created_ms IS 'When it was worked out.';

-- The fees of blocks of the chain, whoever found them.
CREATE TABLE fee_block (
    hash BYTEA PRIMARY KEY,
    prev_hash BYTEA NOT NULL,
    height BIGINT NOT NULL,
    fees_sats BIGINT NOT NULL CHECK (fees_sats >= 0)
);
COMMENT ON TABLE fee_block IS 'The fees of blocks of the chain, whoever found them.';
COMMENT ON COLUMN fee_block.hash IS 'Hash of the block.';
COMMENT ON COLUMN fee_block.prev_hash IS 'The block that it builds on.';
COMMENT ON COLUMN fee_block.height IS 'Its height.';
COMMENT ON COLUMN fee_block.fees_sats IS 'What its transactions pay, satoshi.';

ALTER TABLE slot ADD COLUMN terms_id BIGINT REFERENCES terms;
COMMENT ON COLUMN slot.terms_id IS 'The terms of all its shares; null only until the first start of a version that knows terms.';
ALTER TABLE slot ADD COLUMN bits BIGINT;
COMMENT ON COLUMN slot.bits IS 'Network target of its newest share, compact form.';
ALTER TABLE slot ADD COLUMN fee_rate_id BIGINT REFERENCES fee_rate;
COMMENT ON COLUMN slot.fee_rate_id IS 'fpps: the mean of fees that its work was paid with.';

-- Work that is paid at a fixed rate, exactly: what of a slot was mined at which network target and subsidy.
CREATE TABLE slot_rate (
    slot_id BIGINT NOT NULL REFERENCES slot,
    miner_id BIGINT NOT NULL REFERENCES miner,
    bits BIGINT NOT NULL,
    halvings BIGINT NOT NULL,
    work NUMERIC(39, 0) NOT NULL CHECK (work > 0),
    PRIMARY KEY (slot_id, miner_id, bits, halvings)
);
COMMENT ON TABLE slot_rate IS 'pps, fpps, pps_plus: what of a slot was mined at which network target and subsidy.';
COMMENT ON COLUMN slot_rate.slot_id IS 'The slot.';
COMMENT ON COLUMN slot_rate.miner_id IS 'The miner.';
COMMENT ON COLUMN slot_rate.bits IS 'Network target, compact form.';
COMMENT ON COLUMN slot_rate.halvings IS 'How often the subsidy had been halved.';
COMMENT ON COLUMN slot_rate.work IS 'Work of the miner''s shares of that kind in the slot.';

ALTER TABLE miner ADD COLUMN rest BIGINT NOT NULL DEFAULT 0 CHECK (rest >= 0);
COMMENT ON COLUMN miner.rest IS 'What work paid at a fixed rate has left below a millisatoshi, in 2^-62 of it: goes into the next slot''s.';

ALTER TABLE block ADD COLUMN terms_id BIGINT REFERENCES terms;
COMMENT ON COLUMN block.terms_id IS 'The terms that its job was made under; null for blocks of before terms were kept.';
ALTER TABLE block ADD COLUMN window_bits BIGINT;
COMMENT ON COLUMN block.window_bits IS 'Network target that its window was measured with; null: its own.';
ALTER TABLE block ADD COLUMN subsidy_msat BIGINT NOT NULL DEFAULT 0 CHECK (subsidy_msat >= 0);
COMMENT ON COLUMN block.subsidy_msat IS 'What of the reward is subsidy; the rest is fees.';
ALTER TABLE block ADD COLUMN bought_work NUMERIC(39, 0) NOT NULL DEFAULT 0 CHECK (bought_work >= 0);
COMMENT ON COLUMN block.bought_work IS 'Of window_work, what the reserve has paid for: its part of the fees.';
ALTER TABLE block ADD COLUMN bought_subsidy_work NUMERIC(39, 0) NOT NULL DEFAULT 0 CHECK (bought_subsidy_work >= 0);
COMMENT ON COLUMN block.bought_subsidy_work IS 'The same of the subsidy: more, where pps_plus has paid for it and not for the fees.';
COMMENT ON COLUMN block.factor IS 'Length of the window in expected blocks: see terms.factor.';
COMMENT ON COLUMN block.window_work IS 'Sum of its block_weight.work and bought_work.';
COMMENT ON COLUMN block.slot_id IS 'The newest slot of its window; null if there were no shares at all. Where the coinbase pays the split, the newest one that was closed when the job was made.';

ALTER TABLE block_weight ADD COLUMN subsidy_work NUMERIC(39, 0) CHECK (subsidy_work >= 0);
COMMENT ON COLUMN block_weight.subsidy_work IS 'What of it counts for the subsidy too; null: all of it.';

ALTER TABLE block_output ADD COLUMN miner_id BIGINT REFERENCES miner;
COMMENT ON COLUMN block_output.miner_id IS 'The miner whose address it pays; null: the pool.';
