-- Room for all schemes, and for payments: what a transaction can be about, and the pool's further accounts.

ALTER TABLE txn DROP CONSTRAINT txn_kind_check;
ALTER TABLE txn ADD CONSTRAINT txn_kind_check
    CHECK (kind IN ('reward', 'mature', 'reorg', 'slot', 'payout', 'paid', 'return', 'fund', 'correction'));
COMMENT ON COLUMN txn.kind IS 'reward: a block came on chain; mature: it is 100 deep; reorg: it left the chain; slot: the work of a slot was credited at a fixed rate; payout: a payment was planned; paid: it is confirmed; return: it was given up; fund: the operator moved money between accounts of the pool; correction: made good what an earlier one had wrong.';
COMMENT ON COLUMN txn.idem_key IS 'What happened, named so that it happens once: kind:what:n.';
COMMENT ON COLUMN txn.block_id IS 'The block that it is about; null if it is about none.';

ALTER TABLE block DROP CONSTRAINT block_scheme_check;
ALTER TABLE block ADD CONSTRAINT block_scheme_check
    CHECK (scheme IN ('solo', 'pplns', 'tides', 'pps', 'fpps', 'pps_plus'));

INSERT INTO account (id, name) VALUES (5, 'network:fee'), (6, 'reserve:immature');
COMMENT ON COLUMN account.id IS 'Below 8 the pool''s; else 8 x miner + 0 immature, 1 available, 2 paid, 3 in flight.';
