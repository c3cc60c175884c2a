-- Payments on chain, and the wallet that makes them. docs/PAYOUTS.md tells how a batch moves through these tables.
-- Ids of transactions are in internal order (people read them reversed).

CREATE TABLE payer (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    epoch BIGINT NOT NULL,
    kept_ms BIGINT,
    coins_sats BIGINT,
    immature_sats BIGINT,
    trouble TEXT
);
COMMENT ON TABLE payer IS 'Who pays: one process. Each start counts the epoch up, and every transaction of a payment checks it.';
COMMENT ON COLUMN payer.id IS 'Always 1.';
COMMENT ON COLUMN payer.epoch IS 'Of the process that may pay; one with an older epoch is refused.';
COMMENT ON COLUMN payer.kept_ms IS 'When the schedule was last kept: a batch was planned, or nothing was due.';
COMMENT ON COLUMN payer.coins_sats IS 'Coins of the wallet that can be spent, satoshi, when last looked at; null before that.';
COMMENT ON COLUMN payer.immature_sats IS 'Its coins of blocks that are not 100 deep yet.';
COMMENT ON COLUMN payer.trouble IS 'Why nothing is paid, for the operator; null if nothing is wrong.';
INSERT INTO payer (id, epoch) VALUES (1, 0);

CREATE TABLE payout_threshold (
    miner_id BIGINT PRIMARY KEY REFERENCES miner,
    sats BIGINT NOT NULL CHECK (sats > 0),
    set_ms BIGINT NOT NULL
);
COMMENT ON TABLE payout_threshold IS 'From which balance on a miner is paid, where that is not the pool''s own threshold.';
COMMENT ON COLUMN payout_threshold.miner_id IS 'The miner.';
COMMENT ON COLUMN payout_threshold.sats IS 'Satoshi.';
COMMENT ON COLUMN payout_threshold.set_ms IS 'When it was set.';

CREATE TABLE payout (
    id BIGINT PRIMARY KEY,
    wallet TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('planned', 'signed', 'broadcast', 'paid', 'returned')),
    fee_from TEXT NOT NULL CHECK (fee_from IN ('pool', 'miners')),
    sats BIGINT NOT NULL CHECK (sats > 0),
    created_ms BIGINT NOT NULL,
    settlements BIGINT NOT NULL DEFAULT 0,
    txid BYTEA CHECK (octet_length(txid) = 32),
    confirmations BIGINT,
    watched BIGINT NOT NULL DEFAULT 1 CHECK (watched IN (0, 1)),
    trouble TEXT
);
COMMENT ON TABLE payout IS 'A batch of payments: one transaction on the chain pays all of them.';
COMMENT ON COLUMN payout.id IS 'Counts up from 1.';
COMMENT ON COLUMN payout.wallet IS 'Name of the wallet that pays: see wallet_change.';
COMMENT ON COLUMN payout.state IS 'planned: in flight, its inputs locked; signed: its bytes are stored; broadcast: a node has taken them; paid: confirmed; returned: given up, since its inputs were spent otherwise.';
COMMENT ON COLUMN payout.fee_from IS 'Who bears what the network takes.';
COMMENT ON COLUMN payout.sats IS 'Sum of its payout_item.';
COMMENT ON COLUMN payout.created_ms IS 'When it was planned.';
COMMENT ON COLUMN payout.settlements IS 'How often it has been posted as paid: 2 after a reorganisation took it back.';
COMMENT ON COLUMN payout.txid IS 'The transaction that is on the chain; null while none is.';
COMMENT ON COLUMN payout.confirmations IS 'How deep that is, 1 at the tip, when last seen.';
COMMENT ON COLUMN payout.watched IS '1 while the chain is still looked at for it; its inputs are locked so long.';
COMMENT ON COLUMN payout.trouble IS 'Why it does not move, for the operator; null if nothing is wrong.';
CREATE INDEX payout_watched ON payout (id) WHERE watched = 1;

CREATE TABLE payout_item (
    payout_id BIGINT NOT NULL REFERENCES payout,
    miner_id BIGINT NOT NULL REFERENCES miner,
    sats BIGINT NOT NULL CHECK (sats > 0),
    PRIMARY KEY (payout_id, miner_id)
);
COMMENT ON TABLE payout_item IS 'What a batch pays to whom.';
COMMENT ON COLUMN payout_item.payout_id IS 'The batch.';
COMMENT ON COLUMN payout_item.miner_id IS 'The miner.';
COMMENT ON COLUMN payout_item.sats IS 'What it has of its balance in flight; the output is less by its part of the fee, where miners bear that.';
CREATE INDEX payout_item_of_miner ON payout_item (miner_id, payout_id);

CREATE TABLE payout_tx (
    txid BYTEA PRIMARY KEY CHECK (octet_length(txid) = 32),
    payout_id BIGINT NOT NULL REFERENCES payout,
    version BIGINT NOT NULL CHECK (version >= 0),
    psbt TEXT NOT NULL,
    raw BYTEA,
    fee_sats BIGINT NOT NULL CHECK (fee_sats > 0),
    vsize BIGINT NOT NULL CHECK (vsize > 0),
    created_ms BIGINT NOT NULL,
    UNIQUE (payout_id, version)
);
COMMENT ON TABLE payout_tx IS 'The transactions of a batch. Each shares the inputs of the first, so at most one of them can confirm.';
COMMENT ON COLUMN payout_tx.txid IS 'Its id, which a signature does not change.';
COMMENT ON COLUMN payout_tx.payout_id IS 'The batch.';
COMMENT ON COLUMN payout_tx.version IS 'From 0; the next ones pay a higher fee.';
COMMENT ON COLUMN payout_tx.psbt IS 'Without signatures, for whoever signs it: a PSBT in base64.';
COMMENT ON COLUMN payout_tx.raw IS 'Signed and serialised; null while it is not signed. Stored before any node hears of it, and never changed.';
COMMENT ON COLUMN payout_tx.fee_sats IS 'What it leaves to the network, satoshi.';
COMMENT ON COLUMN payout_tx.vsize IS 'Its greatest size once it is signed, virtual bytes.';
COMMENT ON COLUMN payout_tx.created_ms IS 'When it was made.';

CREATE TABLE payout_input (
    txid BYTEA NOT NULL REFERENCES payout_tx,
    position BIGINT NOT NULL,
    prev_txid BYTEA NOT NULL CHECK (octet_length(prev_txid) = 32),
    prev_vout BIGINT NOT NULL,
    PRIMARY KEY (txid, position)
);
COMMENT ON TABLE payout_input IS 'The coins that a transaction spends: locked as long as its batch is watched.';
COMMENT ON COLUMN payout_input.txid IS 'The transaction that spends.';
COMMENT ON COLUMN payout_input.position IS 'From 0.';
COMMENT ON COLUMN payout_input.prev_txid IS 'The transaction that made the coin.';
COMMENT ON COLUMN payout_input.prev_vout IS 'Which of its outputs.';

CREATE TABLE payout_signature (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    txid BYTEA NOT NULL CHECK (octet_length(txid) = 32),
    psbt TEXT,
    refusal TEXT,
    created_ms BIGINT NOT NULL
);
COMMENT ON TABLE payout_signature IS 'What a signer of its own says to a transaction.';
COMMENT ON COLUMN payout_signature.id IS 'Counts up.';
COMMENT ON COLUMN payout_signature.txid IS 'The transaction.';
COMMENT ON COLUMN payout_signature.psbt IS 'Signed: a PSBT in base64; null if it was refused.';
COMMENT ON COLUMN payout_signature.refusal IS 'Why it was refused.';
COMMENT ON COLUMN payout_signature.created_ms IS 'When.';
CREATE INDEX payout_signature_of ON payout_signature (txid);

CREATE TABLE payout_order (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('run', 'bump', 'return', 'import')),
    argument TEXT NOT NULL,
    asked_ms BIGINT NOT NULL,
    done_ms BIGINT,
    outcome TEXT
);
COMMENT ON TABLE payout_order IS 'What the operator has asked for at the command line; whoever runs the pool carries it out.';
COMMENT ON COLUMN payout_order.id IS 'Counts up.';
COMMENT ON COLUMN payout_order.kind IS 'run, bump, return, import.';
COMMENT ON COLUMN payout_order.argument IS 'The batch, and for bump a fee rate; import: the PSBT.';
COMMENT ON COLUMN payout_order.asked_ms IS 'When it was asked for.';
COMMENT ON COLUMN payout_order.done_ms IS 'When it was carried out; null before that.';
COMMENT ON COLUMN payout_order.outcome IS 'What came of it, for the operator; null before that.';
CREATE INDEX payout_order_open ON payout_order (id) WHERE done_ms IS NULL;

CREATE TABLE wallet_change (
    wallet TEXT NOT NULL,
    id BIGINT NOT NULL,
    change TEXT NOT NULL,
    PRIMARY KEY (wallet, id)
);
COMMENT ON TABLE wallet_change IS 'What the wallet knows of the chain and of its coins: the sum of its changes. No key is in it.';
COMMENT ON COLUMN wallet_change.wallet IS 'Name of the wallet, made of its public descriptors.';
COMMENT ON COLUMN wallet_change.id IS 'Counts up.';
COMMENT ON COLUMN wallet_change.change IS 'A change, JSON.';

CREATE FUNCTION payout_is_fixed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a payment and its transactions are never changed: % of % is refused', lower(TG_OP), TG_TABLE_NAME;
END $$;
CREATE TRIGGER payout_tx_fixed BEFORE UPDATE ON payout_tx FOR EACH ROW
    WHEN (OLD.raw IS NOT NULL OR NEW.txid <> OLD.txid OR NEW.payout_id <> OLD.payout_id OR NEW.psbt <> OLD.psbt)
    EXECUTE FUNCTION payout_is_fixed();
CREATE TRIGGER payout_tx_kept BEFORE DELETE OR TRUNCATE ON payout_tx
    FOR EACH STATEMENT EXECUTE FUNCTION payout_is_fixed();
CREATE TRIGGER payout_item_fixed BEFORE UPDATE OR DELETE OR TRUNCATE ON payout_item
    FOR EACH STATEMENT EXECUTE FUNCTION payout_is_fixed();
