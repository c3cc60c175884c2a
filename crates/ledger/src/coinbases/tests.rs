use super::*;
use crate::{Scheme, window::Weight};

const SATS: u64 = 5_000_000_000;

fn direct(min_sats: u64, most: usize) -> Direct {
    Direct { min_sats, most }
}

/// Miner `n` is paid by a script of 22 bytes that begins with `n`.
fn script(miner: i64) -> Box<[u8]> {
    let mut script = vec![0; 22];
    script[0] = miner as u8;
    script.into()
}

fn split(weights: &[u128]) -> Split {
    let miners: Vec<(i64, Weight)> =
        (1..).zip(weights).map(|(miner, work)| (miner, Weight::all(*work))).collect();
    let scripts = miners.iter().map(|(miner, _)| (*miner, script(*miner))).collect();
    Split {
        id: SplitId { slot: 7, bits: 0x207f_ffff },
        weights: Weights { miners, bought: Weight::default() },
        scripts,
    }
}

/// What a coinbase pays: by the miner, 0 for the pool.
fn paid(
    fee_ppm: u32,
    weights: &[u128],
    balances: &[(i64, u64)],
    direct: Direct,
    bytes: usize,
) -> Vec<(u8, u64)> {
    let terms = Terms {
        scheme: Scheme::Tides,
        fee_ppm,
        pool_script: script(0).into_vec(),
        pool_address: String::new(),
    };
    let shown = Shown::default();
    shown.show_split(Some(split(weights)));
    let balances = balances.iter().map(|(miner, msat)| (*miner, (*msat, script(*miner)))).collect();
    *shown.0.carried.write().unwrap() = Arc::new(Carried { drained: Some(0), balances });
    shown.is_caught_up();
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), crate::SpoolConfig::default()).unwrap();
    let coinbases = Coinbases::new(terms, 3, Network::Signet, Some(direct), shown, spool);
    let finder = Worker::parse("tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx", Network::Signet).unwrap();
    let class = coinbases.class(&finder, bytes);
    let pays = coinbases.pays(&class, &finder, 1, SATS);
    let origin = Origin { terms: 3, split: Some(SplitId { slot: 7, bits: 0x207f_ffff }) };
    assert_eq!(pays.origin, Some(origin));
    assert_eq!(pays.outputs.iter().map(|(_, sats)| sats).sum::<u64>(), SATS);
    pays.outputs.iter().map(|(script, sats)| (script[0], *sats)).collect()
}

#[test]
fn outputs_of_a_split() {
    let any = direct(1, 100);
    // The fee is the pool's output; the largest part comes first, and of equals the elder miner's.
    assert_eq!(
        paid(10_000, &[1, 2, 1], &[], any, 2_000),
        [(2, 2_475_000_000), (1, 1_237_500_000), (3, 1_237_500_000), (0, 50_000_000)]
    );
    // What does not divide into whole satoshi stays with the pool, and is owed.
    assert_eq!(
        paid(0, &[1, 1, 1], &[], any, 2_000),
        [(1, 1_666_666_666), (2, 1_666_666_666), (3, 1_666_666_666), (0, 2)]
    );
    assert_eq!(paid(0, &[1], &[], any, 2_000), [(1, SATS)], "no output of nothing");
    assert_eq!(paid(1_000_000, &[1], &[], any, 2_000), [(0, SATS)]);
    // Below the threshold it stays balance.
    assert_eq!(paid(0, &[999, 1], &[], direct(5_000_001, 100), 2_000), [(1, 4_995_000_000), (0, 5_000_000)]);
    assert_eq!(paid(0, &[999, 1], &[], direct(5_000_000, 100), 2_000), [(1, 4_995_000_000), (2, 5_000_000)]);
    // No more outputs than the operator says, nor than fit.
    assert_eq!(
        paid(0, &[5, 4, 1], &[], direct(1, 2), 2_000),
        [(1, 2_500_000_000), (2, 2_000_000_000), (0, 500_000_000)]
    );
    assert_eq!(paid(0, &[5, 4, 1], &[], any, FIXED_BYTES + 31), [(1, 2_500_000_000), (0, 2_500_000_000)]);
    assert_eq!(paid(0, &[5, 4, 1], &[], any, FIXED_BYTES + 30), [(0, SATS)]);
    assert_eq!(paid(0, &[5, 4, 1], &[], any, 0), [(0, SATS)]);
}

#[test]
fn balances_are_paid_with_a_later_part() {
    let any = direct(1, 100);
    // From the pool's output, as far as that goes.
    assert_eq!(
        paid(100_000, &[1, 1], &[(2, 7_999)], any, 2_000),
        [(2, 2_250_000_007), (1, 2_250_000_000), (0, 499_999_993)]
    );
    assert_eq!(
        paid(100_000, &[1, 1], &[(2, 900_000_000_000)], any, 2_000),
        [(2, 2_750_000_000), (1, 2_250_000_000)]
    );
    assert_eq!(paid(0, &[1, 1], &[(2, 900_000_000)], any, 2_000), [(2, 2_500_000_000), (1, 2_500_000_000)]);
    // One who has left is paid too, once it is enough.
    assert_eq!(
        paid(100_000, &[1], &[(9, 5_000_000)], direct(5_000, 9), 2_000),
        [(1, 4_500_000_000), (9, 5_000), (0, 499_995_000)]
    );
    assert_eq!(
        paid(100_000, &[1], &[(9, 5_000_000)], direct(5_001, 9), 2_000),
        [(1, 4_500_000_000), (0, 500_000_000)]
    );
    // Who is below the threshold by the part alone gets over it by the balance.
    assert_eq!(
        paid(100_000, &[899, 1], &[(2, 1_000_000)], direct(5_001_000, 9), 2_000),
        [(1, 4_495_000_000), (2, 5_001_000), (0, 499_999_000)]
    );
}

#[test]
fn whose_address_is_the_pools_has_no_output() {
    let mut weights = split(&[1, 1]);
    weights.scripts.insert(1, script(0));
    let parts = [(1, 1_000_000), (2, 1_000_000)];
    let outputs = outputs(&parts, &weights, &Carried::default(), direct(1, 9), 2_000, 2_000, &script(0));
    assert_eq!(outputs, [(script(2).into_vec(), 1_000)]);
}

#[test]
fn balances_wait_while_a_block_is_on_its_way() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), crate::SpoolConfig::default()).unwrap();
    let shown = Shown::default();
    let terms =
        Terms { scheme: Scheme::Tides, fee_ppm: 0, pool_script: vec![0x51], pool_address: String::new() };
    let coinbases =
        Coinbases::new(terms, 1, Network::Signet, Some(direct(1, 9)), shown.clone(), spool.clone());
    let carry = |drained| {
        let balances = [(1, (5_000, script(1)))].into();
        *shown.0.carried.write().unwrap() = Arc::new(Carried { drained, balances });
    };
    let pays = || !coinbases.carried().balances.is_empty();
    carry(Some(0));
    assert!(!pays(), "what was left by an earlier run is not drained yet");
    shown.is_caught_up();
    assert!(pays());
    let mut writer = spool.writer(0).unwrap();
    let found = crate::Found {
        time_ms: 0,
        worker: crate::WorkerId([1; 16]),
        hash: [1; 32],
        prev_hash: [0; 32],
        height: 1,
        bits: 0x207f_ffff,
        coinbase_txid: [0; 32],
        value_sats: 1,
        outputs: Vec::new(),
        origin: None,
    };
    writer.found(&found);
    assert!(!pays(), "a block has been found, committed or not");
    shown.has_drained(1);
    assert!(!pays(), "it is drained, but the balances are of before");
    carry(Some(1));
    assert!(pays());
    carry(None);
    assert!(!pays(), "a block is neither on chain nor forgotten");
}

/// Not a time, but a use: ten thousand miners are divided among, and as many are paid as fit.
#[test]
fn many_miners() {
    let weights: Vec<u128> = (1..=10_000).map(|work| work << 80).collect();
    let outputs = paid(10_000, &weights, &[], direct(10_000, 400), 16_000);
    assert_eq!(outputs.len(), 401);
    assert!(outputs[..400].is_sorted_by(|a, b| a.1 >= b.1));
}
