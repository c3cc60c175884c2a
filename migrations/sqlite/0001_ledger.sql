-- The ledger. docs/LEDGER.md tells the way of a share and of a satoshi through these tables.
-- Hashes are in internal order (people read them reversed). Money is millisatoshi unless a name says sats; work is
-- the average number of hashes, an integer: as decimal text, since it does not fit into SQLite's 64 bits. Times are
-- milliseconds since 1970 and order nothing.

-- What this database belongs to.
CREATE TABLE meta (
    -- network.
    key TEXT PRIMARY KEY,
    -- For network: the chain that every address and block here is of.
    value TEXT NOT NULL
) STRICT;

-- Who can be owed something: one row per payout address.
CREATE TABLE miner (
    -- From 1; the numbers of the miner's accounts follow from it.
    id INTEGER PRIMARY KEY,
    -- Payout address, canonical: bech32 in lower case.
    address TEXT NOT NULL UNIQUE
) STRICT;

-- A machine, or all the machines that say they have this name, and what it has done in all.
CREATE TABLE worker (
    -- Short name for this database only.
    id INTEGER PRIMARY KEY,
    -- First 16 bytes of SHA-256 over address.name: what the records of the spool say.
    key BLOB NOT NULL UNIQUE CHECK (length(key) = 16),
    -- Whom its work earns for.
    miner_id INTEGER NOT NULL REFERENCES miner,
    -- Without the address; may be empty.
    name TEXT NOT NULL,
    -- Shares drained so far.
    accepted_shares INTEGER NOT NULL DEFAULT 0 CHECK (accepted_shares >= 0),
    -- Submissions that earned nothing.
    rejected_shares INTEGER NOT NULL DEFAULT 0 CHECK (rejected_shares >= 0),
    -- Sum of the work of the accepted shares.
    work TEXT NOT NULL DEFAULT '0' CHECK (work <> '' AND work NOT GLOB '*[^0-9]*'),
    -- Time of the newest accepted share; null if there is none.
    last_share_ms INTEGER
) STRICT;
CREATE INDEX worker_of_miner ON worker (miner_id);

-- A stretch of shares in the order of the drain, closed by a found block or after ten minutes. Windows are made of slots.
CREATE TABLE slot (
    -- Counts up from 1; the order of shares.
    id INTEGER PRIMARY KEY,
    -- Time of its first share.
    opened_ms INTEGER NOT NULL,
    -- Time of the record that closed it; null for the one still open. A closed slot never changes.
    closed_ms INTEGER,
    -- Shares in it.
    shares INTEGER NOT NULL CHECK (shares >= 0),
    -- Work of these shares: the sum of its slot_work.
    work TEXT NOT NULL CHECK (work <> '' AND work NOT GLOB '*[^0-9]*')
) STRICT;

-- What each worker did in a slot. There is no row per share.
CREATE TABLE slot_work (
    -- The slot.
    slot_id INTEGER NOT NULL REFERENCES slot,
    -- The worker.
    worker_id INTEGER NOT NULL REFERENCES worker,
    -- Its shares in this slot.
    shares INTEGER NOT NULL CHECK (shares > 0),
    -- Their work.
    work TEXT NOT NULL CHECK (work GLOB '[1-9]*' AND work NOT GLOB '*[^0-9]*'),
    PRIMARY KEY (slot_id, worker_id)
) STRICT, WITHOUT ROWID;

-- The pool's totals: one row, so that nobody has to sum over all workers.
CREATE TABLE tally (
    -- Always 1.
    id INTEGER PRIMARY KEY CHECK (id = 1),
    -- Sum over all workers.
    accepted_shares INTEGER NOT NULL,
    -- Sum over all workers.
    rejected_shares INTEGER NOT NULL,
    -- Sum over all workers.
    work TEXT NOT NULL CHECK (work <> '' AND work NOT GLOB '*[^0-9]*'),
    -- The highest block that a share was meant for: one above the tip.
    height INTEGER NOT NULL
) STRICT;
INSERT INTO tally VALUES (1, 0, 0, '0', 0);

-- How far the spool has been drained: moved in the transaction that applies the records, so that each counts once.
CREATE TABLE watermark (
    -- Random id of the spool directory.
    spool BLOB NOT NULL,
    -- Which writer of that spool.
    writer INTEGER NOT NULL,
    -- The segment of that writer that was read last; all before are done.
    segment INTEGER NOT NULL,
    -- Bytes of that segment that are done.
    byte INTEGER NOT NULL,
    PRIMARY KEY (spool, writer)
) STRICT, WITHOUT ROWID;

-- Pieces of the spool that could not be applied. One of them never holds up the rest.
CREATE TABLE set_aside (
    -- Counts up.
    id INTEGER PRIMARY KEY,
    -- The spool.
    spool BLOB NOT NULL,
    -- The writer.
    writer INTEGER NOT NULL,
    -- The segment.
    segment INTEGER NOT NULL,
    -- Where in the segment it begins.
    byte INTEGER NOT NULL,
    -- How long it is, bytes.
    length INTEGER NOT NULL,
    -- Why it was not applied.
    reason TEXT NOT NULL,
    -- Its bytes, if they are a record at all.
    record BLOB,
    -- When it was set aside.
    at_ms INTEGER NOT NULL
) STRICT;

-- Found blocks, keyed by hash: two at one height are two blocks.
CREATE TABLE block (
    -- Counts up from 1 in the order of the drain.
    id INTEGER PRIMARY KEY,
    -- Hash of the block.
    hash BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
    -- The block that it builds on.
    prev_hash BLOB NOT NULL,
    -- Its height.
    height INTEGER NOT NULL,
    -- Network target, compact form.
    bits INTEGER NOT NULL,
    -- Txid of its coinbase.
    coinbase_txid BLOB NOT NULL,
    -- What the coinbase may pay: subsidy and fees.
    value_sats INTEGER NOT NULL,
    -- When the pool found it.
    found_ms INTEGER NOT NULL,
    -- The worker whose share it is.
    finder_id INTEGER NOT NULL REFERENCES worker,
    -- The newest slot of its window; null if there were no shares at all.
    slot_id INTEGER REFERENCES slot,
    -- How it is divided. solo: the coinbase itself pays the finder.
    scheme TEXT NOT NULL CHECK (scheme IN ('solo', 'pplns')),
    -- pplns: length of the window in expected blocks; else 0.
    factor INTEGER NOT NULL,
    -- Sum of its block_weight.
    window_work TEXT NOT NULL CHECK (window_work GLOB '[1-9]*' AND window_work NOT GLOB '*[^0-9]*'),
    -- What is divided: pplns, the value; solo, what the outputs pay.
    reward_msat INTEGER NOT NULL CHECK (reward_msat >= 0),
    -- The pool's part of that.
    fee_msat INTEGER NOT NULL CHECK (fee_msat BETWEEN 0 AND reward_msat),
    -- candidate: not seen on chain yet; immature: credited; mature: 100 deep; orphaned: reversed, or never credited.
    state TEXT NOT NULL CHECK (state IN ('candidate', 'immature', 'mature', 'orphaned')),
    -- How often it has been credited: 2 after an orphan has come back.
    credits INTEGER NOT NULL DEFAULT 0,
    -- 1 while its credits are available or paid, or the reserve stands in for them.
    matured INTEGER NOT NULL DEFAULT 0 CHECK (matured IN (0, 1)),
    -- Depth when last seen, 1 at the tip; null when not on chain.
    confirmations INTEGER,
    -- 1 while the chain is still asked about it.
    watched INTEGER NOT NULL DEFAULT 1 CHECK (watched IN (0, 1))
) STRICT;
CREATE INDEX block_watched ON block (id) WHERE watched = 1;

-- The split of a block, fixed when it was found.
CREATE TABLE block_weight (
    -- The block.
    block_id INTEGER NOT NULL REFERENCES block,
    -- The miner.
    miner_id INTEGER NOT NULL REFERENCES miner,
    -- Its work in the window (solo: 1 for the finder). The reward less the fee is divided by it.
    work TEXT NOT NULL CHECK (work GLOB '[1-9]*' AND work NOT GLOB '*[^0-9]*'),
    PRIMARY KEY (block_id, miner_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX block_weight_of_miner ON block_weight (miner_id, block_id);

-- What the coinbase of a block pays to whom.
CREATE TABLE block_output (
    -- The block.
    block_id INTEGER NOT NULL REFERENCES block,
    -- From 0, as the pool gave them.
    position INTEGER NOT NULL,
    -- Script of the output.
    script BLOB NOT NULL,
    -- Satoshi.
    sats INTEGER NOT NULL CHECK (sats >= 0),
    PRIMARY KEY (block_id, position)
) STRICT, WITHOUT ROWID;

-- The journal: double entry. A transaction's entries are written first and its txn row last; that row seals it.

-- Accounts of the journal. The sum over all is zero: what miners and pool have, the rewards owe.
CREATE TABLE account (
    -- Below 8 the pool's; else 8 x miner + 0 immature, 1 available, 2 paid.
    id INTEGER PRIMARY KEY,
    -- The same for people: rewards, reserve, pool:fee:available, miner:7:immature.
    name TEXT NOT NULL UNIQUE,
    -- Whose it is; null for the pool's.
    miner_id INTEGER REFERENCES miner,
    -- Sum of its entries, kept in step with them. No miner's is ever negative.
    balance_msat INTEGER NOT NULL DEFAULT 0 CHECK (miner_id IS NULL OR balance_msat >= 0)
) STRICT;
CREATE INDEX account_of_miner ON account (miner_id);
INSERT INTO account (id, name) VALUES
    (1, 'rewards'), (2, 'reserve'), (3, 'pool:fee:immature'), (4, 'pool:fee:available');

-- Transactions of the journal: append-only, each sums to zero.
CREATE TABLE txn (
    -- Counts up from 1.
    id INTEGER PRIMARY KEY,
    -- reward: a block came on chain; mature: it is 100 deep; reorg: it left the chain.
    kind TEXT NOT NULL CHECK (kind IN ('reward', 'mature', 'reorg')),
    -- What happened, named so that it happens once: kind:hash:n.
    idem_key TEXT NOT NULL UNIQUE,
    -- The block that it is about.
    block_id INTEGER REFERENCES block,
    -- When it was written.
    created_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX txn_of_block ON txn (block_id);

-- The movements of a transaction: append-only.
CREATE TABLE entry (
    -- The transaction.
    txn_id INTEGER NOT NULL REFERENCES txn DEFERRABLE INITIALLY DEFERRED,
    -- The account, once per transaction.
    account_id INTEGER NOT NULL REFERENCES account,
    -- Positive: the account has more.
    amount_msat INTEGER NOT NULL CHECK (amount_msat <> 0),
    PRIMARY KEY (txn_id, account_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX entry_of_account ON entry (account_id, txn_id);

CREATE TRIGGER txn_no_update BEFORE UPDATE ON txn
BEGIN SELECT RAISE(ABORT, 'the journal is append-only: update of txn is refused'); END;
CREATE TRIGGER txn_no_delete BEFORE DELETE ON txn
BEGIN SELECT RAISE(ABORT, 'the journal is append-only: delete of txn is refused'); END;
CREATE TRIGGER entry_no_update BEFORE UPDATE ON entry
BEGIN SELECT RAISE(ABORT, 'the journal is append-only: update of entry is refused'); END;
CREATE TRIGGER entry_no_delete BEFORE DELETE ON entry
BEGIN SELECT RAISE(ABORT, 'the journal is append-only: delete of entry is refused'); END;

-- One sum per transaction, not one per entry: a block may pay 100,000 miners.
CREATE TRIGGER entry_added BEFORE INSERT ON entry WHEN EXISTS (SELECT 1 FROM txn WHERE id = NEW.txn_id)
BEGIN SELECT RAISE(ABORT, 'the journal transaction is sealed: no entry can be added'); END;
CREATE TRIGGER txn_sealed AFTER INSERT ON txn
WHEN (SELECT COALESCE(SUM(amount_msat), 0) FROM entry WHERE txn_id = NEW.id) <> 0
BEGIN SELECT RAISE(ABORT, 'the entries of the journal transaction do not sum to zero'); END;
