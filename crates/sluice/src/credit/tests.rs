use std::fs;

use super::*;

const ALICE: &str = "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx";
const BOB: &str = "mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn";
const CAROL: &str = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";

fn check(name: &str, text: &str, arguments: &[&str], expect: Result<(), &str>) {
    use clap::Parser;
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        credit: Credit,
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    let option = format!("--{name}");
    let line = ["x", &option, path.to_str().unwrap()].into_iter().chain(arguments.iter().copied());
    let got = verify_credit(Line::parse_from(line).credit).map_err(|failure| failure.to_string());
    match (got, expect) {
        (Ok(()), Ok(())) => {}
        (Err(got), Err(expect)) => assert!(got.contains(expect), "{got}"),
        (got, expect) => panic!("{got:?}, not {expect:?}"),
    }
}

#[test]
fn files_that_prove_nothing() {
    check("proof", "{}", &[], Err("is not what the API gives out"));
    check("proof", "", &[], Err("is not what the API gives out"));
    check("weights", "[1]", &[], Err("is not what the API gives out"));
    check("slot", r#"{"error":"there is none"}"#, &[], Err("the pool has answered: there is none"));
}

#[test]
fn weights() {
    let file = |credit: i64| {
        format!(
            r#"{{"hash":"{}","height":1,"bits":1,"scheme":"pplns","factor":2,"reward_msat":100,"subsidy_msat":90,
            "fee_ppm":10000,"fee_msat":1,"reserve_msat":0,
            "first_slot":1,"first_slot_work":"3","last_slot":1,"window_work":"3","bought_work":"0",
            "bought_subsidy_work":"0","weights":[
            {{"miner":1,"address":"{ALICE}","work":"1","subsidy_work":"1","credit_msat":{credit}}},
            {{"miner":2,"address":"{BOB}","work":"2","subsidy_work":"2","credit_msat":66}}]}}"#,
            "00".repeat(32)
        )
    };
    check("weights", &file(33), &[], Ok(()));
    check("weights", &file(33), &["--address", ALICE], Ok(()));
    check("weights", &file(33), &["--address", &ALICE.to_uppercase()], Ok(()));
    check("weights", &file(33), &["--address", CAROL], Err("has no part in this block"));
    check("weights", &file(33), &["--address", "c"], Err("that is no Bitcoin address"));
    check("weights", &file(34), &["--address", BOB], Err("is credited 34 msat, but its work comes to 33"));
}
