//! The work that is given, and what may be done with it.

use super::*;

#[tokio::test]
async fn c27_configured_again_while_it_mines() {
    let mut desk = Desk::new(PPLNS).await;
    let (subscribed, first) = desk.begin();
    let rolled = |notify: &Value| {
        let mut notify = notify.clone();
        notify["params"][5] = json!(format!("{:08x}", 0x2000_2000));
        let mut share = solve(&subscribed, &notify, is_share);
        share.as_array_mut().unwrap().push(json!("2000"));
        share
    };
    let wanted = json!([["version-rolling"], {"version-rolling.mask": "0000e000"}]);
    let lines = desk.ask(5, "mining.configure", wanted.clone());
    let order = ["reply", "mining.set_version_mask", "mining.notify"];
    assert_eq!(methods(&lines), order, "a job to roll at once");
    accepted(&desk.ask(4, "mining.submit", rolled(&lines[2])));
    assert_eq!(code(&desk.ask(4, "mining.submit", rolled(&first))), 20, "given without a mask");
    assert_eq!(methods(&desk.ask(6, "mining.configure", wanted)), ["reply"], "nothing new");
}

#[tokio::test]
async fn c39_without_work_miners_are_let_go() {
    let mut desk = Desk::new(PPLNS).await;
    desk.begin();
    assert!(desk.tick(5_000).is_empty() && desk.out.close.is_none());
    desk.posting = None;
    assert!(desk.tick(5_000).is_empty());
    assert_eq!(desk.out.close, Some(Closed::NoWork), "what it has is old");

    // One that comes now is not kept for long, but a pool that has just started is given a chance.
    desk.out.close = None;
    desk.reconnect();
    desk.ask(1, "mining.subscribe", json!([]));
    assert_eq!(methods(&desk.ask(2, "mining.authorize", json!([ADDRESS, "x"]))), ["reply"]);
    desk.tick(0);
    desk.tick(10_000);
    assert_eq!(desk.out.close, None);
    desk.template(template(1, BLOCK_BITS)).await;
    assert_eq!(methods(&desk.lines()), ["mining.set_difficulty", "mining.notify"]);
    desk.reconnect();
    desk.posting = None;
    desk.tick(0);
    desk.tick(15_000);
    assert_eq!(desk.out.close, Some(Closed::NoWork));
}

#[tokio::test]
async fn c39_told_that_there_is_no_work_any_more() {
    let mut desk = Desk::new(PPLNS).await;
    desk.begin();
    let now = Now { ms: desk.now_ms, posting: None, storing: true };
    desk.session.posted(now, &mut desk.out);
    assert_eq!(desk.out.close, Some(Closed::NoWork));
}

/// Jobs as large as they get: a tag as long as fits, two outputs with scripts of 34 bytes and a witness commitment, a
/// block of up to 16,384 transactions.
async fn largest(scheme: Scheme) -> (Value, Value) {
    // Of the 100 bytes of the script: height 4, salt 4 + 4 of the id, the extranonce 12, and a byte for each push.
    let mut desk = Desk::with(scheme, &"t".repeat(73), |_| ()).await;
    let mut full = Template::clone(&template(1, BLOCK_BITS));
    full.height = 900_000;
    full.witness_commitment = Some(vec![0x6a; 38]);
    full.branch = vec![[0xff; 32]; 14];
    desk.template(Arc::new(full)).await;
    let subscribed = desk.ask(1, "mining.subscribe", json!([]))[0]["result"].clone();
    let lines = desk.ask(2, "mining.authorize", json!([format!("{OTHER}.w"), "x"]));
    (subscribed, lines.last().unwrap().clone())
}

#[tokio::test]
async fn c40_coinbases_stay_below_500_bytes() {
    for scheme in [PPLNS, Scheme::Solo] {
        let (subscribed, notify) = largest(scheme).await;
        let hex = |text: &Value| text.as_str().unwrap().len() / 2;
        let size = hex(&notify["params"][2]) + hex(&subscribed[1]) + 8 + hex(&notify["params"][3]);
        assert!((200..=400).contains(&size), "{size}");
    }
}

#[tokio::test]
async fn c41_a_notify_stays_far_below_8_kilobytes() {
    for scheme in [PPLNS, Scheme::Solo] {
        let (_, notify) = largest(scheme).await;
        assert_eq!(notify["params"][4].as_array().unwrap().len(), 14);
        let length = notify.to_string().len();
        assert!((1_200..=2_048).contains(&length), "{length}");
    }
}

#[tokio::test]
async fn c45_f35_header_times_up_to_the_limits() {
    let mut desk = Desk::new(PPLNS).await;
    let (subscribed, notify) = desk.begin();
    let time = u32::from_str_radix(notify["params"][7].as_str().unwrap(), 16).unwrap();
    let at = |time: u32| {
        let mut rolled = notify.clone();
        rolled["params"][7] = json!(format!("{time:08x}"));
        solve(&subscribed, &rolled, is_share)
    };
    for (good, late) in [(time, false), (time - 100, false), (time + 7_000, false), (time + 7_001, true)] {
        let lines = desk.ask(4, "mining.submit", at(good));
        assert_eq!(lines[0]["error"][0].as_u64(), late.then_some(20), "{lines:?}");
    }
    let lines = desk.ask(4, "mining.submit", at(time - 101));
    assert_eq!(code(&lines), 20, "before what the chain takes");
    assert_eq!(desk.out.credits.len(), 3);
}

#[tokio::test]
async fn c53_the_extranonce_never_changes_on_a_connection() {
    let mut desk = Desk::new(PPLNS).await;
    let (subscribed, _) = desk.begin();
    assert_eq!(methods(&desk.ask(5, "mining.extranonce.subscribe", json!([]))), ["reply"]);
    let mut said = desk.ask(6, "mining.subscribe", json!(["test/1", subscribed[0][1][1]]));
    assert_eq!(said[0]["result"], subscribed);
    desk.template(template(2, BLOCK_BITS)).await;
    said.extend(desk.lines());
    said.extend(desk.ask(7, "mining.subscribe", json!([])));
    assert_eq!(methods(&said), ["reply", "mining.notify", "reply"]);
    assert_eq!(said[2]["result"], subscribed);
}

#[tokio::test]
async fn a_job_is_remembered_while_others_come() {
    let check = async |scheme, jobs: u64| {
        let mut desk = Desk::new(scheme).await;
        let (subscribed, notify) = desk.begin();
        let newer = async |desk: &mut Desk, number: u64| {
            desk.now_ms += 30_000;
            let mut newer = (*template(1, BLOCK_BITS)).clone();
            newer.coinbase_value += number;
            desk.template(Arc::new(newer)).await;
            assert_eq!(methods(&desk.lines()), ["mining.notify"]);
        };
        for number in 1..jobs {
            newer(&mut desk, number).await;
        }
        accepted(&desk.ask(4, "mining.submit", solve(&subscribed, &notify, is_share)));
        newer(&mut desk, jobs).await;
        let other = solve(&subscribed, &notify, |hash| is_share(hash) && hash[0] & 1 == 1);
        assert_eq!(code(&desk.ask(4, "mining.submit", other)), 21, "{jobs}");
    };
    check(PPLNS, 64).await;
    check(Scheme::Solo, 8).await;
}

#[tokio::test]
async fn c34_no_two_jobs_are_alike() {
    let mut desk = Desk::new(PPLNS).await;
    let (_, first) = desk.begin();
    desk.template(template(1, BLOCK_BITS)).await;
    let second = desk.lines().pop().unwrap();
    let lines = desk.ask(5, "mining.suggest_difficulty", json!([SHARE * 2.0]));
    assert_eq!(methods(&lines), ["reply", "mining.set_difficulty", "mining.notify"], "C-37");
    let third = lines[2].clone();
    for (a, b) in [(&first, &second), (&second, &third), (&first, &third)] {
        assert_ne!(a["params"][0], b["params"][0], "job id");
        assert_ne!(a["params"][2], b["params"][2], "coinbase");
    }
    assert_eq!(third["params"][8], json!(false));
}
