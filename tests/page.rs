//! The dashboard in a real browser: the figures are the journal's, to the digit, and text from miners stays text.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Processor, address,
    books::Books,
    browser::Browser,
    miner::{Manner, Miner},
    node::{Chain, Login, Node},
    pool::Pool,
    wait_for,
};

/// Names that would change the document's language if any of them were taken for markup or script; the last one is
/// for the database.
const NAMES: [&str; 5] = [
    "<script>document.documentElement.lang='owned'</script>",
    "<img src=x onerror=document.documentElement.lang='owned'>",
    "\"><svg onload=document.documentElement.lang='owned'>",
    "&lt;b&gt;' onmouseover='x",
    "'; DROP TABLE worker; --",
];

/// Millisatoshi as bitcoin with eleven decimals.
fn bitcoin(msat: i64) -> String {
    format!("{}.{:011}", msat / 100_000_000_000, msat % 100_000_000_000)
}

/// A JavaScript expression: `data` of every element that `selector` finds, or its text.
fn all(selector: &str, what: &str) -> String {
    format!("[...document.querySelectorAll({})].map((e) => e.{what})", json!(selector))
}

#[test]
fn the_page_shows_what_the_journal_has_and_names_stay_names() {
    let _processor = Processor::take();
    let node = Node::start(Chain::Signet, Login::Cookie);
    let mut pool = Pool::start(&node, &address(Chain::Signet, 1), |setup| {
        // A fee and shares that leave no round figures.
        (setup.difficulty, setup.fee_percent) = ((0.0001, 0.0001), 1.7);
    });
    let [alice, bob] = [2, 3].map(|number| address(Chain::Signet, number));
    let site = format!("http://127.0.0.1:{}/", pool.setup.api_port);
    // The front page is open from the beginning, and nobody loads it again.
    let mut front = Browser::open(&site);
    front.wait_for("document.getElementById('state').dataset.state", &json!("live"));

    let mut miners: Vec<Miner> = NAMES
        .iter()
        .map(|name| format!("{alice}.{name}"))
        .chain([format!("{bob}.plain")])
        .map(|user| {
            let miner = Miner::connect(pool.setup.stratum_port, &user, Manner::Cpuminer);
            miner.unwrap_or_else(|e| panic!("{user}: {e}"))
        })
        .collect();
    // In turn, so that each has a part in the windows.
    let mut turns = 0;
    while turns < 10 || node.height() < 3 {
        turns += 1;
        for miner in &mut miners {
            let acknowledged = miner.tally.acknowledged;
            miner.mine(|tally| tally.acknowledged <= acknowledged + 1).unwrap();
        }
    }
    let of_alice = &miners[..NAMES.len()];
    let accepted: u64 = of_alice.iter().map(|miner| miner.tally.acknowledged).sum();
    let rejected: u64 = of_alice.iter().map(|miner| miner.tally.stale).sum();
    let of_all: u64 = miners.iter().map(|miner| miner.tally.acknowledged).sum();

    // API and journal.
    let path = format!("/api/v1/miners/{alice}");
    let account = wait_for("the ledger to have every share and block", Duration::from_secs(20), || {
        let account = pool.try_api(&path).ok()?;
        let (all, blocks) = (pool.api("/api/v1/pool"), pool.blocks());
        let standing = blocks.iter().filter(|block| block.status == "immature").count() as u64;
        let settled = blocks.iter().all(|block| block.status != "candidate");
        let complete = settled && standing == node.height() && all["accepted_shares"].as_u64()? == of_all;
        let counts = [&account["accepted_shares"], &account["rejected_shares"]].map(Value::as_u64);
        (complete && counts == [Some(accepted), Some(rejected)]).then_some(account)
    });
    let books = Books::open(&pool.setup.ledger_url);
    books.audit();
    let balance = books.balance(&alice);
    let told = &account["balance_msat"];
    let told = ["immature", "available", "paid"].map(|name| told[name].as_i64());
    assert_eq!(told, [balance.immature, balance.available, balance.paid].map(Some));
    assert!(balance.immature > 0, "{balance:?}");
    let by_worker = books.accepted_shares();
    for (name, miner) in NAMES.iter().zip(&miners) {
        assert_eq!(by_worker.get(*name), Some(&miner.tally.acknowledged), "{name}");
    }
    let credits = pool.api(&format!("{path}/credits?limit=100"));
    let credits: Vec<i64> = credits["credits"]
        .as_array()
        .unwrap()
        .iter()
        .map(|credit| credit["amount_msat"].as_i64().unwrap())
        .collect();
    assert!(credits.len() >= 3, "{credits:?}");

    // The front page has heard of it all by now.
    let blocks = pool.blocks();
    front.wait_for("document.getElementById('pool-accepted').dataset.value", &json!(of_all.to_string()));
    front.wait_for("document.getElementById('pool-blocks').dataset.value", &json!(node.height().to_string()));
    let rewards: Vec<String> = blocks.iter().map(|block| block.reward_msat.to_string()).collect();
    front.wait_for(&all("#blocks-rows [data-msat]", "dataset.msat"), &json!(rewards));

    // The miner's own page.
    let mut page = Browser::open(&format!("{site}#/miner/{alice}"));
    page.wait_for("document.getElementById('miner-accepted').dataset.value", &json!(accepted.to_string()));
    page.wait_for("document.getElementById('miner-rejected').dataset.value", &json!(rejected.to_string()));
    for (name, msat) in [("immature", balance.immature), ("available", 0), ("paid", 0)] {
        page.wait_for(
            &format!("document.getElementById('miner-{name}').dataset.msat"),
            &json!(msat.to_string()),
        );
        let shown = page.evaluate(&format!("document.getElementById('miner-{name}').textContent"));
        assert_eq!(shown.as_str().unwrap().trim_end_matches("BTC").trim(), bitcoin(msat), "{name}");
    }
    page.wait_for(
        &all("#credits-rows [data-msat]", "dataset.msat"),
        &json!(credits.iter().map(i64::to_string).collect::<Vec<_>>()),
    );
    let shown = page.evaluate(&all("#credits-rows [data-msat]", "textContent"));
    assert_eq!(shown, json!(credits.iter().map(|&msat| bitcoin(msat)).collect::<Vec<_>>()));

    // Names.
    let shown = page.evaluate(&all("#workers-rows tr td:first-child", "textContent"));
    let mut shown: Vec<&str> = shown.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    shown.sort_unstable();
    let mut expected = NAMES;
    expected.sort_unstable();
    assert_eq!(shown, expected);
    for browser in [&mut front, &mut page] {
        assert_eq!(
            browser.evaluate("document.documentElement.lang"),
            json!("en"),
            "a name was run as a script"
        );
        assert_eq!(
            browser.evaluate("document.querySelectorAll('td script, td img, td svg').length"),
            json!(0)
        );
        assert_eq!(browser.complaints, Vec::<String>::new());
        // Everything comes from the pool itself.
        let others: Vec<&String> = browser.requests.iter().filter(|url| !url.starts_with(&site)).collect();
        assert!(others.is_empty(), "asked elsewhere: {others:?}");
    }

    // An address that never mined gets an answer too.
    let mut page = Browser::open(&format!("{site}#/miner/{}", address(Chain::Signet, 77)));
    page.wait_for("document.getElementById('miner-unknown').hidden", &json!(false));
    assert!(pool.terminate().success());
}
