//! F-38: names that are meant for somebody else than the pool.

use serde_json::{Value, json};

use super::MIB;
use crate::support::{
    address, http,
    node::{Chain, Login, Node},
    pool::Pool,
    wait_for,
    wire::{PATIENCE, Wire},
};

#[test]
fn f38_control_characters_markup_and_sql_in_names_stay_text() {
    let node = Node::start(Chain::Signet, Login::Cookie);
    let mut pool = Pool::start(&node, &address(Chain::Signet, 1), |setup| setup.difficulty = (1e-10, 1e-10));
    let address = address(Chain::Signet, 38);
    let nasty = [
        ("'; drop table miner; --", "'; drop table miner; --"),
        ("a' or '1'='1", "a' or '1'='1"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("\"><img src=x onerror=alert(1)>", "\"><img src=x onerror=alert(1)>"),
        ("x\n2026-01-01T00:00:00Z ERROR forged", "x2026-01-01T00:00:00Z ERROR forged"),
        ("\u{1b}[2J\u{1b}[31mred", "[2J[31mred"),
        ("nul\0nul", "nulnul"),
        ("a.b.c", "a.b.c"),
        ("%00%0a%3cb%3e", "<b>"),
        ("{}{:?}%s%n", "{}{:?}%s%n"),
        ("\u{202e}draw\u{200b}kcab", "drawkcab"),
    ];
    for (name, _) in nasty {
        let mut wire = Wire::open(pool.setup.stratum_port);
        wire.subscribe_with(json!([name]));
        let user = format!("{address}.{name}");
        wire.authorize(&user, name);
        assert_eq!(wire.submit(&user, &wire.job().share(1)), 0, "{name:?}");
        // What is refused is told to the miner only.
        let reply = wire.ask(9, "mining.authorize", json!([name, name]));
        assert_eq!(wire.code(&reply), 24);
        wire.send("no JSON\n");
        wire.closed();
    }
    let names = wait_for("every share in the ledger", PATIENCE, || {
        let answer = pool.try_api(&format!("/api/v1/miners/{address}/workers")).ok()?;
        let workers = answer["workers"].as_array()?;
        let is_there = |worker: &Value| worker["accepted_shares"] == json!(1);
        let done = workers.len() == nasty.len() && workers.iter().all(is_there);
        done.then(|| workers.iter().map(|w| w["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>())
    });
    for (_, shown) in nasty {
        assert!(names.iter().any(|name| name == shown), "{shown:?} in {names:?}");
    }
    // The pages are the same for everybody: what is in the names comes as JSON, and is told to be nothing else.
    let page = http::get(pool.setup.api_port, &format!("/miner/{address}")).unwrap();
    assert!(!page.body.contains("<script>alert"), "{}", page.body);
    let log = pool.log();
    assert!(!log.lines().any(|line| line.starts_with("2026-01-01T00:00:00Z")), "{log}");
    assert!(!log.contains(|c: char| c.is_control() && c != '\n'), "{log:?}");
    assert!(pool.terminate().success());
}

#[test]
fn f38_ten_thousand_workers_of_one_address_are_capped_and_cheap() {
    let node = Node::start(Chain::Signet, Login::Cookie);
    let pool = Pool::start(&node, &address(Chain::Signet, 1), |setup| setup.difficulty = (1e-10, 1e-10));
    let address = address(Chain::Signet, 39);
    let before = pool.memory();
    let mut wires = Vec::new();
    for number in 0..10 {
        let mut wire = Wire::open(pool.setup.stratum_port);
        wire.subscribe();
        let mut codes = Vec::new();
        for hundred in 0..11 {
            let line = |worker: u32| {
                let user = format!("{address}.{number}-{hundred}-{worker}");
                format!("{}\n", json!({"id": 2, "method": "mining.authorize", "params": [user, "x"]}))
            };
            wire.send((0..100).map(line).collect::<String>());
            for _ in 0..100 {
                let reply = wire.reply();
                codes.push(wire.code(&reply));
            }
        }
        // The default of `limits.workers`.
        let good = codes.iter().take_while(|code| **code == 0).count();
        assert!(good == 1024 && codes[good..].iter().all(|code| *code == 24), "{good} were let in");
        let user = format!("{address}.{number}-0-0");
        assert_eq!(wire.submit(&user, &wire.job().share(number)), 0, "it mines on");
        wires.push(wire);
    }
    wait_for("all of them to be shown", PATIENCE, || {
        let page = pool.try_api(&format!("/api/v1/miners/{address}/workers?limit=10")).ok()?;
        (page["total"] == json!(10 * 1024)).then_some(())
    });
    let grown = pool.memory().saturating_sub(before);
    assert!(grown < 64 * MIB, "10,240 workers took {} MiB", grown / MIB);
}
