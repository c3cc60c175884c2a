//! What a miner checks by itself. It knows its user name and the hashes of the headers that it has sent; the rest it asks of
//! the API over HTTP, keeps as files, and gives to `sluice verify-credit`, which asks nobody.

use std::{fs, path::PathBuf, time::Duration};

use serde_json::{Value, json};

use crate::support::{
    address, directory,
    flood::DIFFICULTY,
    http,
    miner::{Manner, Miner},
    node::{Chain, Login, Node},
    pool::{Pool, sluice},
    wait_for,
};

const SOON: Duration = Duration::from_secs(60);

/// Somebody who mines, and what it remembers.
struct Owner {
    user: String,
    hashes: Vec<String>,
}

/// Files that were downloaded, and the program that checks them.
struct Desk {
    place: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        Self { place: directory() }
    }

    /// Keeps an answer as a file.
    fn keep(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.place.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Runs `sluice verify-credit`: its exit status and all that it says, which is no panic and few lines.
    fn check(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = sluice(self.place.path());
        let output = command.arg("verify-credit").args(arguments).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &error;
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
        let status = output.status.code().unwrap_or_else(|| panic!("{arguments:?} was killed: {said}"));
        assert!(status == 64 || error.lines().count() <= 1, "{arguments:?}: more than a line: {error}");
        (status, said)
    }

    fn must_hold(&self, arguments: &[&str], expect: &str) {
        let (status, said) = self.check(arguments);
        assert!(status == 0 && said.contains(expect), "{arguments:?} ended with {status}: {said}");
    }

    fn must_fail(&self, arguments: &[&str], expect: &str) {
        let (status, said) = self.check(arguments);
        assert!(
            status == 1 && said.contains(expect),
            "{arguments:?} ended with {status}, not {expect:?}: {said}"
        );
    }
}

/// `rounds` blocks by each; what each has sent and had a yes for.
fn mine(pool: &Pool, node: &Node, owners: &mut [Owner], rounds: usize) {
    for _ in 0..rounds {
        for owner in &mut *owners {
            let mut miner = Miner::connect(pool.setup.stratum_port, &owner.user, Manner::Cpuminer).unwrap();
            miner.window = 1;
            let height = node.height();
            miner.wait_for_tip(&node.hash_at(height), SOON).unwrap();
            miner.mine(|tally| tally.sent == 0).unwrap();
            wait_for("the block to reach the node", SOON, || (node.height() == height + 1).then_some(()));
            miner.tally.must_be_clean();
            owner.hashes.append(&mut miner.tally.hashes);
        }
    }
}

/// A pool that has been through three schemes; at work still, with everything before its last start sealed.
fn seasoned(node: &Node) -> (Pool, Vec<Owner>) {
    let users = [(1, "rig"), (1, "attic"), (2, "rig")];
    let user = |(number, name): (u8, &str)| format!("{}.{name}", address(Chain::Regtest, number));
    let mut owners: Vec<Owner> =
        users.map(|each| Owner { user: user(each), hashes: Vec::new() }).into_iter().collect();
    let mut pool = Pool::start(node, &address(Chain::Regtest, 9), |setup| {
        setup.difficulty = (DIFFICULTY, DIFFICULTY);
        setup.stratum = "shards = 1".into();
    });
    for scheme in ["pplns", "pps_plus", "fpps"] {
        if pool.setup.scheme != scheme {
            assert!(pool.terminate().success());
            pool.setup.scheme = scheme;
            pool.start_again();
        }
        mine(&pool, node, &mut owners, 2);
    }
    assert!(pool.terminate().success());
    pool.start_again();
    let all: usize = owners.iter().map(|owner| owner.hashes.len()).sum();
    wait_for("all blocks to be credited", SOON, || {
        let credited = pool.blocks().iter().filter(|block| block.status == "immature").count();
        (credited == all).then_some(())
    });
    wait_for("all segments to be sealed", SOON, || {
        let page = pool.api("/api/v1/audit/segments?limit=500");
        let sealed: u64 =
            page["segments"].as_array()?.iter().map(|seal| seal["shares"].as_u64().unwrap()).sum();
        (sealed as usize == all).then_some(())
    });
    (pool, owners)
}

fn download(pool: &Pool, path: &str) -> Vec<u8> {
    http::bytes(pool.setup.api_port, "GET", path, "", "").unwrap().1
}

fn proof_of(pool: &Pool, user: &str, hash: &str) -> Vec<u8> {
    download(pool, &format!("/api/v1/audit/proof?worker={user}&hash={hash}"))
}

/// One changed digit of the hex at `pointer`.
fn with_a_bit_flipped(proof: &Value, pointer: &str, digit: usize) -> String {
    let mut forged = proof.clone();
    let text = forged.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer} in {proof}"));
    let mut digits: Vec<char> = text.as_str().unwrap().chars().collect();
    let value = digits[digit].to_digit(16).unwrap() ^ 1;
    digits[digit] = char::from_digit(value, 16).unwrap();
    *text = json!(digits.into_iter().collect::<String>());
    forged.to_string()
}

fn with(value: &Value, pointer: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut forged = value.clone();
    change(forged.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer} in {value}")));
    forged.to_string()
}

fn one_more(value: &mut Value) {
    *value = match &*value {
        Value::String(text) => json!((text.parse::<u128>().unwrap() + 1).to_string()),
        number => json!(number.as_i64().unwrap() + 1),
    };
}

#[test]
fn a_miner_checks_its_shares_blocks_and_slots_from_files() {
    let node = Node::start(Chain::Regtest, Login::Cookie);
    let (mut pool, owners) = seasoned(&node);
    let desk = Desk::new();
    shares(&pool, &owners, &desk);
    forgeries(&pool, &owners, &desk);
    divisions(&pool, &owners, &desk);
    slots(&pool, &owners, &desk);
    assert!(pool.terminate().success());
}

/// Every acknowledged share is in the books, and can be shown to be its owner's.
fn shares(pool: &Pool, owners: &[Owner], desk: &Desk) {
    let segments = desk.keep("segments.json", download(pool, "/api/v1/audit/segments?limit=500"));
    let segments = segments.to_str().unwrap();
    for owner in owners {
        assert_eq!(owner.hashes.len(), 6);
        for hash in &owner.hashes {
            let proof = desk.keep("proof.json", proof_of(pool, &owner.user, hash));
            let proof = proof.to_str().unwrap();
            let all = ["--proof", proof, "--segments", segments, "--user", &owner.user, "--hash", hash];
            desk.must_hold(&all, "the share is in the books");
            let capitals =
                owner.user.split_once('.').map(|(address, name)| address.to_uppercase() + "." + name);
            desk.must_hold(
                &["--proof", proof, "--user", &capitals.unwrap()],
                "compared with nothing published",
            );
            for other in owners.iter().filter(|other| other.user != owner.user) {
                desk.must_fail(&["--proof", proof, "--user", &other.user], "somebody else's");
                desk.must_fail(&["--proof", proof, "--hash", &other.hashes[0]], "the proof is of another");
            }
        }
    }
    // One that was never sent, and one of somebody else: there is no proof, and none can be made of the answer.
    let missing = format!("{}00000000deadbeef", "0".repeat(48));
    for (user, hash) in [(&owners[0].user, &missing), (&owners[1].user, &owners[0].hashes[0])] {
        let answer = desk.keep("missing.json", proof_of(pool, user, hash));
        desk.must_fail(&["--proof", answer.to_str().unwrap()], "the pool has answered: no such share");
    }
}

/// A proof in which anything was changed proves nothing.
fn forgeries(pool: &Pool, owners: &[Owner], desk: &Desk) {
    let (user, hash) = (&owners[0].user, &owners[0].hashes[3]);
    let text = proof_of(pool, user, hash);
    let proof: Value = serde_json::from_slice(&text).unwrap();
    let steps = proof["path"].as_array().unwrap().len();
    assert!(steps >= 2, "a tree of some leaves: {proof}");
    let forged = |text: String, expect: &str| {
        let path = desk.keep("forged.json", text);
        desk.must_fail(&["--proof", path.to_str().unwrap(), "--user", user, "--hash", hash], expect);
    };
    for digit in 0..128 {
        forged(with_a_bit_flipped(&proof, "/record", digit), "");
    }
    for digit in [0, 31, 63] {
        for step in 0..steps {
            forged(
                with_a_bit_flipped(&proof, &format!("/path/{step}"), digit),
                "its path does not lead to the root",
            );
        }
        forged(with_a_bit_flipped(&proof, "/segment/root", digit), "its path does not lead to the root");
        for link in ["/segment/chain", "/segment/previous"] {
            forged(with_a_bit_flipped(&proof, link, digit), "is not what its link of the chain says");
        }
    }
    for number in
        ["/segment/sequence", "/segment/work", "/segment/bytes", "/segment/first_ms", "/segment/last_ms"]
    {
        forged(with(&proof, number, one_more), "is not what its link of the chain says");
    }
    forged(with(&proof, "/position", one_more), "");
    forged(
        with(&proof, "/segment/shares", |shares| *shares = json!(1)),
        "its path does not lead to the root",
    );
    forged(
        with(&proof, "/path", |path| drop(path.as_array_mut().unwrap().pop())),
        "does not lead to the root",
    );
    forged(with(&proof, "/segment/spool", |spool| *spool = json!("00")), "the name of segment");

    // The proof is what it was, but what was published is not.
    let proof_file = desk.keep("proof.json", &text);
    let proof_file = proof_file.to_str().unwrap();
    let page: Value = serde_json::from_slice(&download(pool, "/api/v1/audit/segments?limit=500")).unwrap();
    let seals = page["segments"].as_array().unwrap();
    assert!(seals.len() >= 3, "{page}");
    let sequence = proof["segment"]["sequence"].as_u64().unwrap();
    let listed = |page: &Value| {
        let path = desk.keep("page.json", page.to_string());
        desk.check(&["--proof", proof_file, "--segments", path.to_str().unwrap()])
    };
    assert_eq!(listed(&page).0, 0);
    let without: Vec<_> = seals.iter().filter(|seal| seal["sequence"] != sequence).cloned().collect();
    let (status, said) = listed(&json!({ "segments": without[..1], "total": 1 }));
    assert!(status == 1 && (said.contains("is not in the list") || said.contains("broken")), "{said}");
    let reversed: Vec<_> = seals.iter().rev().cloned().collect();
    let (status, said) = listed(&json!({ "segments": reversed, "total": 1 }));
    assert!(status == 1 && said.contains("the chain is broken"), "{said}");
    desk.must_fail(&["--proof", proof_file, "--root", &"00".repeat(32)], "has the root");
    let root = proof["segment"]["root"].as_str().unwrap();
    desk.must_hold(&["--proof", proof_file, "--root", root], "the share is in the books");

    // The segment itself.
    let packed = download(pool, &format!("/api/v1/audit/segments/{sequence}"));
    let file = desk.keep("segment.zst", &packed);
    let holds = ["--proof", proof_file, "--segment", file.to_str().unwrap()];
    desk.must_hold(&holds, &format!("the file of segment {sequence} has its root"));
    let other = seals.iter().find(|seal| seal["sequence"] != sequence && seal["shares"] != 0).unwrap();
    let other = download(pool, &format!("/api/v1/audit/segments/{}", other["sequence"]));
    for bytes in [&other[..], &packed[..packed.len() / 2], b"rubbish", b""] {
        let file = desk.keep("segment.zst", bytes);
        desk.must_fail(&["--proof", proof_file, "--segment", file.to_str().unwrap()], "");
    }
}

/// The division of every block, whatever the scheme was, follows from its weights.
fn divisions(pool: &Pool, owners: &[Owner], desk: &Desk) {
    let mut schemes = std::collections::BTreeMap::new();
    let mut bought = 0;
    for block in pool.blocks() {
        let text = download(pool, &format!("/api/v1/blocks/{}/weights", block.hash));
        let weights: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(weights["hash"], block.hash);
        let file = desk.keep("weights.json", &text);
        let file = file.to_str().unwrap();
        desk.must_hold(&["--weights", file], "every credit follows from the weights");
        *schemes.entry(weights["scheme"].as_str().unwrap().to_owned()).or_insert(0) += 1;
        bought += usize::from(weights["reserve_msat"].as_i64().unwrap() > 0);
        for (number, weight) in weights["weights"].as_array().unwrap().iter().enumerate() {
            let address = weight["address"].as_str().unwrap();
            let credit = format!("credit {} msat, which follows", weight["credit_msat"]);
            desk.must_hold(&["--weights", file, "--address", address], &credit);
            for forged in ["work", "subsidy_work", "credit_msat"] {
                let text = with(&weights, &format!("/weights/{number}/{forged}"), one_more);
                let path = desk.keep("forged.json", text);
                desk.must_fail(&["--weights", path.to_str().unwrap()], "the division of the block is wrong");
            }
        }
        for forged in
            ["reward_msat", "fee_msat", "reserve_msat", "window_work", "bought_work", "bought_subsidy_work"]
        {
            let path = desk.keep("forged.json", with(&weights, &format!("/{forged}"), one_more));
            desk.must_fail(&["--weights", path.to_str().unwrap()], "the division of the block is wrong");
        }
        let stranger = address(Chain::Regtest, 77);
        desk.must_fail(&["--weights", file, "--address", &stranger], "has no part in this block");
    }
    let each = owners.len() * 2;
    assert_eq!(schemes, ["fpps", "pplns", "pps_plus"].map(|scheme| (scheme.to_owned(), each)).into());
    assert!(bought >= each, "the reserve has its part of {bought} blocks");
}

/// What every slot has paid at a fixed rate follows from the work in it, and sums to what the miner has.
fn slots(pool: &Pool, owners: &[Owner], desk: &Desk) {
    let mut schemes = std::collections::BTreeSet::new();
    for address in [&owners[0], &owners[2]].map(|owner| owner.user.split('.').next().unwrap()) {
        let answer = pool.api(&format!("/api/v1/miners/{address}/slots?limit=500"));
        let credits = answer["slots"].as_array().unwrap();
        let mut sum = 0;
        for credit in credits {
            let text = download(pool, &format!("/api/v1/slots/{}/rates", credit["slot"]));
            let rates: Value = serde_json::from_slice(&text).unwrap();
            let file = desk.keep("slot.json", &text);
            let file = file.to_str().unwrap();
            desk.must_hold(&["--slot", file], "everybody was paid what the work is worth");
            let paid = format!("paid {} msat, which is what the work is worth", credit["amount_msat"]);
            desk.must_hold(&["--slot", file, "--address", address], &paid);
            sum += credit["amount_msat"].as_i64().unwrap();
            schemes.insert(rates["scheme"].as_str().unwrap().to_owned());
            let two_more = |value: &mut Value| {
                one_more(value);
                one_more(value);
            };
            for forged in [
                "/miners/0/paid_msat",
                "/miners/0/rates/0/work",
                "/miners/0/rates/0/halvings",
                "/work",
                "/mean_fees_msat",
            ] {
                let path = desk.keep("forged.json", with(&rates, forged, two_more));
                desk.must_fail(&["--slot", path.to_str().unwrap()], "has paid is wrong");
            }
            let path = desk.keep("forged.json", with(&rates, "/fee_ppm", |fee| *fee = json!(500_000)));
            desk.must_fail(&["--slot", path.to_str().unwrap()], "but its work is worth");
        }
        let available = &pool.api(&format!("/api/v1/miners/{address}"))["balance_msat"]["available"];
        assert_eq!(available, &json!(sum), "nothing else is mature: {answer}");
    }
    assert_eq!(schemes.into_iter().collect::<Vec<_>>(), ["fpps", "pps_plus"]);
    let none = desk.keep("none.json", download(pool, "/api/v1/slots/999999/rates"));
    desk.must_fail(&["--slot", none.to_str().unwrap()], "the pool has answered: there is no closed slot");
}

/// Whatever it is given instead, it ends with a line that says what is wrong.
#[test]
fn what_is_no_file_of_the_pool_is_said_to_be_none() {
    let desk = Desk::new();
    let deep = "[".repeat(1_000_000);
    let nested = format!("{{\"segment\":{}", "{\"a\":".repeat(500_000));
    let long = format!("{{\"{}\":1}}", "x".repeat(1_000_000));
    let big =
        format!("{{\"segment\":1e999999,\"position\":{},\"record\":\"\",\"path\":[]}}", "9".repeat(1_000));
    let files: [(&str, &[u8]); 11] = [
        ("empty", b""),
        ("object", b"{}"),
        ("list", b"[1,2]"),
        ("null", b"null"),
        ("binary", b"\x28\xb5\x2f\xfd\x00\xff\xfe\0\0\0"),
        ("half", b"{\"segment\":{\"sequence\":1,\"na"),
        ("deep", deep.as_bytes()),
        ("nested", nested.as_bytes()),
        ("long", long.as_bytes()),
        ("big", big.as_bytes()),
        ("escape", b"{\"\\u001b[31m\":1}"),
    ];
    for (name, bytes) in files {
        let path = desk.keep(name, bytes);
        for option in ["--proof", "--weights", "--slot"] {
            let (status, said) = desk.check(&[option, path.to_str().unwrap()]);
            assert!(
                status == 1 && said.contains("is not what the API gives out"),
                "{option} {name}: {status} {said}"
            );
            assert!(said.len() < 5_000 && !said.contains('\u{1b}'), "{name}: {said}");
        }
    }
    // More than memory has: only its beginning is looked at.
    let huge = desk.place.path().join("huge");
    fs::File::create(&huge).unwrap().set_len(1 << 40).unwrap();
    for path in [huge.to_str().unwrap(), "/dev/zero"] {
        desk.must_fail(&["--proof", path], "it is not the file that is asked for here");
    }
    for option in ["--proof", "--weights", "--slot"] {
        let (status, said) = desk.check(&[option, desk.place.path().to_str().unwrap()]);
        assert!(status == 69 && said.contains("it is a directory"), "{status} {said}");
        let (status, said) = desk.check(&[option, "/nowhere"]);
        assert!(status == 69 && said.contains("there is no such file"), "{status} {said}");
    }
    for arguments in [&[][..], &["--proof", "a", "--weights", "b"], &["--address", "x"], &["--user", "x"]] {
        assert_eq!(desk.check(arguments).0, 64, "{arguments:?}");
    }
    let (status, said) = desk.check(&["--weights", huge.to_str().unwrap(), "--address", "rubbish"]);
    assert!(status == 64 && said.contains("that is no Bitcoin address"), "{said}");
}
