-- Room to grow, and an end to it: work by miner for windows, work by worker for statistics, both in ranges of slots that are
-- deleted when they are old. docs/LEDGER.md, "Growth".

-- How far back the work of slots is kept.
CREATE TABLE slot_kept (
    -- Always 1.
    id INTEGER PRIMARY KEY CHECK (id = 1),
    -- From this slot on there is slot_work; what was before is in worker.base_shares and base_work.
    workers_from INTEGER NOT NULL CHECK (workers_from >= 1),
    -- From this slot on there are slot_miner and slot_rate.
    miners_from INTEGER NOT NULL CHECK (miners_from BETWEEN 1 AND workers_from)
) STRICT;
INSERT INTO slot_kept VALUES (1, 1, 1);

-- The ranges of slots that are dropped together; in Postgres each is a partition of slot_work, slot_miner and slot_rate.
CREATE TABLE slot_span (
    -- Its first slot, which the partitions are named after.
    first_slot INTEGER PRIMARY KEY,
    -- The first slot behind it.
    next_slot INTEGER NOT NULL UNIQUE CHECK (next_slot > first_slot)
) STRICT;

-- Of accepted_shares, those in slots whose slot_work is not kept any more.
ALTER TABLE worker ADD COLUMN base_shares INTEGER NOT NULL DEFAULT 0 CHECK (base_shares >= 0);
-- The work of these.
ALTER TABLE worker ADD COLUMN base_work TEXT NOT NULL DEFAULT '0' CHECK (base_work <> '' AND base_work NOT GLOB '*[^0-9]*');

-- What miners had left over where a range of slots began, so that what its slots paid can be done again without those before.
CREATE TABLE rest_mark (
    -- The first slot of the range: slot_span.first_slot.
    slot_id INTEGER NOT NULL,
    -- The miner; one that is not here had nothing left.
    miner_id INTEGER NOT NULL REFERENCES miner,
    -- As miner.rest.
    rest INTEGER NOT NULL CHECK (rest > 0),
    PRIMARY KEY (slot_id, miner_id)
) STRICT, WITHOUT ROWID;

-- What each worker did in the slot that is open; slot_work has the closed ones. Empty while none is open.
CREATE TABLE slot_open (
    -- The worker.
    worker_id INTEGER PRIMARY KEY,
    -- Its shares in this slot.
    shares INTEGER NOT NULL CHECK (shares > 0),
    -- Their work.
    work TEXT NOT NULL CHECK (work GLOB '[1-9]*' AND work NOT GLOB '*[^0-9]*')
) STRICT;
INSERT INTO slot_open SELECT w.worker_id, w.shares, w.work FROM slot_work w JOIN slot s ON s.id = w.slot_id WHERE s.closed_ms IS NULL;
DELETE FROM slot_work WHERE slot_id IN (SELECT id FROM slot WHERE closed_ms IS NULL);

-- What each miner did in a closed slot: windows are made of it.
CREATE TABLE slot_miner (
    -- The slot.
    slot_id INTEGER NOT NULL,
    -- The miner.
    miner_id INTEGER NOT NULL,
    -- Work of all its workers in the slot.
    work TEXT NOT NULL CHECK (work GLOB '[1-9]*' AND work NOT GLOB '*[^0-9]*'),
    PRIMARY KEY (slot_id, miner_id)
) STRICT, WITHOUT ROWID;

-- What there is becomes the first range. A sum may have 39 digits, so it is made of three of 13, with what carries over.
INSERT INTO slot_span SELECT 1, MAX(id) + 1 FROM slot HAVING COUNT(*) > 0;
WITH padded AS (
    SELECT s.slot_id, w.miner_id, substr('000000000000000000000000000000000000000' || s.work, -39) AS work
    FROM slot_work s JOIN worker w ON w.id = s.worker_id
), sums AS (
    SELECT slot_id, miner_id, SUM(CAST(substr(work, 1, 13) AS INTEGER)) AS high,
        SUM(CAST(substr(work, 14, 13) AS INTEGER)) AS middle, SUM(CAST(substr(work, 27, 13) AS INTEGER)) AS low
    FROM padded GROUP BY slot_id, miner_id
), carried AS (
    SELECT slot_id, miner_id, high, middle + low / 10000000000000 AS middle, low % 10000000000000 AS low FROM sums
)
INSERT INTO slot_miner
    SELECT slot_id, miner_id, ltrim(printf('%d%013d%013d', high + middle / 10000000000000, middle % 10000000000000, low), '0')
    FROM carried;
