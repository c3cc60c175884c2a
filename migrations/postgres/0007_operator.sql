-- What the operator does in the books himself: corrections, and money for the reserve.

ALTER TABLE txn ADD COLUMN reason TEXT;
COMMENT ON COLUMN txn.reason IS 'Why, in the operator''s words; null for what the pool did by itself.';

CREATE TABLE ledger_order (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    argument TEXT NOT NULL,
    asked_ms BIGINT NOT NULL,
    done_ms BIGINT,
    outcome TEXT
);
COMMENT ON TABLE ledger_order IS 'What the operator has asked of the books at the command line; whoever runs the pool carries it out.';
COMMENT ON COLUMN ledger_order.id IS 'Counts up.';
COMMENT ON COLUMN ledger_order.argument IS 'From where to where, how much, under which key and why: JSON.';
COMMENT ON COLUMN ledger_order.asked_ms IS 'When it was asked for.';
COMMENT ON COLUMN ledger_order.done_ms IS 'When it was carried out or refused; null before that.';
COMMENT ON COLUMN ledger_order.outcome IS 'What came of it, for the operator; null before that.';
CREATE INDEX ledger_order_open ON ledger_order (id) WHERE done_ms IS NULL;

-- As far below zero as the operator has put in of his own, less what he has taken out.
INSERT INTO account (id, name) VALUES (7, 'operator');
