-- What proofs are made of: finished segments with their roots, and where in the spool each slot ends.

-- Segments of the spool that have been drained to their end: append-only, published, each with a link to the one before.
CREATE TABLE segment (
    -- Counts up from 1 in the order in which they were finished.
    id INTEGER PRIMARY KEY,
    -- Random id of the spool directory.
    spool BLOB NOT NULL CHECK (length(spool) = 16),
    -- Which writer of that spool.
    writer INTEGER NOT NULL,
    -- Which segment of that writer.
    segment INTEGER NOT NULL,
    -- Shares in it.
    shares INTEGER NOT NULL CHECK (shares >= 0),
    -- Work of these shares.
    work TEXT NOT NULL CHECK (work <> '' AND work NOT GLOB '*[^0-9]*'),
    -- Time of the oldest of them; 0 if there is none.
    first_ms INTEGER NOT NULL,
    -- Time of the newest of them.
    last_ms INTEGER NOT NULL,
    -- Bytes of its records.
    bytes INTEGER NOT NULL CHECK (bytes >= 0),
    -- Root of the Merkle tree over its shares.
    root BLOB NOT NULL CHECK (length(root) = 32),
    -- The link of the segment before; zeroes for the first.
    previous BLOB NOT NULL CHECK (length(previous) = 32),
    -- SHA-256 over all of this row: its link.
    chain BLOB NOT NULL CHECK (length(chain) = 32),
    UNIQUE (spool, writer, segment)
) STRICT;
CREATE TRIGGER segment_no_update BEFORE UPDATE ON segment
BEGIN SELECT RAISE(ABORT, 'the journal is append-only: update of segment is refused'); END;
CREATE TRIGGER segment_no_delete BEFORE DELETE ON segment
BEGIN SELECT RAISE(ABORT, 'the journal is append-only: delete of segment is refused'); END;

-- Where in the spool a slot ends, for each writer that had records in it. It begins where that writer's slot before ends.
CREATE TABLE slot_end (
    -- The slot.
    slot_id INTEGER NOT NULL REFERENCES slot,
    -- The spool.
    spool BLOB NOT NULL,
    -- The writer.
    writer INTEGER NOT NULL,
    -- The segment.
    segment INTEGER NOT NULL,
    -- The first byte of that segment that is not of this slot.
    byte INTEGER NOT NULL,
    PRIMARY KEY (slot_id, spool, writer)
) STRICT, WITHOUT ROWID;
CREATE INDEX slot_end_of_writer ON slot_end (spool, writer, slot_id);
