//! As many connections as one process may open files for here.

use std::{process::Stdio, time::Duration};

use serde_json::Value;

use crate::support::{
    Processor, address,
    node::{Chain, Login, Node},
    pool::{Pool, sluice},
    shared::ANY_HASH,
};

/// The swarm's, which like the pool may open 20,000 files, some of which are no connections.
const CONNECTIONS: u64 = 19_000;
/// What one may take, in bytes: twice what an idle one does, since these have all just come.
const MEMORY: u64 = 6_000;

#[test]
fn nineteen_thousand_connections_at_once() {
    let _processor = Processor::take();
    let node = Node::start(Chain::Signet, Login::Cookie);
    let mut pool = Pool::start(&node, &address(Chain::Signet, 1), |setup| {
        setup.difficulty = (ANY_HASH, ANY_HASH);
        setup.limits = "connections = 19400";
    });
    let before = pool.memory();
    // A process of its own, which may open as many files as the pool.
    let swarm = sluice(pool.directory())
        .args([
            "bench",
            "--json",
            "--connections",
            &CONNECTIONS.to_string(),
            "--rate",
            "1000",
            "--seconds",
            "5",
        ])
        .args(["--connect", &format!("127.0.0.1:{}", pool.setup.stratum_port)])
        .args(["--user", &address(Chain::Signet, 2)])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let most = std::thread::scope(|scope| {
        let swarm = scope.spawn(|| swarm.wait_with_output().unwrap());
        let mut most = (0, 0);
        while !swarm.is_finished() {
            let connections = pool.api("/api/v1/pool")["connections"].as_u64().unwrap();
            most = most.max((connections, pool.memory()));
            std::thread::sleep(Duration::from_millis(200));
        }
        let output = swarm.join().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let table: Value = serde_json::from_slice(&output.stdout).unwrap();
        let row = |what: &str| {
            let rows = table["rows"].as_array().unwrap();
            let row = rows.iter().find(|row| row["what"] == what);
            row.unwrap_or_else(|| panic!("no {what} in {table}"))["pool"].as_f64().unwrap()
        };
        assert_eq!((row("connections"), row("connections lost")), (CONNECTIONS as f64, 0.0), "{table}");
        assert!(row("shares accepted") > 1000.0, "{table}");
        assert_eq!((row("shares refused"), row("shares not answered")), (0.0, 0.0), "{table}");
        most
    });
    assert_eq!(most.0, CONNECTIONS, "the pool counts them all");
    let each = most.1.saturating_sub(before) / CONNECTIONS;
    assert!(each < MEMORY, "{each} bytes a connection");
    assert!(pool.terminate().success());
}
