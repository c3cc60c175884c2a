pub(crate) mod house;
mod schema;

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use futures_util::StreamExt;
use serde_json::{Value, json};

use super::*;
use house::{ALICE, BOB, House};

fn document() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

/// What `openapi.json` says that a GET of `path` answers with `status`.
fn described(document: &Value, path: &str, status: StatusCode) -> Value {
    let response = &document["paths"][path]["get"]["responses"][status.as_str()];
    let response = match response.get("$ref") {
        Some(reference) => schema::find(document, reference),
        None => response,
    };
    response["content"]["application/json"]["schema"].clone()
}

/// Asks `house` and compares the answer with the description of `path`.
async fn check(house: &House, path: &str, asked: &str, expect: StatusCode) -> Value {
    let document = document();
    let (status, value) = house.json(asked).await;
    assert_eq!(status, expect, "{asked}: {value}");
    let schema = described(&document, path, status);
    assert!(schema.is_object(), "{path} says nothing of {status}");
    schema::check(&document, &schema, &value, asked);
    value
}

#[test]
fn every_route_is_described_and_the_reverse() {
    let mut served: Vec<&str> = api().iter().map(|(path, _)| *path).collect();
    served.sort_unstable();
    let document = document();
    let mut described: Vec<&str> =
        document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    described.sort_unstable();
    assert_eq!(served, described);
    for (path, operations) in document["paths"].as_object().unwrap() {
        assert_eq!(operations.as_object().unwrap().keys().collect::<Vec<_>>(), ["get"], "{path}");
        let parameters = operations["get"]["parameters"].as_array().cloned().unwrap_or_default();
        let names: Vec<Value> =
            parameters.iter().map(|each| schema::find(&document, &each["$ref"])["name"].clone()).collect();
        assert_eq!(path.contains("{address}"), names.contains(&json!("address")), "{path}");
    }
}

#[tokio::test]
async fn answers_are_as_described() {
    let house = House::with_a_block().await;
    let ok = StatusCode::OK;
    let paths =
        ["/api/v1/pool", "/api/v1/pool/hashrate", "/api/v1/blocks", "/api/v1/payouts", "/healthz", "/livez"];
    for path in paths {
        check(&house, path, path, ok).await;
    }
    for path in ["", "/workers", "/hashrate", "/credits", "/payouts", "/slots"] {
        let path = format!("/api/v1/miners/{{address}}{path}");
        check(&house, &path, &path.replace("{address}", ALICE), ok).await;
    }
    let block = format!("/api/v1/blocks/{}01/weights", "00".repeat(31));
    let weights = check(&house, "/api/v1/blocks/{hash}/weights", &block, ok).await;
    assert_eq!(weights["weights"].as_array().unwrap().len(), 2);
    // Before anything is known, the same with nulls.
    let new = House::new().await;
    let pool = check(&new, "/api/v1/pool", "/api/v1/pool", ok).await;
    assert_eq!((&pool["height"], &pool["accepted_shares"]), (&Value::Null, &Value::Null));
    check(&new, "/healthz", "/healthz", StatusCode::SERVICE_UNAVAILABLE).await;
    check(&new, "/livez", "/livez", ok).await;
}

#[tokio::test]
async fn the_pool_and_its_miners_to_the_digit() {
    let house = House::with_a_block().await;
    let pool = check(&house, "/api/v1/pool", "/api/v1/pool", StatusCode::OK).await;
    assert_eq!(pool["accepted_shares"], 4);
    assert_eq!(pool["rejected_shares"], 2);
    assert_eq!(pool["work"], house::WORK.to_string());
    assert_eq!(pool["blocks_found"], 1);
    assert_eq!(pool["rewards_msat"], house::REWARD_MSAT);
    assert_eq!(pool["reserve_msat"], serde_json::json!({ "available": 0, "immature": 0, "required": null }));
    assert_eq!((&pool["workers"], &pool["connections"], &pool["miners"]), (&json!(1), &json!(3), &json!(1)));
    assert_eq!(pool["fee_percent"], 1.5);
    assert_eq!(pool["hashrate"], 1234.5);

    let mut owed = 0;
    for (address, shares) in [(ALICE, 3), (BOB, 1)] {
        let path = format!("/api/v1/miners/{address}");
        let miner = check(&house, "/api/v1/miners/{address}", &path, StatusCode::OK).await;
        let account = house.shown.ledger.miner(address).await.unwrap().unwrap();
        assert_eq!(miner["accepted_shares"], shares);
        let balance = &account.balance;
        let expect = json!({
            "immature": balance.immature,
            "available": balance.available,
            "in_flight": balance.in_flight,
            "paid": balance.paid
        });
        assert_eq!(miner["balance_msat"], expect);
        let path = format!("{path}/credits");
        let credits = check(&house, "/api/v1/miners/{address}/credits", &path, StatusCode::OK).await;
        assert_eq!(credits["credits"][0]["amount_msat"], balance.immature);
        assert_eq!(credits["credits"][0]["window_work"], house::WORK.to_string());
        owed += balance.immature;
    }
    let blocks = check(&house, "/api/v1/blocks", "/api/v1/blocks", StatusCode::OK).await;
    let block = &blocks["blocks"][0];
    assert_eq!(block["hash"], format!("{}01", "00".repeat(31)), "reversed: as people read it");
    assert_eq!(block["status"], "immature");
    assert_eq!(block["finder"], json!({ "address": ALICE, "worker": "rig" }));
    assert_eq!(block["reward_msat"], house::REWARD_MSAT);
    assert_eq!(owed + block["fee_msat"].as_i64().unwrap(), house::REWARD_MSAT);
}

#[tokio::test]
async fn a_worker_is_what_the_books_and_the_line_know() {
    let house = House::with_a_block().await;
    let path = format!("/api/v1/miners/{ALICE}");
    let miner = check(&house, "/api/v1/miners/{address}", &path, StatusCode::OK).await;
    assert_eq!(miner["hashrate"], 1234.5);
    let [old, rig] = miner["workers"].as_array().unwrap().as_slice() else { panic!("{miner}") };
    assert_eq!(
        (&old["name"], &old["connected"], &old["agent"]),
        (&json!("old"), &json!(false), &Value::Null)
    );
    assert_eq!((&rig["name"], &rig["connected"]), (&json!("rig"), &json!(true)));
    assert_eq!(rig["agent"], "<script>alert(1)</script>");
    assert_eq!((&rig["accepted_shares"], &rig["rejected_shares"]), (&json!(2), &json!(2)));

    let asked = format!("{path}/workers?limit=1&offset=1");
    let page = check(&house, "/api/v1/miners/{address}/workers", &asked, StatusCode::OK).await;
    assert_eq!((&page["total"], &page["workers"][0]["name"]), (&json!(2), &json!("rig")));
    // Capitals are the same address.
    let (status, same) = house.json(&path.replace(ALICE, &ALICE.to_uppercase())).await;
    assert_eq!((status, &same["address"]), (StatusCode::OK, &json!(ALICE)));
}

#[tokio::test]
async fn a_miner_without_a_share_is_known_by_its_connection() {
    let house = House::new().await;
    house.see_alice();
    let path = format!("/api/v1/miners/{ALICE}");
    let miner = check(&house, "/api/v1/miners/{address}", &path, StatusCode::OK).await;
    assert_eq!((&miner["accepted_shares"], &miner["worker_count"]), (&json!(0), &json!(1)));
    assert_eq!(miner["balance_msat"], json!({ "immature": 0, "available": 0, "in_flight": 0, "paid": 0 }));
}

#[tokio::test]
async fn what_cannot_be_answered() {
    let house = House::with_a_block().await;
    let miner = "/api/v1/miners/{address}";
    let not_found = StatusCode::NOT_FOUND;
    for address in [
        "nobody",
        "tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sl5k7",
        "%3Cb%3E",
        "'%20OR%201=1",
    ] {
        let value = check(&house, miner, &miner.replace("{address}", address), not_found).await;
        assert!(value["error"].as_str().unwrap().contains("ADDRESS.worker"), "{value}");
    }
    let bad = [
        ("/api/v1/blocks", "?limit=0"),
        ("/api/v1/blocks", "?limit=501"),
        ("/api/v1/blocks", "?limit=x"),
        ("/api/v1/blocks", "?offset=-1"),
        ("/api/v1/blocks", "?offset=99999999999"),
        ("/api/v1/pool/hashrate", "?minutes=361"),
        ("/api/v1/miners/{address}/credits", "?limit=1.5"),
        ("/api/v1/miners/{address}/workers", "?limit="),
        ("/api/v1/miners/{address}/hashrate", "?minutes=0"),
    ];
    for (path, query) in bad {
        let asked = format!("{}{query}", path.replace("{address}", ALICE));
        check(&house, path, &asked, StatusCode::BAD_REQUEST).await;
    }
    let (status, value) = house.json("/api/v1/miners/%ff").await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{value}");
    for nowhere in
        ["/api", "/api/v1/miners", "/api/v1/miners/a/b/c", "/assets/none.js", "/assets/..%2fapp.js", "/x"]
    {
        let (status, value) = house.json(nowhere).await;
        assert_eq!(status, not_found, "{nowhere}");
        assert!(value["error"].is_string(), "{nowhere}");
    }
    let posted = Request::builder().method(Method::POST).uri("/api/v1/pool").body(Body::empty()).unwrap();
    assert_eq!(house.answer(posted).await.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn every_answer_is_hardened() {
    let house = House::new().await;
    for path in
        ["/", "/assets/app.js", "/assets/none", "/api/v1/pool", "/api/v1/miners/x", "/metrics", "/nowhere"]
    {
        let response = house.get(path).await;
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
        let policy = header(header::CONTENT_SECURITY_POLICY);
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(header(header::X_CONTENT_TYPE_OPTIONS), "nosniff", "{path}");
    }
    let types =
        [("/", "text/html"), ("/assets/app.js", "text/javascript"), ("/assets/style.css", "text/css")];
    for (path, expect) in types {
        let response = house.get(path).await;
        assert_eq!(response.status(), StatusCode::OK);
        let media_type = response.headers()[header::CONTENT_TYPE].to_str().unwrap();
        assert!(media_type.starts_with(expect), "{path}: {media_type}");
    }
}

#[tokio::test]
async fn listeners_hear_the_pool_and_each_change_of_a_block() {
    let mut house = House::new().await;
    house.mine().await;
    house.shown.read().await.unwrap();
    let response = house.get("/api/v1/events").await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let mut stream = response.into_body().into_data_stream();
    let mut next = async || {
        let event = stream.next().await.unwrap().unwrap();
        let text = std::str::from_utf8(&event).unwrap().strip_suffix("\n\n").unwrap();
        let (name, data) = text.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        (name.strip_prefix("event: ").unwrap().to_owned(), data)
    };
    let document = document();
    let (name, pool) = next().await;
    assert_eq!(name, "pool");
    schema::check(&document, &document["components"]["schemas"]["Pool"], &pool, "pool");

    house.find().await;
    house.shown.read().await.unwrap();
    let (name, block) = next().await;
    assert_eq!((name.as_str(), &block["status"]), ("block", &json!("immature")));
    schema::check(&document, &document["components"]["schemas"]["Block"], &block, "block");
    house.shown.read().await.unwrap(); // nothing new: no event
    house.bury_it().await;
    house.shown.read().await.unwrap();
    let (name, block) = next().await;
    assert_eq!((name.as_str(), &block["status"]), ("block", &json!("mature")));
}

#[tokio::test]
async fn a_round_goes_from_block_to_block() {
    let mut house = House::new().await;
    let effort = async |house: &House| {
        house.shown.read().await.unwrap();
        house.see_alice();
        house.json("/api/v1/pool").await.1["round_effort"].as_f64()
    };
    let of_four_shares = house::WORK as f64 / (house::DIFFICULTY * 4_295_032_833.0);
    assert_eq!(effort(&house).await, Some(0.0));
    house.mine().await;
    assert_eq!(effort(&house).await, Some(of_four_shares));
    house.find().await;
    assert_eq!(effort(&house).await, Some(0.0));
    house.mine().await;
    assert_eq!(effort(&house).await, Some(of_four_shares));
    // Who did not see the last block come does not know.
    let house = House::with_a_block().await;
    assert_eq!(effort(&house).await, None);
}

#[tokio::test]
async fn monitors_are_served() {
    let house = House::with_a_block().await;
    let response = house.get("/metrics").await;
    assert!(
        response.headers()[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/plain; version=0.0.4")
    );
    let text = house::text(response).await;
    for line in
        ["sluice_hashrate 1234.5", "sluice_workers 1", "sluice_accepted_shares_total 4", "sluice_storing 1"]
    {
        assert!(text.lines().any(|each| each == line), "{line} in {text}");
    }
    assert!(text.contains("sluice_rejects_total{reason=\"low_difficulty\"} 7\n"), "{text}");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
        let family = name.split('{').next().unwrap();
        assert!(text.contains(&format!("# TYPE {family} ")), "{line}");
    }
}

#[tokio::test]
async fn a_share_is_proven_and_a_segment_given_out() {
    let mut house = House::with_a_block().await;
    let (none, bad) = (StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST);
    let segments = "/api/v1/audit/segments";
    assert_eq!(
        check(&house, segments, segments, StatusCode::OK).await,
        json!({ "segments": [], "total": 0 })
    );
    house.close_segment().await;
    let page = check(&house, segments, segments, StatusCode::OK).await;
    assert_eq!((&page["total"], &page["segments"][0]["shares"]), (&json!(1), &json!(4)));

    let path = "/api/v1/audit/proof";
    // The third of the four is Bob's; its tag is 2.
    let asked = format!("{path}?worker={BOB}&hash={:064x}", 2);
    let proof: ledger::proof::ShareProof =
        serde_json::from_value(check(&house, path, &asked, StatusCode::OK).await).unwrap();
    assert_eq!((proof.position, proof.check().unwrap().hash_tag), (2, 2));
    let asked = format!("{path}?worker={ALICE}_rig&hash={:016x}", 3);
    assert_eq!(check(&house, path, &asked, StatusCode::OK).await["position"], 3);
    check(&house, path, &format!("{path}?worker={ALICE}&hash={:064x}", 2), none).await;
    check(&house, path, &format!("{path}?worker={BOB}&hash={:064x}&time_ms=1", 2), none).await;
    check(&house, path, &format!("{path}?worker={BOB}&hash=xyz"), bad).await;
    check(&house, path, path, bad).await;

    let file = house.get("/api/v1/audit/segments/1").await;
    assert_eq!(file.status(), StatusCode::OK);
    assert_eq!(file.headers()[header::CONTENT_TYPE], "application/zstd");
    let packed = axum::body::to_bytes(file.into_body(), 1 << 20).await.unwrap();
    proof.segment.check_packed(&packed).unwrap();
    check(&house, "/api/v1/audit/segments/{sequence}", "/api/v1/audit/segments/2", none).await;
    check(&house, "/api/v1/audit/segments/{sequence}", "/api/v1/audit/segments/x", bad).await;
    let weights = "/api/v1/blocks/{hash}/weights";
    check(&house, weights, &weights.replace("{hash}", &"00".repeat(32)), none).await;
    check(&house, weights, &weights.replace("{hash}", "abc"), bad).await;
}

#[tokio::test]
async fn what_slots_have_paid() {
    let mut house = House::under(ledger::Scheme::PpsPlus { factor: 2 }).await;
    house.mine().await;
    house.find().await;
    let (path, of) = ("/api/v1/slots/{slot}/rates", "/api/v1/miners/{address}/slots");
    let value = check(&house, path, "/api/v1/slots/1/rates", StatusCode::OK).await;
    let rates: ledger::proof::SlotRates = serde_json::from_value(value).unwrap();
    rates.check().unwrap();
    assert_eq!((rates.work.as_str(), rates.miners.len()), (house::WORK.to_string().as_str(), 2));
    for miner in &rates.miners {
        let asked = of.replace("{address}", &miner.address);
        let slots = check(&house, of, &asked, StatusCode::OK).await;
        let [credit] = slots["slots"].as_array().unwrap().as_slice() else { panic!("{slots}") };
        assert_eq!((&credit["slot"], &credit["amount_msat"]), (&json!(1), &json!(miner.paid_msat)));
    }
    let block = format!("/api/v1/blocks/{}01/weights", "00".repeat(31));
    let value = check(&house, "/api/v1/blocks/{hash}/weights", &block, StatusCode::OK).await;
    let weights: ledger::proof::Weights = serde_json::from_value(value).unwrap();
    weights.check().unwrap();
    assert!(weights.reserve_msat > 0, "it has bought the subsidy: {weights:?}");
    for (slot, status) in [
        ("2", StatusCode::NOT_FOUND),
        ("0", StatusCode::NOT_FOUND),
        ("x", StatusCode::BAD_REQUEST),
        ("99999999999999999999", StatusCode::BAD_REQUEST),
    ] {
        check(&house, path, &path.replace("{slot}", slot), status).await;
    }
    check(&house, of, &of.replace("{address}", "nobody"), StatusCode::NOT_FOUND).await;
    // Where no work is paid so, no slot has paid.
    let house = House::with_a_block().await;
    check(&house, path, "/api/v1/slots/1/rates", StatusCode::NOT_FOUND).await;
    let slots = check(&house, of, &of.replace("{address}", ALICE), StatusCode::OK).await;
    assert_eq!(slots, json!({ "slots": [] }));
    let miner = house.json(&format!("/api/v1/miners/{ALICE}")).await.1;
    assert_eq!(miner["payout_threshold_sats"], 100_000);
}
