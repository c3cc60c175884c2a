//! The commands beside `run` and `demo`.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    address,
    books::Books,
    directory,
    node::{Chain, Login, Node},
    pool::{Pool, Process, Setup, sluice, spawn},
    postgres::Postgres,
    signal, wait_for,
};

#[test]
fn the_cpu_miner_mines_at_the_rate_that_it_was_given() {
    let node = Node::start(Chain::Signet, Login::Cookie);
    // About 430,000 hashes a share, so two shares a second.
    let mut pool =
        Pool::start(&node, &address(Chain::Signet, 1), |setup| setup.difficulty = (0.0001, 0.0001));
    let user = address(Chain::Signet, 2);
    let url = format!("stratum+tcp://127.0.0.1:{}", pool.setup.stratum_port);
    let worker = format!("{user}.cpu");
    let arguments = [
        "miner",
        "--url",
        &url,
        "--user",
        &worker,
        "--password",
        "x",
        "--hashrate",
        "860k",
        "--threads",
        "1",
    ];
    let place = directory();
    let log = place.path().join("log");
    let mut miner = Process(spawn(&arguments, place.path(), &log));
    let shares = || pool.try_api(&format!("/api/v1/miners/{user}")).ok()?["accepted_shares"].as_u64();
    wait_for("the first share", Duration::from_secs(30), || shares().filter(|count| *count > 0));
    let (start, before) = (Instant::now(), shares().unwrap());
    thread::sleep(Duration::from_secs(15));
    let (count, expected) = ((shares().unwrap() - before) as f64, 2.0 * start.elapsed().as_secs_f64());
    // Shares come by chance: five standard deviations, and half as much again for a busy machine.
    assert!(
        count < expected + 5.0 * expected.sqrt(),
        "{count} shares where {expected:.0} were to be expected"
    );
    assert!(
        count > (expected - 5.0 * expected.sqrt()) / 2.0,
        "{count} shares where {expected:.0} were expected"
    );
    signal("INT", miner.0.id());
    let status =
        wait_for("the miner to end on Ctrl-C", Duration::from_secs(10), || miner.0.try_wait().unwrap());
    assert_eq!(status.code(), Some(0), "{}", std::fs::read_to_string(&log).unwrap());
    assert!(pool.terminate().success());
}

#[test]
fn migrate_makes_the_tables_and_may_be_run_again() {
    let node = Node::start(Chain::Regtest, Login::Cookie);
    let postgres = Postgres::start();
    let place = directory();
    let mut setup = Setup::new(&node, place.path(), &address(Chain::Regtest, 1));
    setup.ledger_url = postgres.url();
    std::fs::write(place.path().join("sluice.toml"), setup.text()).unwrap();
    for _ in 0..2 {
        let output = sluice(place.path()).args(["migrate", "--config", "sluice.toml"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        Books::open(&setup.ledger_url).audit();
    }
}
