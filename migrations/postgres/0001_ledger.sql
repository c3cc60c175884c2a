-- The ledger. docs/LEDGER.md tells the way of a share and of a satoshi through these tables.
-- Hashes are in internal order (people read them reversed). Money is millisatoshi unless a name says sats; work is
-- the average number of hashes, an integer. Times are milliseconds since 1970 and order nothing.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
COMMENT ON TABLE meta IS 'What this database belongs to.';
COMMENT ON COLUMN meta.key IS 'network.';
COMMENT ON COLUMN meta.value IS 'For network: the chain that every address and block here is of.';

CREATE TABLE miner (
    id      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    address TEXT NOT NULL UNIQUE
);
COMMENT ON TABLE miner IS 'Who can be owed something: one row per payout address.';
COMMENT ON COLUMN miner.id IS 'From 1; the numbers of the miner''s accounts follow from it.';
COMMENT ON COLUMN miner.address IS 'Payout address, canonical: bech32 in lower case.';

CREATE TABLE worker (
    id              BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key             BYTEA NOT NULL UNIQUE CHECK (octet_length(key) = 16),
    miner_id        BIGINT NOT NULL REFERENCES miner,
    name            TEXT NOT NULL,
    accepted_shares BIGINT NOT NULL DEFAULT 0 CHECK (accepted_shares >= 0),
    rejected_shares BIGINT NOT NULL DEFAULT 0 CHECK (rejected_shares >= 0),
    work            NUMERIC(39, 0) NOT NULL DEFAULT 0 CHECK (work >= 0),
    last_share_ms   BIGINT
) WITH (fillfactor = 70); -- written again with every batch
CREATE INDEX worker_of_miner ON worker (miner_id);
COMMENT ON TABLE worker IS 'A machine, or all the machines that say they have this name, and what it has done in all.';
COMMENT ON COLUMN worker.id IS 'Short name for this database only.';
COMMENT ON COLUMN worker.key IS 'First 16 bytes of SHA-256 over address.name: what the records of the spool say.';
COMMENT ON COLUMN worker.miner_id IS 'Whom its work earns for.';
COMMENT ON COLUMN worker.name IS 'Without the address; may be empty.';
COMMENT ON COLUMN worker.accepted_shares IS 'Shares drained so far.';
COMMENT ON COLUMN worker.rejected_shares IS 'Submissions that earned nothing.';
COMMENT ON COLUMN worker.work IS 'Sum of the work of the accepted shares.';
COMMENT ON COLUMN worker.last_share_ms IS 'Time of the newest accepted share; null if there is none.';

CREATE TABLE slot (
    id        BIGINT PRIMARY KEY,
    opened_ms BIGINT NOT NULL,
    closed_ms BIGINT,
    shares    BIGINT NOT NULL CHECK (shares >= 0),
    work      NUMERIC(39, 0) NOT NULL CHECK (work >= 0)
);
COMMENT ON TABLE slot IS 'A stretch of shares in the order of the drain, closed by a found block or after ten minutes. Windows are made of slots.';
COMMENT ON COLUMN slot.id IS 'Counts up from 1; the order of shares.';
COMMENT ON COLUMN slot.opened_ms IS 'Time of its first share.';
COMMENT ON COLUMN slot.closed_ms IS 'Time of the record that closed it; null for the one still open. A closed slot never changes.';
COMMENT ON COLUMN slot.shares IS 'Shares in it.';
COMMENT ON COLUMN slot.work IS 'Work of these shares: the sum of its slot_work.';

CREATE TABLE slot_work (
    slot_id   BIGINT NOT NULL REFERENCES slot,
    worker_id BIGINT NOT NULL REFERENCES worker,
    shares    BIGINT NOT NULL CHECK (shares > 0),
    work      NUMERIC(39, 0) NOT NULL CHECK (work > 0),
    PRIMARY KEY (slot_id, worker_id)
) WITH (fillfactor = 70); -- written again with every batch while the slot is open
COMMENT ON TABLE slot_work IS 'What each worker did in a slot. There is no row per share.';
COMMENT ON COLUMN slot_work.slot_id IS 'The slot.';
COMMENT ON COLUMN slot_work.worker_id IS 'The worker.';
COMMENT ON COLUMN slot_work.shares IS 'Its shares in this slot.';
COMMENT ON COLUMN slot_work.work IS 'Their work.';

CREATE TABLE tally (
    id              BIGINT PRIMARY KEY CHECK (id = 1),
    accepted_shares BIGINT NOT NULL,
    rejected_shares BIGINT NOT NULL,
    work            NUMERIC(39, 0) NOT NULL,
    height          BIGINT NOT NULL
);
COMMENT ON TABLE tally IS 'The pool''s totals: one row, so that nobody has to sum over all workers.';
COMMENT ON COLUMN tally.id IS 'Always 1.';
COMMENT ON COLUMN tally.accepted_shares IS 'Sum over all workers.';
COMMENT ON COLUMN tally.rejected_shares IS 'Sum over all workers.';
COMMENT ON COLUMN tally.work IS 'Sum over all workers.';
COMMENT ON COLUMN tally.height IS 'The highest block that a share was meant for: one above the tip.';
INSERT INTO tally VALUES (1, 0, 0, 0, 0);

CREATE TABLE watermark (
    spool   BYTEA NOT NULL,
    writer  BIGINT NOT NULL,
    segment BIGINT NOT NULL,
    byte    BIGINT NOT NULL,
    PRIMARY KEY (spool, writer)
);
COMMENT ON TABLE watermark IS 'How far the spool has been drained: moved in the transaction that applies the records, so that each counts once.';
COMMENT ON COLUMN watermark.spool IS 'Random id of the spool directory.';
COMMENT ON COLUMN watermark.writer IS 'Which writer of that spool.';
COMMENT ON COLUMN watermark.segment IS 'The segment of that writer that was read last; all before are done.';
COMMENT ON COLUMN watermark.byte IS 'Bytes of that segment that are done.';

CREATE TABLE set_aside (
    id      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    spool   BYTEA NOT NULL,
    writer  BIGINT NOT NULL,
    segment BIGINT NOT NULL,
    byte    BIGINT NOT NULL,
    length  BIGINT NOT NULL,
    reason  TEXT NOT NULL,
    record  BYTEA,
    at_ms   BIGINT NOT NULL
);
COMMENT ON TABLE set_aside IS 'Pieces of the spool that could not be applied. One of them never holds up the rest.';
COMMENT ON COLUMN set_aside.id IS 'Counts up.';
COMMENT ON COLUMN set_aside.spool IS 'The spool.';
COMMENT ON COLUMN set_aside.writer IS 'The writer.';
COMMENT ON COLUMN set_aside.segment IS 'The segment.';
COMMENT ON COLUMN set_aside.byte IS 'Where in the segment it begins.';
COMMENT ON COLUMN set_aside.length IS 'How long it is, bytes.';
COMMENT ON COLUMN set_aside.reason IS 'Why it was not applied.';
COMMENT ON COLUMN set_aside.record IS 'Its bytes, if they are a record at all.';
COMMENT ON COLUMN set_aside.at_ms IS 'When it was set aside.';

CREATE TABLE block (
    id            BIGINT PRIMARY KEY,
    hash          BYTEA NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    prev_hash     BYTEA NOT NULL,
    height        BIGINT NOT NULL,
    bits          BIGINT NOT NULL,
    coinbase_txid BYTEA NOT NULL,
    value_sats    BIGINT NOT NULL,
    found_ms      BIGINT NOT NULL,
    finder_id     BIGINT NOT NULL REFERENCES worker,
    slot_id       BIGINT REFERENCES slot,
    scheme        TEXT NOT NULL CHECK (scheme IN ('solo', 'pplns')),
    factor        BIGINT NOT NULL,
    window_work   NUMERIC(39, 0) NOT NULL CHECK (window_work > 0),
    reward_msat   BIGINT NOT NULL CHECK (reward_msat >= 0),
    fee_msat      BIGINT NOT NULL CHECK (fee_msat BETWEEN 0 AND reward_msat),
    state         TEXT NOT NULL CHECK (state IN ('candidate', 'immature', 'mature', 'orphaned')),
    credits       BIGINT NOT NULL DEFAULT 0,
    matured       BIGINT NOT NULL DEFAULT 0 CHECK (matured IN (0, 1)),
    confirmations BIGINT,
    watched       BIGINT NOT NULL DEFAULT 1 CHECK (watched IN (0, 1))
);
CREATE INDEX block_watched ON block (id) WHERE watched = 1;
COMMENT ON TABLE block IS 'Found blocks, keyed by hash: two at one height are two blocks.';
COMMENT ON COLUMN block.id IS 'Counts up from 1 in the order of the drain.';
COMMENT ON COLUMN block.hash IS 'Hash of the block.';
COMMENT ON COLUMN block.prev_hash IS 'The block that it builds on.';
COMMENT ON COLUMN block.height IS 'Its height.';
COMMENT ON COLUMN block.bits IS 'Network target, compact form.';
COMMENT ON COLUMN block.coinbase_txid IS 'Txid of its coinbase.';
COMMENT ON COLUMN block.value_sats IS 'What the coinbase may pay: subsidy and fees.';
COMMENT ON COLUMN block.found_ms IS 'When the pool found it.';
COMMENT ON COLUMN block.finder_id IS 'The worker whose share it is.';
COMMENT ON COLUMN block.slot_id IS 'The newest slot of its window; null if there were no shares at all.';
COMMENT ON COLUMN block.scheme IS 'How it is divided. solo: the coinbase itself pays the finder.';
COMMENT ON COLUMN block.factor IS 'pplns: length of the window in expected blocks; else 0.';
COMMENT ON COLUMN block.window_work IS 'Sum of its block_weight.';
COMMENT ON COLUMN block.reward_msat IS 'What is divided: pplns, the value; solo, what the outputs pay.';
COMMENT ON COLUMN block.fee_msat IS 'The pool''s part of that.';
COMMENT ON COLUMN block.state IS 'candidate: not seen on chain yet; immature: credited; mature: 100 deep; orphaned: reversed, or never credited.';
COMMENT ON COLUMN block.credits IS 'How often it has been credited: 2 after an orphan has come back.';
COMMENT ON COLUMN block.matured IS '1 while its credits are available or paid, or the reserve stands in for them.';
COMMENT ON COLUMN block.confirmations IS 'Depth when last seen, 1 at the tip; null when not on chain.';
COMMENT ON COLUMN block.watched IS '1 while the chain is still asked about it.';

CREATE TABLE block_weight (
    block_id BIGINT NOT NULL REFERENCES block,
    miner_id BIGINT NOT NULL REFERENCES miner,
    work     NUMERIC(39, 0) NOT NULL CHECK (work > 0),
    PRIMARY KEY (block_id, miner_id)
);
CREATE INDEX block_weight_of_miner ON block_weight (miner_id, block_id);
COMMENT ON TABLE block_weight IS 'The split of a block, fixed when it was found.';
COMMENT ON COLUMN block_weight.block_id IS 'The block.';
COMMENT ON COLUMN block_weight.miner_id IS 'The miner.';
COMMENT ON COLUMN block_weight.work IS 'Its work in the window (solo: 1 for the finder). The reward less the fee is divided by it.';

CREATE TABLE block_output (
    block_id BIGINT NOT NULL REFERENCES block,
    position BIGINT NOT NULL,
    script   BYTEA NOT NULL,
    sats     BIGINT NOT NULL CHECK (sats >= 0),
    PRIMARY KEY (block_id, position)
);
COMMENT ON TABLE block_output IS 'What the coinbase of a block pays to whom.';
COMMENT ON COLUMN block_output.block_id IS 'The block.';
COMMENT ON COLUMN block_output.position IS 'From 0, as the pool gave them.';
COMMENT ON COLUMN block_output.script IS 'Script of the output.';
COMMENT ON COLUMN block_output.sats IS 'Satoshi.';

-- The journal: double entry. A transaction's entries are written first and its txn row last; that row seals it.

CREATE TABLE account (
    id           BIGINT PRIMARY KEY,
    name         TEXT NOT NULL UNIQUE,
    miner_id     BIGINT REFERENCES miner,
    balance_msat BIGINT NOT NULL DEFAULT 0 CHECK (miner_id IS NULL OR balance_msat >= 0)
);
CREATE INDEX account_of_miner ON account (miner_id);
COMMENT ON TABLE account IS 'Accounts of the journal. The sum over all is zero: what miners and pool have, the rewards owe.';
COMMENT ON COLUMN account.id IS 'Below 8 the pool''s; else 8 x miner + 0 immature, 1 available, 2 paid.';
COMMENT ON COLUMN account.name IS 'The same for people: rewards, reserve, pool:fee:available, miner:7:immature.';
COMMENT ON COLUMN account.miner_id IS 'Whose it is; null for the pool''s.';
COMMENT ON COLUMN account.balance_msat IS 'Sum of its entries, kept in step with them. No miner''s is ever negative.';
INSERT INTO account (id, name) VALUES
    (1, 'rewards'), (2, 'reserve'), (3, 'pool:fee:immature'), (4, 'pool:fee:available');

CREATE TABLE txn (
    id         BIGINT PRIMARY KEY,
    kind       TEXT NOT NULL CHECK (kind IN ('reward', 'mature', 'reorg')),
    idem_key   TEXT NOT NULL UNIQUE,
    block_id   BIGINT REFERENCES block,
    created_ms BIGINT NOT NULL
);
CREATE INDEX txn_of_block ON txn (block_id);
COMMENT ON TABLE txn IS 'Transactions of the journal: append-only, each sums to zero.';
COMMENT ON COLUMN txn.id IS 'Counts up from 1.';
COMMENT ON COLUMN txn.kind IS 'reward: a block came on chain; mature: it is 100 deep; reorg: it left the chain.';
COMMENT ON COLUMN txn.idem_key IS 'What happened, named so that it happens once: kind:hash:n.';
COMMENT ON COLUMN txn.block_id IS 'The block that it is about.';
COMMENT ON COLUMN txn.created_ms IS 'When it was written.';

CREATE TABLE entry (
    txn_id      BIGINT NOT NULL REFERENCES txn DEFERRABLE INITIALLY DEFERRED,
    account_id  BIGINT NOT NULL REFERENCES account,
    amount_msat BIGINT NOT NULL CHECK (amount_msat <> 0),
    PRIMARY KEY (txn_id, account_id)
);
CREATE INDEX entry_of_account ON entry (account_id, txn_id);
COMMENT ON TABLE entry IS 'The movements of a transaction: append-only.';
COMMENT ON COLUMN entry.txn_id IS 'The transaction.';
COMMENT ON COLUMN entry.account_id IS 'The account, once per transaction.';
COMMENT ON COLUMN entry.amount_msat IS 'Positive: the account has more.';

CREATE FUNCTION journal_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the journal is append-only: % of % is refused', lower(TG_OP), TG_TABLE_NAME;
END $$;
CREATE TRIGGER txn_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON txn
    FOR EACH STATEMENT EXECUTE FUNCTION journal_is_append_only();
CREATE TRIGGER entry_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON entry
    FOR EACH STATEMENT EXECUTE FUNCTION journal_is_append_only();

-- One sum per transaction, not one per entry: a block may pay 100,000 miners. The advisory lock makes two sessions
-- that use the same number take turns, so that neither adds to what the other has sealed.
CREATE FUNCTION journal_lock(txn_id BIGINT) RETURNS void LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock((1::bigint << 62) + txn_id);
$$;
CREATE FUNCTION journal_entry_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM journal_lock(id) FROM (SELECT DISTINCT txn_id AS id FROM added ORDER BY 1) AS ids;
    IF EXISTS (SELECT FROM added JOIN txn ON txn.id = added.txn_id) THEN
        RAISE EXCEPTION 'the journal transaction is sealed: no entry can be added';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER entry_added AFTER INSERT ON entry REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION journal_entry_added();
CREATE FUNCTION journal_txn_sealed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM journal_lock(NEW.id);
    IF (SELECT COALESCE(SUM(amount_msat), 0) FROM entry WHERE txn_id = NEW.id) <> 0 THEN
        RAISE EXCEPTION 'the entries of journal transaction % do not sum to zero', NEW.idem_key;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER txn_sealed AFTER INSERT ON txn FOR EACH ROW EXECUTE FUNCTION journal_txn_sealed();
