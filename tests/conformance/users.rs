//! C-21 to C-24: names and passwords.

use bitcoin::{Address, Network, PubkeyHash, hashes::Hash};
use serde_json::{Value, json};

use super::miner;
use crate::support::{
    address,
    node::Chain,
    shared::{Stay, still},
    wait_for,
    wire::{PATIENCE, Wire},
};

/// The names of the workers that `address` has by now, once there are `count` of them.
fn workers(pool: &Stay, address: &str, count: usize) -> Vec<String> {
    let mut last = Value::Null;
    wait_for(&format!("{count} workers of {address}"), PATIENCE, || {
        last = pool.try_api(&format!("/api/v1/miners/{address}/workers")).ok()?["workers"].take();
        let names = last.as_array()?.iter().map(|worker| worker["name"].as_str().unwrap().to_owned());
        Some(names.collect()).filter(|names: &Vec<String>| names.len() == count)
    })
}

#[test]
fn c21_every_shape_of_authorize() {
    let pool = still();
    let address = address(Chain::Signet, 121);
    let mut wire = Wire::open(pool.port());
    wire.subscribe();
    let name = "n".repeat(191 - address.len() - 1);
    for (params, code) in [
        (json!([format!("{address}.bare")]), 0),
        (json!([format!("{address}.two"), "x"]), 0),
        (json!([format!("{address}.null"), null]), 0),
        (json!([format!("{address}.more"), "x", 1, {}, []]), 0),
        (json!([format!("{address}%2Ealias%20name"), "x"]), 0),
        (json!([address, "x"]), 0),
        (json!([format!("{address}.{name}"), "x"]), 0),
        (json!([format!("{address}.{name}n"), "x"]), 24),
        (json!(["", "x"]), 24),
        (json!(["worker1", "x"]), 24),
        (json!([null, "x"]), 20),
        (json!([1, "x"]), 20),
    ] {
        let reply = wire.ask(2, "mining.authorize", params.clone());
        assert_eq!(wire.code(&reply), code, "{params}: {reply}");
    }
    let line =
        [br#"{"id":3,"method":"mining.authorize","params":[""#, address.as_bytes(), b".caf\xe9\",\"\"]}\n"];
    wire.send(line.concat());
    let reply = wire.reply();
    assert_eq!(wire.code(&reply), 0, "a name that is not UTF-8: {reply}");
    let names = workers(&pool, &address, 8);
    let long = "n".repeat(64);
    assert_eq!(names, ["", "alias name", "bare", "caf\u{fffd}", "more", &long, "null", "two"]);
}

#[test]
fn c22_one_account_however_the_address_is_spelled() {
    let pool = still();
    let address = address(Chain::Signet, 122);
    let mut wire = Wire::open(pool.port());
    wire.subscribe();
    for user in [
        format!("{address}.dot"),
        format!("{address}_line"),
        format!("{}.loud", address.to_uppercase()),
        format!("{}_LOUD", address.to_uppercase()),
    ] {
        let reply = wire.ask(2, "mining.authorize", json!([user, "x"]));
        assert_eq!(wire.code(&reply), 0, "{user}: {reply}");
    }
    assert_eq!(workers(&pool, &address, 4), ["LOUD", "dot", "line", "loud"]);

    // Base58 means something else in another case, and bech32 in a mixture is none.
    let base58 = Address::p2pkh(PubkeyHash::from_byte_array([22; 20]), Network::Signet).to_string();
    let mixed = format!("{}{}", &address[..20], address[20..].to_uppercase());
    let mainnet = Address::p2pkh(PubkeyHash::from_byte_array([22; 20]), Network::Bitcoin).to_string();
    for (user, code) in [
        (&base58, 0),
        (&base58.to_uppercase(), 24),
        (&base58.to_lowercase(), 24),
        (&mixed, 24),
        (&mainnet, 24),
    ] {
        let reply = wire.ask(2, "mining.authorize", json!([user, "x"]));
        assert_eq!(wire.code(&reply), code, "{user}: {reply}");
    }
}

#[test]
fn c23_several_workers_on_a_connection_and_no_other() {
    let pool = still();
    let address = address(Chain::Signet, 123);
    let user = |name: &str| format!("{address}.{name}");
    let mut wire = Wire::start(pool.port(), &user("a"), "x");
    for name in ["b", "c"] {
        let reply = wire.ask(2, "mining.authorize", json!([user(name), "x"]));
        assert_eq!(wire.code(&reply), 0);
    }
    let job = wire.job();
    for (number, (name, code)) in [("a", 0), ("b", 0), ("b", 0), ("c", 0), ("d", 24)].into_iter().enumerate()
    {
        assert_eq!(wire.submit(&user(name), &job.share(number as u64)), code, "{name}");
    }
    // By the very name that it was authorized under.
    assert_eq!(wire.submit(&address, &job.share(10)), 24);
    wait_for("each worker to have its shares", PATIENCE, || {
        let workers = pool.try_api(&format!("/api/v1/miners/{address}/workers")).ok()?;
        let counts: Vec<Option<u64>> =
            (0..3).map(|at| workers["workers"][at]["accepted_shares"].as_u64()).collect();
        (counts == [Some(1), Some(2), Some(1)]).then_some(())
    });
}

#[test]
fn c24_the_grammar_of_passwords() {
    let pool = still();
    let usual = "0.0000000001";
    for (password, expect) in [
        ("", usual),
        ("x", usual),
        ("123", usual),
        ("anything at all, really; =,=;==", usual),
        ("d=", usual),
        ("d=x", usual),
        ("d=-1", usual),
        ("d=0", usual),
        ("d=nan", usual),
        ("e=0.0005", usual),
        ("d=0.0005", "0.0005"),
        ("d=5e-4", "0.0005"),
        ("diff=0.0005", "0.0005"),
        ("fd=0.0005", "0.0005"),
        ("md=0.0005", "0.0005"),
        ("mindiff=0.0005", "0.0005"),
        ("x,d=0.0005", "0.0005"),
        ("x;d=0.0005;y", "0.0005"),
        ("x d=0.0005 y", "0.0005"),
        ("d=0.0005,md=0.0001", "0.0005"),
        ("d=0.0001,md=0.0005", "0.0005"),
    ] {
        let wire = Wire::start(pool.port(), &miner(24), password);
        assert_eq!(wire.difficulty.as_deref(), Some(expect), "{password:?}");
    }
    // What nobody could reach is held at the difficulty of a block.
    let wire = Wire::start(pool.port(), &miner(24), "d=1e300");
    let difficulty: f64 = wire.difficulty.unwrap().parse().unwrap();
    assert!((0.001..0.0012).contains(&difficulty), "{difficulty}");
}
