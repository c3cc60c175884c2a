use bitcoin::{Network, consensus, constants::genesis_block, hashes::Hash as _};

use super::*;

fn solved(network: Network) -> Solved {
    let block = genesis_block(network);
    Solved { hash: block.block_hash().to_byte_array(), height: 0, block: consensus::serialize(&block) }
}

fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn blocks_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let dir = &dir.path().join("found");
    assert_eq!(keep::open(dir).unwrap().len(), 0);
    let (whole, part, done) = (solved(Network::Regtest), solved(Network::Signet), solved(Network::Testnet));
    keep::write(dir, &whole.hash, &whole.block, b"of the whole").unwrap();
    let name = shown(&whole.hash);
    assert_eq!(name, "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206");
    assert_eq!(files(dir), [format!("{name}.block"), format!("{name}.note")]);
    // Killed before the last step: the bytes are all there. Killed earlier: they are not.
    std::fs::write(dir.join(shown(&part.hash)).with_extension("part"), &part.block).unwrap();
    let cut = "11".repeat(32);
    std::fs::write(dir.join(&cut).with_extension("part"), &part.block[..200]).unwrap();
    // Somebody's own idea of a file.
    let misnamed = "22".repeat(32);
    std::fs::write(dir.join(&misnamed).with_extension("block"), &whole.block).unwrap();
    std::fs::write(dir.join("notes.txt"), "x").unwrap();
    // Killed before the block was written.
    std::fs::write(dir.join("33".repeat(32)).with_extension("note"), "of nothing").unwrap();
    keep::write(dir, &done.hash, &done.block, b"of the done").unwrap();
    keep::mark(dir, &done.hash, keep::DONE).unwrap();

    let left = keep::open(dir).unwrap();
    let mut hashes: Vec<Hash> = left.iter().map(|left| left.solved.hash).collect();
    let mut expect = vec![whole.hash, part.hash];
    hashes.sort();
    expect.sort();
    assert_eq!(hashes, expect);
    let find = |hash: Hash| left.iter().find(|left| left.solved.hash == hash).unwrap();
    assert_eq!((&find(part.hash).solved.block, &find(part.hash).note[..]), (&part.block, &b""[..]));
    assert_eq!(find(whole.hash).note, b"of the whole");
    assert_eq!(Submitter::notes(dir).unwrap(), [b"of the whole"]);
    let mut expect = vec![
        format!("{name}.block"),
        format!("{name}.note"),
        format!("{}.block", shown(&part.hash)),
        format!("{}.done", shown(&done.hash)),
        format!("{cut}.damaged"),
        format!("{misnamed}.damaged"),
        "notes.txt".to_owned(),
    ];
    expect.sort();
    assert_eq!(files(dir), expect);
    assert_eq!(keep::open(dir).unwrap().len(), 2, "until something comes of them");
}

#[test]
fn only_the_latest_settled_blocks_stay() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..103u64 {
        let path = dir.path().join(format!("{n:064}.done"));
        let file = std::fs::File::create(path).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(n)).unwrap();
    }
    keep::open(dir.path()).unwrap();
    let left = files(dir.path());
    assert_eq!(left.len(), 100);
    assert_eq!(left[0], format!("{:064}.done", 3));
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_is_said_at_the_start() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let dir = file.path().join("found");
    let error = Submitter::start(Vec::new(), dir.clone()).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("cannot keep found blocks in {} (Not a directory", dir.display())),
        "{error}"
    );
}

#[test]
fn a_hash_is_taken_once_and_memory_is_bounded() {
    let mut taken = Taken::default();
    let hash = |n: usize| {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&n.to_le_bytes());
        hash
    };
    for n in 0..2 * Submitter::REMEMBERED {
        assert!(taken.insert(hash(n)));
        assert!(!taken.insert(hash(n)));
    }
    assert!(!taken.insert(hash(Submitter::REMEMBERED)));
    assert_eq!((taken.set.len(), taken.order.len()), (Submitter::REMEMBERED, Submitter::REMEMBERED));
    assert!(taken.insert(hash(0)), "long forgotten");
}

#[test]
fn what_the_nodes_together_say() {
    let refused = || Delivery::Refused("bad-txns".into());
    let check = |deliveries: Vec<Delivery>, expect: Fate| {
        let mut verdict = Verdict::default();
        deliveries.into_iter().for_each(|delivery| verdict.add(delivery));
        assert_eq!(verdict.fate(), expect);
    };
    check(vec![], Fate::Undelivered);
    check(vec![Delivery::GaveUp], Fate::Undelivered);
    check(vec![refused()], Fate::Refused("bad-txns".into()));
    check(vec![refused(), Delivery::GaveUp], Fate::Undelivered);
    check(vec![refused(), Delivery::OffChain], Fate::OffChain);
    check(vec![Delivery::OffChain, refused(), Delivery::OnChain], Fate::OnChain);
}

#[tokio::test]
async fn without_a_node_a_block_is_kept_for_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let submitter = Submitter::start(Vec::new(), dir.path().into()).unwrap();
    let mut outcomes = submitter.outcomes();
    let solved = solved(Network::Regtest);
    // From a thread that knows nothing of the runtime, too.
    let (other, copy) = (submitter.clone(), solved.clone());
    std::thread::spawn(move || other.submit(copy)).join().unwrap();
    submitter.submit(solved.clone());
    let outcome = outcomes.recv().await.unwrap();
    assert_eq!(outcome, Outcome { hash: solved.hash, height: 0, fate: Fate::Undelivered });
    assert!(submitter.settled(Duration::from_secs(10)).await);
    assert_eq!(files(dir.path()), [format!("{}.block", shown(&solved.hash))]);
    assert!(outcomes.try_recv().is_err(), "handed in twice, told once");
}
