//! Blocks among the shares, and whose they are.

use super::*;

#[tokio::test]
async fn c46_a_block_is_submitted_whatever_else_is_wrong() {
    let mut desk = Desk::new(PPLNS).await;
    let (subscribed, notify) = desk.begin();
    let block = solve(&subscribed, &notify, is_block);
    let mut stranger = block.clone();
    stranger[0] = json!("stranger");
    assert_eq!(code(&desk.ask(4, "mining.submit", stranger)), 24);
    assert_eq!(desk.out.solved.len(), 1);
    let found = &desk.out.solved[0].found;
    assert_eq!((found.height, found.value_sats), (101, 5_000_000_000));
    let parsed: bitcoin::Block = bitcoin::consensus::deserialize(&desk.out.solved[0].block).unwrap();
    assert_eq!(bitcoin::hashes::Hash::to_byte_array(parsed.block_hash().to_raw_hash()), found.hash);
    assert_eq!(
        bitcoin::hashes::Hash::to_byte_array(parsed.txdata[0].compute_txid().to_raw_hash()),
        found.coinbase_txid
    );

    // The same again earns the share, but is not sent to the nodes twice.
    accepted(&desk.ask(4, "mining.submit", block));
    assert_eq!((desk.out.solved.len(), desk.out.credits.len()), (1, 1));
}

#[tokio::test]
async fn c48_stale_after_a_new_tip_but_still_a_block() {
    let mut desk = Desk::new(PPLNS).await;
    let (subscribed, notify) = desk.begin();
    let (share, block) = (solve(&subscribed, &notify, is_share), solve(&subscribed, &notify, is_block));
    desk.template(template(1, BLOCK_BITS)).await;
    let lines = desk.lines();
    assert_eq!(lines[0]["params"][8], json!(false), "same tip: not clean");
    accepted(&desk.ask(4, "mining.submit", share.clone()));
    desk.template(template(2, BLOCK_BITS)).await;
    let lines = desk.lines();
    assert_eq!(lines[0]["params"][8], json!(true));
    assert_eq!(code(&desk.ask(4, "mining.submit", share)), 21);
    assert_eq!(code(&desk.ask(4, "mining.submit", block)), 21);
    assert_eq!(desk.out.solved.len(), 1);
}

#[tokio::test]
async fn solo_pays_the_finder_and_keeps_to_one_address() {
    let mut desk = Desk::new(Scheme::Solo).await;
    let (subscribed, notify) = desk.begin();
    let own = Worker::parse(ADDRESS, bitcoin::Network::Regtest).unwrap();
    assert!(notify["params"][3].as_str().unwrap().contains(&hex::encode(own.script())));
    assert_eq!(code(&desk.ask(3, "mining.authorize", json!([OTHER, "x"]))), 24);
    accepted(&desk.ask(3, "mining.authorize", json!([format!("{ADDRESS}.second"), "x"])));
    let block = solve(&subscribed, &notify, is_block);
    accepted(&desk.ask(4, "mining.submit", block));
    let found = &desk.out.solved[0].found;
    assert_eq!(found.outputs, vec![(own.script().to_vec(), 4_950_000_000), (vec![0x51], 50_000_000)]);
}

#[tokio::test]
async fn solo_a_block_is_found_by_whom_its_job_pays() {
    let mut desk = Desk::new(Scheme::Solo).await;
    let (subscribed, notify) = desk.begin();
    let own = Worker::parse(&format!("{ADDRESS}.w"), bitcoin::Network::Regtest).unwrap();
    let mut block = solve(&subscribed, &notify, is_block);
    desk.reconnect();
    // Another address goes on with the session, and hands in what was solved on the job of the first.
    desk.ask(1, "mining.subscribe", json!(["test/1", subscribed[0][1][1]]));
    let other = format!("{OTHER}.x");
    accepted(&desk.ask(2, "mining.authorize", json!([other, "x"])));
    block[0] = json!(other);
    accepted(&desk.ask(4, "mining.submit", block));
    let solution = &desk.out.solved[0];
    assert_eq!((solution.found.worker, &solution.finder), (own.id(), &own));
    assert_eq!(solution.found.outputs[0].0, own.script());
}
