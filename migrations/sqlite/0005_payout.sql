-- Payments on chain, and the wallet that makes them. docs/PAYOUTS.md tells how a batch moves through these tables.
-- Ids of transactions are in internal order (people read them reversed).

-- Who pays: one process. Each start counts the epoch up, and every transaction of a payment checks it.
CREATE TABLE payer (
    -- Always 1.
    id INTEGER PRIMARY KEY CHECK (id = 1),
    -- Of the process that may pay; one with an older epoch is refused.
    epoch INTEGER NOT NULL,
    -- When the schedule was last kept: a batch was planned, or nothing was due.
    kept_ms INTEGER,
    -- Coins of the wallet that can be spent, satoshi, when last looked at; null before that.
    coins_sats INTEGER,
    -- Its coins of blocks that are not 100 deep yet.
    immature_sats INTEGER,
    -- Why nothing is paid, for the operator; null if nothing is wrong.
    trouble TEXT
) STRICT;
INSERT INTO payer (id, epoch) VALUES (1, 0);

-- From which balance on a miner is paid, where that is not the pool's own threshold.
CREATE TABLE payout_threshold (
    -- The miner.
    miner_id INTEGER PRIMARY KEY REFERENCES miner,
    -- Satoshi.
    sats INTEGER NOT NULL CHECK (sats > 0),
    -- When it was set.
    set_ms INTEGER NOT NULL
) STRICT;

-- A batch of payments: one transaction on the chain pays all of them.
CREATE TABLE payout (
    -- Counts up from 1.
    id INTEGER PRIMARY KEY,
    -- Name of the wallet that pays: see wallet_change.
    wallet TEXT NOT NULL,
    -- planned: in flight, its inputs locked; signed: its bytes are stored; broadcast: a node has taken them; paid:
    -- confirmed; returned: given up, since its inputs were spent otherwise.
    state TEXT NOT NULL CHECK (state IN ('planned', 'signed', 'broadcast', 'paid', 'returned')),
    -- Who bears what the network takes.
    fee_from TEXT NOT NULL CHECK (fee_from IN ('pool', 'miners')),
    -- Sum of its payout_item.
    sats INTEGER NOT NULL CHECK (sats > 0),
    -- When it was planned.
    created_ms INTEGER NOT NULL,
    -- How often it has been posted as paid: 2 after a reorganisation took it back.
    settlements INTEGER NOT NULL DEFAULT 0,
    -- The transaction that is on the chain; null while none is.
    txid BLOB CHECK (length(txid) = 32),
    -- How deep that is, 1 at the tip, when last seen.
    confirmations INTEGER,
    -- 1 while the chain is still looked at for it; its inputs are locked so long.
    watched INTEGER NOT NULL DEFAULT 1 CHECK (watched IN (0, 1)),
    -- Why it does not move, for the operator; null if nothing is wrong.
    trouble TEXT
) STRICT;
CREATE INDEX payout_watched ON payout (id) WHERE watched = 1;

-- What a batch pays to whom.
CREATE TABLE payout_item (
    -- The batch.
    payout_id INTEGER NOT NULL REFERENCES payout,
    -- The miner.
    miner_id INTEGER NOT NULL REFERENCES miner,
    -- What it has of its balance in flight; the output is less by its part of the fee, where miners bear that.
    sats INTEGER NOT NULL CHECK (sats > 0),
    PRIMARY KEY (payout_id, miner_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX payout_item_of_miner ON payout_item (miner_id, payout_id);

-- The transactions of a batch. Each shares the inputs of the first, so at most one of them can confirm.
CREATE TABLE payout_tx (
    -- Its id, which a signature does not change.
    txid BLOB PRIMARY KEY CHECK (length(txid) = 32),
    -- The batch.
    payout_id INTEGER NOT NULL REFERENCES payout,
    -- From 0; the next ones pay a higher fee.
    version INTEGER NOT NULL CHECK (version >= 0),
    -- Without signatures, for whoever signs it: a PSBT in base64.
    psbt TEXT NOT NULL,
    -- Signed and serialised; null while it is not signed. Stored before any node hears of it, and never changed.
    raw BLOB,
    -- What it leaves to the network, satoshi.
    fee_sats INTEGER NOT NULL CHECK (fee_sats > 0),
    -- Its greatest size once it is signed, virtual bytes.
    vsize INTEGER NOT NULL CHECK (vsize > 0),
    -- When it was made.
    created_ms INTEGER NOT NULL,
    UNIQUE (payout_id, version)
) STRICT, WITHOUT ROWID;

-- The coins that a transaction spends: locked as long as its batch is watched.
CREATE TABLE payout_input (
    -- The transaction that spends.
    txid BLOB NOT NULL REFERENCES payout_tx,
    -- From 0.
    position INTEGER NOT NULL,
    -- The transaction that made the coin.
    prev_txid BLOB NOT NULL CHECK (length(prev_txid) = 32),
    -- Which of its outputs.
    prev_vout INTEGER NOT NULL,
    PRIMARY KEY (txid, position)
) STRICT, WITHOUT ROWID;

-- What a signer of its own says to a transaction.
CREATE TABLE payout_signature (
    -- Counts up.
    id INTEGER PRIMARY KEY,
    -- The transaction.
    txid BLOB NOT NULL CHECK (length(txid) = 32),
    -- Signed: a PSBT in base64; null if it was refused.
    psbt TEXT,
    -- Why it was refused.
    refusal TEXT,
    -- When.
    created_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX payout_signature_of ON payout_signature (txid);

-- What the operator has asked for at the command line; whoever runs the pool carries it out.
CREATE TABLE payout_order (
    -- Counts up.
    id INTEGER PRIMARY KEY,
    -- run, bump, return, import.
    kind TEXT NOT NULL CHECK (kind IN ('run', 'bump', 'return', 'import')),
    -- The batch, and for bump a fee rate; import: the PSBT.
    argument TEXT NOT NULL,
    -- When it was asked for.
    asked_ms INTEGER NOT NULL,
    -- When it was carried out; null before that.
    done_ms INTEGER,
    -- What came of it, for the operator; null before that.
    outcome TEXT
) STRICT;
CREATE INDEX payout_order_open ON payout_order (id) WHERE done_ms IS NULL;

-- What the wallet knows of the chain and of its coins: the sum of its changes. No key is in it.
CREATE TABLE wallet_change (
    -- Name of the wallet, made of its public descriptors.
    wallet TEXT NOT NULL,
    -- Counts up.
    id INTEGER NOT NULL,
    -- A change, JSON.
    change TEXT NOT NULL,
    PRIMARY KEY (wallet, id)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER payout_tx_fixed BEFORE UPDATE ON payout_tx
WHEN OLD.raw IS NOT NULL OR NEW.txid <> OLD.txid OR NEW.payout_id <> OLD.payout_id OR NEW.psbt <> OLD.psbt
BEGIN SELECT RAISE(ABORT, 'a transaction of a payout is never changed'); END;
CREATE TRIGGER payout_tx_kept BEFORE DELETE ON payout_tx
BEGIN SELECT RAISE(ABORT, 'a transaction of a payout is never deleted'); END;
CREATE TRIGGER payout_item_fixed BEFORE UPDATE ON payout_item
BEGIN SELECT RAISE(ABORT, 'a payment is never changed'); END;
CREATE TRIGGER payout_item_kept BEFORE DELETE ON payout_item
BEGIN SELECT RAISE(ABORT, 'a payment is never deleted'); END;
