-- What proofs are made of: finished segments with their roots, and where in the spool each slot ends. And room to grow:
-- the work of slots is kept by ranges of slots, which are dropped when they are old.

CREATE TABLE segment (
    id       BIGINT PRIMARY KEY,
    spool    BYTEA NOT NULL CHECK (octet_length(spool) = 16),
    writer   BIGINT NOT NULL,
    segment  BIGINT NOT NULL,
    shares   BIGINT NOT NULL CHECK (shares >= 0),
    work     NUMERIC(39, 0) NOT NULL CHECK (work >= 0),
    first_ms BIGINT NOT NULL,
    last_ms  BIGINT NOT NULL,
    bytes    BIGINT NOT NULL CHECK (bytes >= 0),
    root     BYTEA NOT NULL CHECK (octet_length(root) = 32),
    previous BYTEA NOT NULL CHECK (octet_length(previous) = 32),
    chain    BYTEA NOT NULL CHECK (octet_length(chain) = 32),
    UNIQUE (spool, writer, segment)
);
COMMENT ON TABLE segment IS 'Segments of the spool that have been drained to their end: append-only, published, each with a link to the one before.';
COMMENT ON COLUMN segment.id IS 'Counts up from 1 in the order in which they were finished.';
COMMENT ON COLUMN segment.spool IS 'Random id of the spool directory.';
COMMENT ON COLUMN segment.writer IS 'Which writer of that spool.';
COMMENT ON COLUMN segment.segment IS 'Which segment of that writer.';
COMMENT ON COLUMN segment.shares IS 'Shares in it.';
COMMENT ON COLUMN segment.work IS 'Work of these shares.';
COMMENT ON COLUMN segment.first_ms IS 'Time of the oldest of them; 0 if there is none.';
COMMENT ON COLUMN segment.last_ms IS 'Time of the newest of them.';
COMMENT ON COLUMN segment.bytes IS 'Bytes of its records.';
COMMENT ON COLUMN segment.root IS 'Root of the Merkle tree over its shares.';
COMMENT ON COLUMN segment.previous IS 'The link of the segment before; zeroes for the first.';
COMMENT ON COLUMN segment.chain IS 'SHA-256 over all of this row: its link.';
CREATE TRIGGER segment_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON segment
    FOR EACH STATEMENT EXECUTE FUNCTION journal_is_append_only();

CREATE TABLE slot_end (
    slot_id BIGINT NOT NULL REFERENCES slot,
    spool   BYTEA NOT NULL,
    writer  BIGINT NOT NULL,
    segment BIGINT NOT NULL,
    byte    BIGINT NOT NULL,
    PRIMARY KEY (slot_id, spool, writer)
);
CREATE INDEX slot_end_of_writer ON slot_end (spool, writer, slot_id);
COMMENT ON TABLE slot_end IS 'Where in the spool a slot ends, for each writer that had records in it. It begins where that writer''s slot before ends.';
COMMENT ON COLUMN slot_end.slot_id IS 'The slot.';
COMMENT ON COLUMN slot_end.spool IS 'The spool.';
COMMENT ON COLUMN slot_end.writer IS 'The writer.';
COMMENT ON COLUMN slot_end.segment IS 'The segment.';
COMMENT ON COLUMN slot_end.byte IS 'The first byte of that segment that is not of this slot.';
