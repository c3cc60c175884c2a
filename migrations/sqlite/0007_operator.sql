-- What the operator does in the books himself: corrections, and money for the reserve.

-- Why, in the operator's words; null for what the pool did by itself.
ALTER TABLE txn ADD COLUMN reason TEXT;

-- What the operator has asked of the books at the command line; whoever runs the pool carries it out.
CREATE TABLE ledger_order (
    -- Counts up.
    id INTEGER PRIMARY KEY,
    -- From where to where, how much, under which key and why: JSON.
    argument TEXT NOT NULL,
    -- When it was asked for.
    asked_ms INTEGER NOT NULL,
    -- When it was carried out or refused; null before that.
    done_ms INTEGER,
    -- What came of it, for the operator; null before that.
    outcome TEXT
) STRICT;
CREATE INDEX ledger_order_open ON ledger_order (id) WHERE done_ms IS NULL;

-- As far below zero as the operator has put in of his own, less what he has taken out.
INSERT INTO account (id, name) VALUES (7, 'operator');
