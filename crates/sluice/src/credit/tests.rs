use super::*;

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
}

#[test]
fn weights() {
    let file = |credit: i64| {
        format!(
            r#"{{"hash":"00","height":1,"bits":1,"scheme":"pplns","factor":2,"reward_msat":100,"fee_msat":1,
            "first_slot":1,"first_slot_work":"3","last_slot":1,"window_work":"3","weights":[
            {{"miner":1,"address":"a","work":"1","credit_msat":{credit}}},
            {{"miner":2,"address":"b","work":"2","credit_msat":66}}]}}"#
        )
    };
    check("weights", &file(33), &[], Ok(()));
    check("weights", &file(33), &["--address", "a"], Ok(()));
    check("weights", &file(33), &["--address", "c"], Err("c has no part in this block"));
    check("weights", &file(34), &["--address", "b"], Err("a is credited 34 msat, but its work comes to 33"));
}
