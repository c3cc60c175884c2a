//! Found blocks, from candidate to settled.

use std::time::Duration;

use ledger::{BlockStatus, Ledger, Scheme, Settings, Worker};

use crate::rig::{
    Rig, Running, Shard, Tree, balance, execute, hash, miner, newest, quick, until, until_block,
    until_within, worker,
};

use BlockStatus::{Candidate, Immature, Mature, Orphaned};

/// A window of 100 units of work, at the network work of 2 that the rig has.
const PPLNS: Scheme = Scheme::Pplns { factor: 50 };

/// Shares and a block found by the last worker, at the end of the drain's way.
async fn mined(
    rig: &Rig,
    scheme: Scheme,
    chain: &std::sync::Arc<Tree>,
    shares: &[(&Worker, u128)],
    sats: u64,
) -> Running {
    let spool = rig.spool();
    let running = rig.run(&spool, scheme, chain).await;
    let mut shard = Shard::new(&spool, 0);
    for (worker, work) in shares {
        shard.share(worker, *work);
    }
    shard.found(scheme, shares.last().unwrap().0, 1, sats);
    shard.commit();
    until("the block is recorded", async || newest(&running.ledger).await.is_some()).await;
    running
}

async fn keys(rig: &Rig) -> Vec<String> {
    let mut raw = rig.raw().await;
    let rows = sqlx::query("SELECT idem_key FROM txn ORDER BY id").fetch_all(&mut raw).await.unwrap();
    let hash = "01".repeat(32);
    rows.iter().map(|row| sqlx::Row::get::<String, _>(row, 0).replace(&hash, "H")).collect()
}

async fn account(rig: &Rig, name: &str) -> i64 {
    rig.number(&format!("SELECT balance_msat FROM account WHERE name = '{name}'")).await
}

pub async fn a_block_is_credited_exactly(rig: Rig) {
    let chain = Tree::new();
    let (a, b, c) = (worker(1, "a"), worker(2, "b"), worker(3, "c"));
    let shares = [(&a, 500), (&a, 33), (&b, 33), (&c, 34)];
    let running = mined(&rig, PPLNS, &chain, &shares, 312_500_007).await;
    let ledger = &running.ledger;
    let block = newest(ledger).await.unwrap();
    assert_eq!((block.hash, block.height, block.status), (hash(1), 100, Candidate));
    assert_eq!((block.finder_address, block.finder_worker), (miner(3), "c".to_owned()));
    assert_eq!(
        (block.reward_msat, block.fee_msat, block.confirmations),
        (312_500_007_000, 3_125_000_070, None)
    );
    assert_eq!(balance(ledger, 1).await, (0, 0, 0), "nothing is credited before the chain has it");
    let before = ledger.credits(&miner(1), 10).await.unwrap();
    assert_eq!((before[0].amount_msat, before[0].status, before[0].window_work), (0, Candidate, 100));

    chain.grow(hash(0), hash(1), 1);
    until_block(ledger, Immature, Some(1)).await;
    // Of 309_375_006_930: 102_093_752_286.9 twice and 105_187_502_356.2, where the window of 100 begins inside of the
    // one slot of 600: it is cut by six, and 33 / 100 of the work is not what miner 1 has in it.
    let work: Vec<u128> = {
        let mut work = Vec::new();
        for number in 1..=3 {
            work.push(ledger.credits(&miner(number), 10).await.unwrap()[0].work);
        }
        work
    };
    // 533 / 6 = 88.83, 33 / 6 = 5.5, 34 / 6 = 5.67: floors 88, 5, 5, and the two left to the largest remainders.
    assert_eq!(work, [89, 5, 6]);
    let rest: i64 = 309_375_006_930;
    let expect = [rest * 89 / 100, rest * 5 / 100, rest * 6 / 100]; // .7, .5 and .8 are left: the two units go to 1 and 3
    let expect = [expect[0] + 1, expect[1], expect[2] + 1];
    assert_eq!(expect.iter().sum::<i64>(), rest);
    for (number, amount) in (1..=3).zip(expect) {
        assert_eq!(balance(ledger, number).await, (amount, 0, 0), "miner {number}");
        let credit = ledger.credits(&miner(number), 10).await.unwrap().pop().unwrap();
        assert_eq!((credit.amount_msat, credit.status, credit.block_hash), (amount, Immature, hash(1)));
    }
    assert_eq!(account(&rig, "pool:fee:immature").await, 3_125_000_070);
    assert_eq!(account(&rig, "rewards").await, -312_500_007_000);
    let totals = ledger.totals().await.unwrap();
    assert_eq!((totals.rewards_msat, totals.fee_msat, totals.blocks), (312_500_007_000, 3_125_000_070, 1));
    ledger.verify().await.unwrap();
    running.stop().await;
}

pub async fn maturity_is_at_one_hundred(rig: Rig) {
    let chain = Tree::new();
    let (a, b) = (worker(1, "a"), worker(2, "b"));
    chain.grow(hash(0), hash(1), 1);
    let running = mined(&rig, PPLNS, &chain, &[(&a, 75), (&b, 25)], 1_000).await;
    let ledger = &running.ledger;
    for depth in [1, 2, 50, 99] {
        chain.grow(hash(0), hash(1), depth);
        until_block(ledger, Immature, Some(depth)).await;
        assert_eq!(balance(ledger, 1).await, (742_500, 0, 0), "{depth}");
    }
    chain.grow(hash(0), hash(1), 100);
    until_block(ledger, Mature, Some(100)).await;
    assert_eq!(balance(ledger, 1).await, (0, 742_500, 0));
    assert_eq!(balance(ledger, 2).await, (0, 247_500, 0));
    assert_eq!(account(&rig, "pool:fee:immature").await, 0);
    assert_eq!(account(&rig, "pool:fee:available").await, 10_000);
    assert_eq!(ledger.credits(&miner(1), 1).await.unwrap()[0].amount_msat, 742_500);
    ledger.verify().await.unwrap();
    chain.grow(hash(0), hash(1), 144);
    until("it is settled", async || rig.number("SELECT COUNT(*) FROM block WHERE watched = 1").await == 0)
        .await;
    assert_eq!(keys(&rig).await, ["reward:H:1", "mature:H:1"]);
    running.stop().await;
}

pub async fn an_orphan_is_reversed_and_credited_again(rig: Rig) {
    let chain = Tree::new();
    let (a, b) = (worker(1, "a"), worker(2, "b"));
    chain.grow(hash(0), hash(1), 3);
    let running = mined(&rig, PPLNS, &chain, &[(&a, 75), (&b, 25)], 1_000).await;
    let ledger = &running.ledger;
    for round in 0..3 {
        chain.grow(hash(0), hash(1), 3);
        until_block(ledger, Immature, Some(3)).await;
        assert_eq!(balance(ledger, 1).await, (742_500, 0, 0), "round {round}");
        ledger.verify().await.unwrap();
        chain.grow(hash(0), hash(9), 4);
        until_block(ledger, Orphaned, None).await;
        assert_eq!(balance(ledger, 1).await, (0, 0, 0), "round {round}");
        assert_eq!(ledger.credits(&miner(1), 1).await.unwrap()[0].amount_msat, 0);
        let totals = ledger.totals().await.unwrap();
        assert_eq!((totals.blocks, totals.orphaned, totals.rewards_msat, totals.fee_msat), (0, 1, 0, 0));
        ledger.verify().await.unwrap();
    }
    let expect = ["reward:H:1", "reorg:H:1", "reward:H:2", "reorg:H:2", "reward:H:3", "reorg:H:3"];
    assert_eq!(keys(&rig).await, expect);
    running.stop().await;
}

pub async fn a_mature_orphan_is_covered_by_the_reserve(rig: Rig) {
    let chain = Tree::new();
    let (a, b) = (worker(1, "a"), worker(2, "b"));
    chain.grow(hash(0), hash(1), 1);
    let running = mined(&rig, PPLNS, &chain, &[(&a, 75), (&b, 25)], 1_000).await;
    let ledger = &running.ledger;
    for round in 0..2 {
        chain.grow(hash(0), hash(1), 101);
        until_block(ledger, Mature, Some(101)).await;
        assert_eq!(account(&rig, "reserve").await, 0);
        ledger.verify().await.unwrap();
        chain.grow(hash(0), hash(9), 102);
        until_block(ledger, Orphaned, None).await;
        assert_eq!(balance(ledger, 1).await, (0, 742_500, 0), "round {round}: nobody is made to pay back");
        assert_eq!((account(&rig, "reserve").await, account(&rig, "rewards").await), (-1_000_000, 0));
        ledger.verify().await.unwrap();
    }
    assert_eq!(keys(&rig).await, ["reward:H:1", "mature:H:1", "reorg:H:1", "reward:H:2", "reorg:H:2"]);
    running.stop().await;
}

pub async fn blocks_are_told_apart_by_hash(rig: Rig) {
    let chain = Tree::new();
    let (a, b) = (worker(1, "a"), worker(2, "b"));
    let spool = rig.spool();
    let running = rig.run(&spool, PPLNS, &chain).await;
    let (mut one, mut two) = (Shard::new(&spool, 0), Shard::new(&spool, 1));
    one.share(&a, 60);
    one.found(PPLNS, &a, 1, 1_000);
    two.share(&b, 40);
    two.found(PPLNS, &b, 2, 2_000); // the same height
    two.found(PPLNS, &b, 2, 2_000); // the same block, sent twice
    one.commit();
    two.commit();
    let ledger = &running.ledger;
    until("both are recorded", async || ledger.totals().await.unwrap().blocks == 2).await;
    one.found(PPLNS, &a, 2, 2_000); // and once more, much later
    one.share(&a, 7);
    one.commit();
    until("the share behind it counts", async || ledger.totals().await.unwrap().accepted_shares == 3).await;
    chain.grow(hash(0), hash(1), 1);
    chain.grow(hash(0), hash(2), 2);
    until("one is on chain, the other is not", async || {
        let blocks = ledger.blocks(9, 0).await.unwrap();
        let mut state: Vec<_> = blocks.iter().map(|block| (block.hash[0], block.status)).collect();
        state.sort_by_key(|state| state.0);
        state == [(1, Candidate), (2, Immature)]
    })
    .await;
    assert_eq!(ledger.blocks(1, 1).await.unwrap().len(), 1);
    assert_eq!(ledger.blocks(9, 2).await.unwrap().len(), 0);
    ledger.verify().await.unwrap();
    running.stop().await;
}

pub async fn solo_is_paid_by_the_coinbase(rig: Rig) {
    let chain = Tree::new();
    let (a, b) = (worker(1, "a"), worker(2, "b"));
    chain.grow(hash(0), hash(1), 1);
    let running = mined(&rig, Scheme::Solo, &chain, &[(&b, 900), (&a, 1)], 123_456_789).await;
    let ledger = &running.ledger;
    until_block(ledger, Immature, Some(1)).await;
    // The fee is what the coinbase pays, in whole satoshi: floor of 1 234 567.89.
    assert_eq!(balance(ledger, 1).await, (122_222_222_000, 0, 0));
    assert_eq!(balance(ledger, 2).await, (0, 0, 0));
    assert_eq!(account(&rig, "pool:fee:immature").await, 1_234_567_000);
    assert_eq!(ledger.credits(&miner(2), 9).await.unwrap(), []);
    ledger.verify().await.unwrap();
    chain.grow(hash(0), hash(1), 100);
    until_block(ledger, Mature, Some(100)).await;
    assert_eq!(balance(ledger, 1).await, (0, 0, 122_222_222_000));
    assert_eq!(account(&rig, "pool:fee:available").await, 1_234_567_000);
    assert_eq!(rig.number("SELECT COUNT(*) FROM block_output").await, 2);
    ledger.verify().await.unwrap();
    running.stop().await;
}

pub async fn a_solo_orphan_was_paid_nothing(rig: Rig) {
    let chain = Tree::new();
    let a = worker(1, "a");
    chain.grow(hash(0), hash(1), 120);
    let running = mined(&rig, Scheme::Solo, &chain, &[(&a, 1)], 5_000).await;
    let ledger = &running.ledger;
    until_block(ledger, Mature, Some(120)).await;
    assert_eq!(balance(ledger, 1).await, (0, 0, 4_950_000));
    chain.grow(hash(0), hash(9), 121);
    until_block(ledger, Orphaned, None).await;
    assert_eq!(balance(ledger, 1).await, (0, 0, 0), "its coinbase is gone, and what it paid with it");
    ledger.verify().await.unwrap();
    chain.grow(hash(0), hash(1), 130);
    until_block(ledger, Mature, Some(130)).await;
    assert_eq!(balance(ledger, 1).await, (0, 0, 4_950_000));
    assert_eq!(account(&rig, "reserve").await, 0);
    assert_eq!(keys(&rig).await, ["reward:H:1", "mature:H:1", "reorg:H:1", "reward:H:2", "mature:H:2"]);
    ledger.verify().await.unwrap();
    running.stop().await;
}

pub async fn the_window_is_cut_to_its_length(rig: Rig) {
    let spool = rig.spool();
    let running = rig.run(&spool, PPLNS, &Tree::new()).await;
    let mut shard = Shard::new(&spool, 0);
    let (a, a2, b, c) = (worker(1, "a"), worker(1, "a2"), worker(2, "b"), worker(3, "c"));
    let mut block = |number: u8, shares: &[(&Worker, u128)]| {
        for (worker, work) in shares {
            shard.share(worker, *work);
        }
        shard.found(PPLNS, shares[0].0, number, 1_000);
        shard.commit();
    };
    block(1, &[(&b, 7)]);
    block(2, &[(&a, 60), (&b, 50), (&a2, 40)]);
    block(3, &[(&c, 20), (&a, 10)]);
    block(4, &[(&c, 70)]);
    let ledger = &running.ledger;
    until("the blocks are recorded", async || ledger.totals().await.unwrap().blocks == 4).await;
    let weights = async |number: u32| -> Vec<(u8, u128, u128)> {
        let credits = ledger.credits(&miner(number), 9).await.unwrap();
        credits.iter().map(|credit| (credit.block_hash[0], credit.work, credit.window_work)).collect()
    };
    // Block 1: all there is. 2: 100 of the 150 before it. 3: 30 whole, and 70 of 150. 4: 70 and 30, to the unit.
    assert_eq!(weights(1).await, [(4, 10, 100), (3, 10 + 47, 100), (2, 67, 100)]);
    assert_eq!(weights(2).await, [(3, 23, 100), (2, 33, 100), (1, 7, 7)]);
    assert_eq!(weights(3).await, [(4, 90, 100), (3, 20, 100)]);
    ledger.verify().await.unwrap();
    running.stop().await;
}

/// W9: in what order blocks are credited does not matter.
pub async fn a_later_block_that_is_credited_first_takes_nothing(rig: Rig) {
    let chain = Tree::new();
    let (a, b) = (worker(1, "a"), worker(2, "b"));
    let spool = rig.spool();
    let running = rig.run(&spool, PPLNS, &chain).await;
    let ledger = &running.ledger;
    let mut shard = Shard::new(&spool, 0);
    let both = || {
        chain.grow(hash(0), hash(1), 1);
        chain.grow(hash(1), hash(2), 100);
    };
    both();
    chain.forget(hash(1)); // no node has anything to say of it
    shard.share(&a, 60);
    shard.found(PPLNS, &a, 1, 1_000);
    shard.share(&b, 100);
    shard.found(PPLNS, &b, 2, 1_000);
    shard.commit();
    until_block(ledger, Mature, Some(100)).await;
    assert_eq!((balance(ledger, 1).await, balance(ledger, 2).await), ((0, 0, 0), (0, 990_000, 0)));
    both();
    until("the earlier one is mature too", async || balance(ledger, 1).await == (0, 990_000, 0)).await;
    assert_eq!(balance(ledger, 2).await, (0, 990_000, 0), "the window of the earlier one was as it had been");
    ledger.verify().await.unwrap();
    running.stop().await;
}

pub async fn a_candidate_that_never_appears_is_given_up(rig: Rig) {
    let chain = Tree::new();
    let a = worker(1, "a");
    let spool = rig.spool();
    let settings = Settings { patience: Duration::ZERO, ..quick() };
    let running = Running::start(rig.open_with(&spool, PPLNS, settings).await.unwrap(), &chain);
    let ledger = &running.ledger;
    let mut shard = Shard::new(&spool, 0);
    shard.time_ms = 1_700_000_000_000; // long ago
    shard.share(&a, 100);
    shard.found(PPLNS, &a, 1, 1_000);
    shard.height = 106; // tip at 105: five blocks past
    shard.share(&a, 1);
    shard.commit();
    until("all is drained", async || ledger.totals().await.unwrap().accepted_shares == 2).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(newest(ledger).await.unwrap().status, Candidate);
    shard.height = 107;
    shard.share(&a, 1);
    shard.commit();
    until_block(ledger, Orphaned, None).await;
    assert_eq!(keys(&rig).await, [] as [&str; 0]);
    ledger.verify().await.unwrap();
    // And yet it moves.
    chain.grow(hash(0), hash(1), 2);
    until_block(ledger, Immature, Some(2)).await;
    assert_eq!(balance(ledger, 1).await, (990_000, 0, 0));
    chain.grow(hash(0), hash(9), 3);
    until_block(ledger, Orphaned, None).await;
    shard.height = 100 + 145;
    shard.share(&a, 1);
    shard.commit();
    until("it is forgotten", async || rig.number("SELECT COUNT(*) FROM block WHERE watched = 1").await == 0)
        .await;
    ledger.verify().await.unwrap();
    running.stop().await;
}

pub async fn a_block_without_shares_is_the_finders(rig: Rig) {
    let chain = Tree::new();
    let spool = rig.spool();
    let running = rig.run(&spool, PPLNS, &chain).await;
    let mut shard = Shard::new(&spool, 0);
    shard.found(PPLNS, &worker(5, "x"), 1, 1_000);
    shard.commit();
    chain.grow(hash(0), hash(1), 1);
    until_block_of(&running.ledger).await;
    assert_eq!(balance(&running.ledger, 5).await, (990_000, 0, 0));
    running.ledger.verify().await.unwrap();
    running.stop().await;
}

async fn until_block_of(ledger: &Ledger) {
    until_block(ledger, Immature, Some(1)).await;
}

pub async fn one_hundred_thousand_miners(rig: Rig) {
    // F-58: one unit of work each, and fewer millisatoshi than miners.
    let scheme = Scheme::Pplns { factor: 50_000 };
    let chain = Tree::new();
    chain.grow(hash(0), hash(1), 1);
    let spool = rig.spool();
    let mut shard = Shard::new(&spool, 0);
    for number in 1..=100_000 {
        shard.share(&worker(number, ""), 1);
    }
    shard.found(scheme, &worker(1, ""), 1, 50);
    shard.commit();
    let running = rig.run(&spool, scheme, &chain).await;
    let ledger = &running.ledger;
    // Half a minute of work for two processors, with other tests beside it. How fast it is, the benchmarks say.
    let is_credited = async || {
        newest(ledger).await.map(|block| (block.status, block.confirmations)) == Some((Immature, Some(1)))
    };
    until_within(Duration::from_secs(180), "the block is credited", is_credited).await;
    assert_eq!(ledger.totals().await.unwrap().miners, 100_000);
    let credited = "FROM account WHERE miner_id IS NOT NULL AND balance_msat";
    assert_eq!(rig.number(&format!("SELECT COUNT(*) {credited} = 1")).await, 49_500);
    assert_eq!(rig.number(&format!("SELECT COUNT(*) {credited} <> 1")).await, 0);
    assert_eq!(account(&rig, "rewards").await, -50_000);
    ledger.verify().await.unwrap();
    running.stop().await;
}

pub async fn an_unknown_standing_moves_nothing(rig: Rig) {
    let chain = Tree::new();
    let a = worker(1, "a");
    let running = mined(&rig, PPLNS, &chain, &[(&a, 100)], 1_000).await;
    let ledger = &running.ledger;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(newest(ledger).await.unwrap().status, Candidate);
    chain.grow(hash(0), hash(1), 7);
    until_block(ledger, Immature, Some(7)).await;
    chain.forget(hash(1));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let block = newest(ledger).await.unwrap();
    assert_eq!((block.status, block.confirmations), (Immature, Some(7)));
    assert_eq!(balance(ledger, 1).await, (990_000, 0, 0));
    running.stop().await;
}

/// W10.
pub async fn one_poisoned_block_holds_up_no_other(rig: Rig) {
    let chain = Tree::new();
    chain.grow(hash(0), hash(1), 1);
    chain.grow(hash(1), hash(2), 1);
    let spool = rig.spool();
    let ledger = rig.open(&spool, PPLNS).await;
    let mut raw = rig.raw().await;
    let refuse = if rig.is_postgres() {
        "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN IF NEW.idem_key LIKE 'reward:0101%' THEN RAISE EXCEPTION 'poison'; END IF; RETURN NEW; END $$; \
         CREATE TRIGGER poison BEFORE INSERT ON txn FOR EACH ROW EXECUTE FUNCTION poison()"
    } else {
        "CREATE TRIGGER poison BEFORE INSERT ON txn WHEN NEW.idem_key LIKE 'reward:0101%' \
         BEGIN SELECT RAISE(ABORT, 'poison'); END"
    };
    execute(&mut raw, refuse).await.unwrap();
    let running = Running::start(ledger, &chain);
    let ledger = &running.ledger;
    let mut shard = Shard::new(&spool, 0);
    for number in [1, 2] {
        shard.share(&worker(1, "a"), 100);
        shard.found(PPLNS, &worker(1, "a"), number, 1_000);
    }
    shard.commit();
    until_block(ledger, Immature, Some(1)).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let poisoned = ledger.blocks(1, 1).await.unwrap().pop().unwrap();
    assert_eq!(
        (poisoned.hash, poisoned.status),
        (hash(1), Candidate),
        "refused whole, as if nothing had been tried"
    );
    assert_eq!(balance(ledger, 1).await, (990_000, 0, 0));
    ledger.verify().await.unwrap();
    execute(&mut raw, if rig.is_postgres() { "DROP TRIGGER poison ON txn" } else { "DROP TRIGGER poison" })
        .await
        .unwrap();
    until("it is credited after all", async || balance(ledger, 1).await == (1_980_000, 0, 0)).await;
    ledger.verify().await.unwrap();
    running.stop().await;
}
