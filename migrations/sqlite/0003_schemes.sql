-- What every scheme needs: the terms that work was done under, work that is paid at a fixed rate, and the fees of the chain.

-- The terms that the pool has ever had. What was mined under them keeps them.
CREATE TABLE terms (
    -- Counts up from 1.
    id INTEGER PRIMARY KEY,
    -- How rewards are divided.
    scheme TEXT NOT NULL CHECK (scheme IN ('solo', 'pplns', 'tides', 'pps', 'fpps', 'pps_plus')),
    -- For how many blocks' worth of work a share stays in the window: 8 for tides, 0 for solo.
    factor INTEGER NOT NULL CHECK (factor >= 0),
    -- The pool's part, in millionths.
    fee_ppm INTEGER NOT NULL CHECK (fee_ppm >= 0),
    UNIQUE (scheme, factor, fee_ppm)
) STRICT;

-- Under which terms the records of a spool were written: each opening has one set, since terms change with a restart.
CREATE TABLE opening (
    -- Random id of the spool directory.
    spool BLOB NOT NULL,
    -- Which opening of it: the upper half of the numbers of its segments.
    epoch INTEGER NOT NULL,
    -- The terms.
    terms_id INTEGER NOT NULL REFERENCES terms,
    PRIMARY KEY (spool, epoch)
) STRICT, WITHOUT ROWID;

-- The mean of the fees of the latest blocks of the chain, whenever it was worked out anew. fpps pays it for work.
CREATE TABLE fee_rate (
    -- Counts up from 1.
    id INTEGER PRIMARY KEY,
    -- The newest block that it is of; the others follow from fee_block.prev_hash.
    tip_hash BLOB NOT NULL,
    -- How many blocks it is of.
    blocks INTEGER NOT NULL CHECK (blocks > 0),
    -- How many of the highest, and how many of the lowest, were left out.
    trimmed INTEGER NOT NULL CHECK (trimmed >= 0 AND 2 * trimmed < blocks),
    -- Mean fees of a block, rounded down.
    mean_msat INTEGER NOT NULL CHECK (mean_msat >= 0),
    -- When it was worked out.
    created_ms INTEGER NOT NULL
) STRICT;

-- The fees of blocks of the chain, whoever found them.
CREATE TABLE fee_block (
    -- Hash of the block.
    hash BLOB PRIMARY KEY,
    -- The block that it builds on.
    prev_hash BLOB NOT NULL,
    -- Its height.
    height INTEGER NOT NULL,
    -- What its transactions pay, satoshi.
    fees_sats INTEGER NOT NULL CHECK (fees_sats >= 0)
) STRICT, WITHOUT ROWID;

-- The terms of all its shares; null only until the first start of a version that knows terms.
ALTER TABLE slot ADD COLUMN terms_id INTEGER REFERENCES terms;
-- Network target of its newest share, compact form.
ALTER TABLE slot ADD COLUMN bits INTEGER;
-- fpps: the mean of fees that its work was paid with.
ALTER TABLE slot ADD COLUMN fee_rate_id INTEGER REFERENCES fee_rate;

-- Work that is paid at a fixed rate, exactly: what of a slot was mined at which network target and subsidy.
CREATE TABLE slot_rate (
    -- The slot.
    slot_id INTEGER NOT NULL REFERENCES slot,
    -- The miner.
    miner_id INTEGER NOT NULL REFERENCES miner,
    -- Network target, compact form.
    bits INTEGER NOT NULL,
    -- How often the subsidy had been halved.
    halvings INTEGER NOT NULL,
    -- Work of the miner's shares of that kind in the slot.
    work TEXT NOT NULL CHECK (work GLOB '[1-9]*' AND work NOT GLOB '*[^0-9]*'),
    PRIMARY KEY (slot_id, miner_id, bits, halvings)
) STRICT, WITHOUT ROWID;

-- What work paid at a fixed rate has left below a millisatoshi, in 2^-62 of it: goes into the next slot's.
ALTER TABLE miner ADD COLUMN rest INTEGER NOT NULL DEFAULT 0 CHECK (rest >= 0);

-- The terms that its job was made under; null for blocks of before terms were kept.
ALTER TABLE block ADD COLUMN terms_id INTEGER REFERENCES terms;
-- Network target that its window was measured with; null: its own.
ALTER TABLE block ADD COLUMN window_bits INTEGER;
-- What of the reward is subsidy; the rest is fees.
ALTER TABLE block ADD COLUMN subsidy_msat INTEGER NOT NULL DEFAULT 0 CHECK (subsidy_msat >= 0);
-- Of window_work, what the reserve has paid for: its part of the fees.
ALTER TABLE block ADD COLUMN bought_work TEXT NOT NULL DEFAULT '0' CHECK (bought_work <> '' AND bought_work NOT GLOB '*[^0-9]*');
-- The same of the subsidy: more, where pps_plus has paid for it and not for the fees.
ALTER TABLE block ADD COLUMN bought_subsidy_work TEXT NOT NULL DEFAULT '0'
    CHECK (bought_subsidy_work <> '' AND bought_subsidy_work NOT GLOB '*[^0-9]*');

-- What of it counts for the subsidy too; null: all of it.
ALTER TABLE block_weight ADD COLUMN subsidy_work TEXT CHECK (subsidy_work <> '' AND subsidy_work NOT GLOB '*[^0-9]*');

-- The miner whose address it pays; null: the pool.
ALTER TABLE block_output ADD COLUMN miner_id INTEGER REFERENCES miner;
