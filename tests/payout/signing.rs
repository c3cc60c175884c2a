//! Keys that the pool does not have: an offline signer with files, and a signer as a process of its own.

use std::fs;

use super::*;
use crate::support::pool::{Process, spawn};

#[test]
fn a_watch_only_pool_is_signed_for_by_files() {
    for key in [Key::taproot(REGTEST), Key::wpkh(REGTEST)] {
        let node = Node::start(Chain::Regtest, Login::Cookie);
        let mut pool = rich(&node, &key, 3, "");
        let dir = pool.directory().join("psbt");
        let more = format!("{BY_HAND}\npsbt_dir = \"{}\"", dir.display());
        pool.setup.more = tables(&key.public(), &more);
        pool.start_again();
        pool.ask(&["payout", "run"]).unwrap();
        let file = dir.join("payout-1-0.psbt");
        let psbt = wait_for("the file for the signer", SOON, || fs::read_to_string(&file).ok());
        let out = pool.directory().join("out.psbt");
        pool.ask(&["payout", "export", "1", "--out", out.to_str().unwrap()]).unwrap();
        assert_eq!(fs::read_to_string(&out).unwrap().trim(), psbt.trim());
        assert_eq!(batches(&pool)[0]["status"], "planned");

        // Without signatures it is none, of another key neither, and rubbish is rubbish.
        let import = |name: &str, text: &str| {
            let path = pool.directory().join(name);
            fs::write(&path, text).unwrap();
            pool.ask(&["payout", "import", path.to_str().unwrap()])
        };
        assert!(import("unsigned", &psbt).unwrap_err().contains("not signed"));
        assert!(import("rubbish", "rubbish").unwrap_err().contains("no PSBT"));
        assert_eq!(batches(&pool)[0]["status"], "planned");
        let said = import("signed", &key.sign(&psbt)).unwrap();
        assert!(said.contains("batch 1 is signed"), "{said}");
        until_batch(&pool, 1, "broadcast");
        confirm(&node, 0);
        until_batch(&pool, 1, "paid");
        check_paid(&node, &pool, 3, 3);
        assert!(pool.terminate().success());
    }
}

#[test]
fn a_signer_of_its_own_signs_what_the_journal_has_in_flight_up_to_its_limit() {
    let node = Node::start(Chain::Regtest, Login::Cookie);
    let key = Key::taproot(REGTEST);
    let postgres = Postgres::start();
    let mut pool = rich_in(Some(postgres.url()), &node, &key, 3, &tables(&key.public(), BY_HAND));
    // A role of its own, as the page for operators has it: it can sign, and change nothing.
    let page = include_str!("../../docs/PAYOUTS.md");
    let grants = page.split("```sql").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    Books::open(&postgres.url()).try_write(grants).unwrap();
    let url = postgres.url().replace("//sluice@", "//sluice_signer@");
    for sql in [
        "UPDATE payout SET state = 'paid'",
        "UPDATE payout_tx SET raw = NULL",
        "DELETE FROM payout_signature",
        "UPDATE account SET balance_msat = 0",
        "INSERT INTO payout_order (kind, argument, asked_ms) VALUES ('run', '', 0)",
    ] {
        let refused = Books::open(&url).try_write(sql).unwrap_err();
        assert!(refused.contains("permission denied"), "{sql}: {refused}");
    }
    pool.start_again();
    let signer = |limit: u64| {
        let mut setup = pool.setup.clone();
        setup.ledger_url.clone_from(&url);
        let record = pool.directory().join("signer.log");
        let record = record.display();
        let more = format!("{BY_HAND}\n[signer]\nlog = \"{record}\"\ndaily_limit_sats = {limit}");
        setup.more = tables(&key.private(), &more);
        fs::write(pool.directory().join("signer.toml"), setup.text()).unwrap();
        let arguments = ["signer", "--config", "signer.toml"];
        Process(spawn(&arguments, pool.directory(), &pool.directory().join("signer.out")))
    };
    let meek = signer(1_000);
    pool.ask(&["payout", "run"]).unwrap();
    wait_for("the limit to be told", SOON, || {
        let listed = pool.ask(&["payout", "list"]).unwrap();
        (listed.contains("the signer refuses") && listed.contains("the limit is 1000 sat")).then_some(())
    });
    assert_eq!(batches(&pool)[0]["status"], "planned");

    // F-56: the second is refused while the first one lives.
    let mut second = signer(1_000);
    let status = wait_for("the second signer to end", SOON, || second.0.try_wait().unwrap());
    assert_eq!(status.code(), Some(69));
    let said = fs::read_to_string(pool.directory().join("signer.out")).unwrap();
    assert!(said.contains("another signer"), "{said}");

    drop(meek);
    let _bold = signer(100_000_000_000);
    until_batch(&pool, 1, "broadcast");
    confirm(&node, 0);
    until_batch(&pool, 1, "paid");
    check_paid(&node, &pool, 3, 3);
    assert!(pool.terminate().success());
}
