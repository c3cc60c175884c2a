//! Bad configurations: one line that says which, where and what to do; exit status 64 or 69; nothing half-started.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    address, directory, free_port, is_free,
    node::{Chain, Login, Node},
    pool::{Process, Setup, sluice},
};

/// The configuration is wrong: sysexits' EX_USAGE.
const USAGE: i32 = 64;
/// Something that is needed is not there: sysexits' EX_UNAVAILABLE.
const UNAVAILABLE: i32 = 69;

/// What is wrong with how `sluice run` refuses `text`: it must end by itself with `status` and one line on standard error
/// that has all of `words` in it.
fn faults(directory: &Path, text: &str, status: i32, words: &[&str]) -> Vec<String> {
    fs::write(directory.join("sluice.toml"), text).unwrap();
    let mut command = sluice(directory);
    command.args(["run", "--config", "sluice.toml"]).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut process = Process(command.spawn().unwrap());
    let start = Instant::now();
    let ended = loop {
        match process.0.try_wait().unwrap() {
            Some(ended) => break ended,
            None if start.elapsed() > Duration::from_secs(15) => {
                return vec!["it was not refused".to_owned()];
            }
            None => thread::sleep(Duration::from_millis(20)),
        }
    };
    let said = std::io::read_to_string(process.0.stderr.take().unwrap()).unwrap();
    let mut faults: Vec<String> = words
        .iter()
        .filter(|word| !said.contains(**word))
        .map(|word| format!("no {word:?} in: {said}"))
        .collect();
    if ended.code() != Some(status) {
        faults.push(format!("{ended}, not {status}: {said}"));
    }
    if said.lines().count() != 1 {
        faults.push(format!("not one line: {said}"));
    }
    faults
}

#[test]
fn a_bad_configuration_is_refused_in_one_line_before_anything_starts() {
    let node = Node::start(Chain::Regtest, Login::Password);
    let directory = directory();
    let good = Setup::new(&node, directory.path(), &address(Chain::Regtest, 1));
    let text = good.text();
    let mut all = Vec::new();
    let mut refuse = |name: &str, text: &str, status: i32, words: &[&str]| {
        let faults = faults(directory.path(), text, status, words);
        all.extend(faults.iter().map(|fault| format!("{name}: {fault}")));
        if !is_free(good.stratum_port) || !is_free(good.api_port) {
            all.push(format!("{name}: a port is still taken"));
        }
    };
    let with = |from: &str, to: &str| {
        assert!(text.contains(from), "{from} is in the configuration");
        text.replace(from, to)
    };

    refuse(
        "unknown key",
        &with("[vardiff]\n", "[vardiff]\nshares_per_hour = 1.0\n"),
        USAGE,
        &["shares_per_hour"],
    );
    refuse("unknown table", &format!("{text}[varidff]\nmin = 1.0\n"), USAGE, &["varidff"]);
    refuse("not TOML", &with("[vardiff]", "[vardiff"), USAGE, &["sluice.toml"]);
    let node_lines = &text[text.find("[[node]]").unwrap()..text.find("[pool]").unwrap()];
    refuse("no node", &text.replace(node_lines, ""), USAGE, &["node"]);
    refuse("no address", &with("address = ", "# "), USAGE, &["address"]);
    refuse("no pool", &text[..text.find("[pool]").unwrap()], USAGE, &["pool"]);
    refuse("min above max", &with("min = 0.0002", "min = 8.0"), USAGE, &["min", "max", "8"]);
    refuse("not a number", &with("max = 0.0002", "max = nan"), USAGE, &["max"]);
    refuse(
        "cookie and password",
        &with("[pool]", "cookie = \"/nowhere\"\n[pool]"),
        USAGE,
        &["cookie", "rpc_user"],
    );
    refuse(
        "fee above all",
        &with("fee_percent = 1.0", "fee_percent = 101.0"),
        USAGE,
        &["fee_percent", "101"],
    );
    refuse("unknown scheme", &with("\"pplns\"", "\"prop\""), USAGE, &["scheme", "prop"]);
    refuse("unknown network", &with("\"regtest\"", "\"mainnet\""), USAGE, &["network", "mainnet"]);
    refuse("database of another kind", &with("sqlite://", "mysql://"), USAGE, &["ledger", "url"]);
    let foreign = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
    refuse(
        "address of another network",
        &with(&good.address, foreign),
        USAGE,
        &["address", foreign, "regtest"],
    );
    refuse(
        "no address at all",
        &with(&good.address, "bcrt1qnonsense"),
        USAGE,
        &["address", "bcrt1qnonsense"],
    );

    let nowhere = free_port().to_string();
    let rpc_port = node.rpc_port.to_string();
    refuse("unreachable node", &with(&rpc_port, &nowhere), UNAVAILABLE, &["node", &nowhere]);
    refuse(
        "wrong password",
        &with("only on the loopback", "guessed"),
        UNAVAILABLE,
        &["node", &rpc_port, "rpc_password"],
    );
    refuse(
        "node of another network",
        &with("\"regtest\"", "\"signet\"").replace(&good.address, &address(Chain::Signet, 1)),
        UNAVAILABLE,
        &["node", "regtest", "signet"],
    );
    let postgres = format!("postgres://sluice@127.0.0.1:{nowhere}/sluice");
    refuse("unreachable database", &with(&good.ledger_url, &postgres), UNAVAILABLE, &["database", &nowhere]);
    let sqlite = "sqlite:///nowhere/at/all/sluice.db";
    refuse(
        "database without a directory",
        &with(&good.ledger_url, sqlite),
        UNAVAILABLE,
        &["/nowhere/at/all"],
    );

    for (port, other) in [(good.stratum_port, good.api_port), (good.api_port, good.stratum_port)] {
        let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let faults = faults(directory.path(), &text, UNAVAILABLE, &[&format!("127.0.0.1:{port}")]);
        all.extend(faults.iter().map(|fault| format!("taken port: {fault}")));
        assert!(is_free(other), "the other port is still taken");
        drop(taken);
    }
    assert!(all.is_empty(), "{all:#?}");

    let missing = directory.path().join("not there.toml");
    let run = sluice(directory.path()).args(["run", "--config"]).arg(&missing).output().unwrap();
    assert_eq!(run.status.code(), Some(USAGE), "a missing file: {run:?}");
    assert!(String::from_utf8_lossy(&run.stderr).contains("not there.toml"), "a missing file: {run:?}");

    // And the one that all of these were made from is good.
    let config = directory.path().join("sluice.toml");
    fs::write(&config, &text).unwrap();
    let check = |key: &str, value: &str| {
        let mut command = sluice(directory.path());
        command.args(["check", "--config", "sluice.toml"]).env(key, value).output().unwrap()
    };
    let checked = check("SLUICE__POOL__FEE_PERCENT", "2.5");
    assert!(checked.status.success(), "sluice check: {checked:?}");
    assert!(
        String::from_utf8_lossy(&checked.stdout).contains("25000 ppm"),
        "the environment counts: {checked:?}"
    );
    // A database that is there must have its tables; one that is not there yet is made by the pool.
    fs::write(directory.path().join("empty.db"), "").unwrap();
    let checked = check("SLUICE__LEDGER__URL", "sqlite://empty.db");
    let said = String::from_utf8_lossy(&checked.stderr);
    assert_eq!(checked.status.code(), Some(UNAVAILABLE), "a database without tables: {checked:?}");
    assert!(said.contains("empty.db has no tables of the ledger yet: run sluice migrate"), "{checked:?}");
    let mut migrate = sluice(directory.path());
    migrate.args(["migrate", "--config", "sluice.toml"]).env("SLUICE__LEDGER__URL", "sqlite://empty.db");
    assert!(migrate.status().unwrap().success());
    assert!(check("SLUICE__LEDGER__URL", "sqlite://empty.db").status.success());
    let checked = check("SLUICE__LEDGER__URL", "sqlite://none.db");
    assert!(checked.status.success() && !directory.path().join("none.db").exists(), "{checked:?}");
    let checked = check("SLUICE__LEDGER__URL", &postgres);
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success() && said.contains("note: the tables were not looked at"), "{checked:?}");

    let checked = check("SLUICE__VARDIFF__MINIMUM", "1");
    assert_eq!(checked.status.code(), Some(USAGE), "an unknown key in the environment: {checked:?}");
    assert!(String::from_utf8_lossy(&checked.stderr).contains("SLUICE__VARDIFF__MINIMUM"), "{checked:?}");

    // The key that miners of V2 know the pool by is looked at, and not made.
    fs::write(&config, with("v1 = ", "v2 = [\"127.0.0.1:0\"]\nv1 = ")).unwrap();
    let key = directory.path().join("authority.key");
    let checked = check("SLUICE__POOL__INSTANCE", "1");
    assert!(checked.status.success() && !key.exists(), "{checked:?}");
    assert!(
        String::from_utf8_lossy(&checked.stdout).contains("the first start makes the key"),
        "{checked:?}"
    );
    fs::write(&key, "half a k").unwrap();
    let (run, checked) = (["run", "--config", "sluice.toml"], check("SLUICE__POOL__INSTANCE", "1"));
    for refused in [checked, sluice(directory.path()).args(run).output().unwrap()] {
        assert_eq!(refused.status.code(), Some(USAGE), "{refused:?}");
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(said.contains("stratum.authority_key") && said.contains("authority.key holds no"), "{said}");
    }
    assert_eq!(fs::read_to_string(&key).unwrap(), "half a k", "nobody has touched it");
    fs::remove_file(&key).unwrap();
    fs::create_dir(&key).unwrap();
    let checked = check("SLUICE__POOL__INSTANCE", "1");
    assert_eq!(checked.status.code(), Some(UNAVAILABLE), "what is no file cannot be read: {checked:?}");
}
