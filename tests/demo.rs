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
    signal,
    sv2::{Client, VERSION_ROLLING, channel::Channel},
    wait_for,
};

#[test]
fn the_demo_mines_credits_and_ends_cleanly() {
    let directory = directory();
    let (page, stratum, stratum_v2) = (free_port(), free_port(), free_port());
    let log_path = directory.path().join("log");
    let log = || fs::read_to_string(&log_path).unwrap();
    let [listen, miners, miners_v2] = [page, stratum, stratum_v2].map(|port| format!("127.0.0.1:{port}"));
    let arguments =
        ["demo", "--listen", &listen, "--stratum", &miners, "--stratum-v2", &miners_v2, "--dir", "kept"];
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
        Some(log()).filter(|said| said.contains("Ctrl-C ends it"))
    });
    assert!(said.contains(&listen) && said.contains(&miners), "{said}");

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

    // So is one that speaks V2, by the very URL that it prints.
    let begin = said.find(&format!("stratum2+tcp://{miners_v2}/")).unwrap_or_else(|| panic!("{said}"));
    let url = said[begin..].split_whitespace().next().unwrap();
    let urls = get("/api/v1/pool").unwrap()["stratum_urls"].clone();
    assert!(urls.as_array().unwrap().iter().any(|shown| shown == url), "{urls}");
    let key =
        bitcoin::base58::decode_check(url.rsplit('/').next().unwrap()).unwrap()[2..].try_into().unwrap();
    let mut client = Client::connect_to(stratum_v2, key).unwrap();
    client.begin(VERSION_ROLLING);
    let other = address(Chain::Regtest, 8);
    let mut channel = Channel::open_extended(&mut client, &format!("{other}.guest-v2"), 1.0);
    channel.mine(&mut client);
    // And one of the demo's own speaks it, as its page shows.
    wait_for("a miner of V2 among those of V1", Duration::from_secs(60), || {
        let workers = (1..=5).filter_map(|owner| {
            Some(
                get(&format!("/api/v1/miners/{}", address(Chain::Regtest, owner)))?["workers"]
                    .as_array()?
                    .clone(),
            )
        });
        let spoken: Vec<Value> = workers.flatten().map(|worker| worker["protocol"].clone()).collect();
        let count = |protocol| spoken.iter().filter(|spoken| **spoken == protocol).count();
        (count("V1") == 5 && count("V2") == 1).then_some(())
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
