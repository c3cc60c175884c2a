//! `sluice demo`: no configuration, no node, nothing installed.

use std::{
    fs,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::support::{
    address,
    books::Books,
    directory, free_port, http,
    miner::{Manner, Miner},
    node::Chain,
    pool::{Process, spawn},
    signal, wait_for,
};

#[test]
fn the_demo_mines_credits_and_ends_cleanly() {
    let directory = directory();
    let (page, stratum) = (free_port(), free_port());
    let log_path = directory.path().join("log");
    let log = || fs::read_to_string(&log_path).unwrap();
    let (listen, miners) = (format!("127.0.0.1:{page}"), format!("127.0.0.1:{stratum}"));
    let arguments = ["demo", "--listen", &listen, "--stratum", &miners, "--dir", "kept"];
    let mut demo = Process(spawn(&arguments, directory.path(), &log_path));
    let get = |path: &str| -> Option<Value> {
        let answer = http::get(page, path).ok().filter(|answer| answer.status == 200)?;
        serde_json::from_str(&answer.body).ok()
    };

    wait_for("the demo to serve its page", Duration::from_secs(20), || {
        assert_eq!(demo.0.try_wait().unwrap(), None, "the demo ended: {}", log());
        http::get(page, "/").ok().filter(|answer| answer.status == 200 && answer.body.contains("<html"))
    });
    let said = wait_for("the demo to say where it is", Duration::from_secs(5), || {
        Some(log()).filter(|said| said.contains(&listen) && said.contains(&miners))
    });

    // A guest is welcome too, by the very address that the demo suggests.
    let guest = address(Chain::Regtest, 7);
    assert!(said.contains(&guest), "{said}");
    let mut miner = Miner::connect(stratum, &format!("{guest}.guest"), Manner::Cpuminer).unwrap();
    let start = Instant::now();
    miner.mine(|tally| tally.acknowledged < 5 && start.elapsed() < Duration::from_secs(60)).unwrap();
    miner.tally.must_be_clean();
    assert!(miner.tally.acknowledged >= 5, "the guest got only {} shares through", miner.tally.acknowledged);
    let path = format!("/api/v1/miners/{guest}");
    wait_for("the guest's shares in the ledger", Duration::from_secs(10), || {
        (get(&path)?["accepted_shares"].as_u64()? == miner.tally.acknowledged).then_some(())
    });

    let brought = wait_for("two blocks, credited", Duration::from_secs(180), || {
        let blocks = get("/api/v1/blocks")?;
        let credited = blocks["blocks"].as_array()?.iter().filter(|block| block["status"] == "immature");
        let rewards: Vec<u64> = credited.filter_map(|block| block["reward_msat"].as_u64()).collect();
        (rewards.len() >= 2).then(|| rewards.iter().sum::<u64>())
    });
    assert!(brought > 0);

    signal("INT", demo.0.id());
    let status =
        wait_for("the demo to end on Ctrl-C", Duration::from_secs(10), || demo.0.try_wait().unwrap());
    assert_eq!(status.code(), Some(0), "{}", log());
    assert!(!log().contains("panicked at"), "{}", log());
    // To the millisatoshi: what the miners and the pool have is what the blocks brought.
    let books = Books::open(&format!("sqlite://{}", directory.path().join("kept/sluice.db").display()));
    books.audit();
    assert!(books.rewards() >= brought);
    assert_eq!(books.accepted_shares()["guest"], miner.tally.acknowledged);
}
