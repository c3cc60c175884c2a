-- Room for all schemes, and for payments: what a transaction can be about, and the pool's further accounts.

-- SQLite has no ALTER for a CHECK. To widen one changes no row, so its text is changed where the database keeps it.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(
    sql,
    '-- reward: a block came on chain; mature: it is 100 deep; reorg: it left the chain.
    kind TEXT NOT NULL CHECK (kind IN (''reward'', ''mature'', ''reorg''))',
    '-- reward: a block came on chain; mature: it is 100 deep; reorg: it left the chain; slot: the work of a slot was
    -- credited at a fixed rate; payout: a payment was planned; paid: it is confirmed; return: it was given up; fund: the
    -- operator moved money between accounts of the pool; correction: made good what an earlier one had wrong.
    kind TEXT NOT NULL CHECK (
        kind IN (''reward'', ''mature'', ''reorg'', ''slot'', ''payout'', ''paid'', ''return'', ''fund'', ''correction'')
    )'
) WHERE type = 'table' AND name = 'txn';
UPDATE sqlite_schema SET sql = replace(
    sql,
    'CHECK (scheme IN (''solo'', ''pplns''))',
    'CHECK (scheme IN (''solo'', ''pplns'', ''tides'', ''pps'', ''fpps'', ''pps_plus''))'
) WHERE type = 'table' AND name = 'block';
PRAGMA writable_schema = RESET;

INSERT INTO account (id, name) VALUES (5, 'network:fee'), (6, 'reserve:immature');
