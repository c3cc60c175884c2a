//! Who works on a connection, and on the next one.

use super::*;

#[tokio::test]
async fn c20_a_session_is_resumed_with_what_it_had() {
    let mut desk = Desk::new(PPLNS).await;
    let (subscribed, notify) = desk.begin();
    let share = solve(&subscribed, &notify, is_share);
    accepted(&desk.ask(4, "mining.submit", share.clone()));
    let id = subscribed[0][1][1].clone();
    desk.reconnect();
    let again = desk.ask(1, "mining.subscribe", json!(["test/1", id]))[0]["result"].clone();
    assert_eq!(again, subscribed);
    let lines = desk.ask(2, "mining.authorize", json!([format!("{ADDRESS}.w"), "x"]));
    assert_eq!(methods(&lines), ["reply", "mining.set_difficulty", "mining.notify"]);
    assert_eq!(lines[2]["params"][8], json!(true));
    assert_eq!(code(&desk.ask(4, "mining.submit", share)), 22, "F-30: one credit over two connections");
}

#[tokio::test]
async fn c20_f30_one_credit_though_it_is_resumed_where_a_new_tip_is_not_known_yet() {
    let mut desk = Desk::new(PPLNS).await;
    let earlier = desk.posting.clone();
    desk.template(template(2, BLOCK_BITS)).await;
    let (subscribed, notify) = desk.begin();
    let share = solve(&subscribed, &notify, is_share);
    accepted(&desk.ask(4, "mining.submit", share.clone()));
    desk.reconnect();
    let latest = std::mem::replace(&mut desk.posting, earlier);
    desk.ask(1, "mining.subscribe", json!(["test/1", subscribed[0][1][1]]));
    let lines = desk.ask(2, "mining.authorize", json!([format!("{ADDRESS}.w"), "x"]));
    assert_eq!(methods(&lines), ["reply"], "no job of the tip before");
    // Now it hears of the tip.
    desk.posting = latest;
    assert!(desk.posting.as_ref().is_some_and(|posting| desk.session.lacks(posting.id)));
    let now = Now { ms: desk.now_ms, posting: desk.posting.as_ref(), storing: true };
    desk.session.posted(now, &mut desk.out);
    assert_eq!(methods(&desk.lines()), ["mining.set_difficulty", "mining.notify"]);
    assert!(desk.posting.as_ref().is_some_and(|posting| !desk.session.lacks(posting.id)));
    assert_eq!(code(&desk.ask(4, "mining.submit", share)), 22);
    assert_eq!(desk.out.credits.len(), 1);
}

#[tokio::test]
async fn c23_several_workers_each_earn_their_own() {
    let mut desk = Desk::new(PPLNS).await;
    let (subscribed, notify) = desk.begin();
    accepted(&desk.ask(3, "mining.authorize", json!([format!("{OTHER}.x"), "x"])));
    let mut share = solve(&subscribed, &notify, is_share);
    share[0] = json!(format!("{OTHER}.x"));
    accepted(&desk.ask(4, "mining.submit", share));
    // Nobody else, whatever else is wrong; and the same one in another spelling (C-22).
    let mut strange = solve(&subscribed, &notify, |hash| !is_share(hash) && !is_block(hash));
    strange[0] = json!(format!("{OTHER}.y"));
    assert_eq!(code(&desk.ask(4, "mining.submit", strange)), 24);
    let mut spelled = solve(&subscribed, &notify, |hash| is_share(hash) && hash[0] & 1 == 1);
    spelled[0] = json!(format!("{}_x", OTHER.to_uppercase()));
    let lines = desk.ask(4, "mining.submit", spelled);
    assert!(lines[0]["result"] == json!(true) || code(&lines) == 22, "{lines:?}");
    let worker = Worker::parse(&format!("{OTHER}.x"), bitcoin::Network::Regtest).unwrap();
    assert_eq!((desk.out.credits[0].worker, desk.out.credits[0].record.worker), (1, worker.id()));
}

#[tokio::test]
async fn bad_users_are_told_why() {
    let mut desk = Desk::new(PPLNS).await;
    for user in ["", "x", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4.w"] {
        let lines = desk.ask(2, "mining.authorize", json!([user, "x"]));
        assert_eq!(code(&lines), 24);
        assert!(lines[0]["error"][1].as_str().unwrap().len() > 20, "{lines:?}");
    }
    assert!(!desk.session.is_authorized());
}
