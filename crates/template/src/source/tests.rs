use super::*;

#[test]
fn waits_grow_and_stay_bounded() {
    let mut backoff = Backoff::new();
    let waits: Vec<u128> = (0..7).map(|_| backoff.next().as_millis()).collect();
    assert_eq!(waits, [250, 500, 1000, 2000, 4000, 4000, 4000]);
}

#[tokio::test]
async fn without_nodes_there_is_no_template_and_no_panic() {
    let source = Source::start(Vec::new(), SourceConfig::default());
    assert!(source.watch().borrow().is_none());
    assert!(source.status().is_empty());
    source.stop();
}
