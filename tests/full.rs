//! F-51: a disk that is really full. No share is acknowledged that is not stored, blocks go on, nothing dies, and when
//! there is room again no restart is needed.

use std::{
    fs,
    io::Write,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    crash::{Expected, compare, note},
    support::{
        Processor, address,
        books::Books,
        flood::{DIFFICULTY, Flood},
        miner::{Manner, Miner},
        node::{Chain, Login, Node},
        pool::Pool,
        postgres::Postgres,
        wait_for,
    },
};

const SOON: Duration = Duration::from_secs(30);

/// What keeps a spool from growing.
enum Disk {
    /// A file system of its own, full with this file.
    Small { at: PathBuf, ballast: PathBuf },
    /// Where nothing can be mounted: no file of the process may be longer.
    Limit,
}

impl Disk {
    /// Of some mebibytes, at the directory `at`, which is made.
    fn at(at: &Path) -> Self {
        fs::create_dir_all(at).unwrap();
        let mount = ["-t", "tmpfs", "-o", "size=8m", "sluice-test"];
        let done = Command::new("mount").args(mount).arg(at).output();
        match done.is_ok_and(|done| done.status.success()) {
            true => Self::Small { at: at.to_owned(), ballast: at.join("ballast") },
            false => Self::Limit,
        }
    }

    /// Not a block is left.
    fn fill(&self, pool: &Pool) {
        match self {
            Self::Small { ballast, .. } => {
                let mut file = fs::File::create(ballast).unwrap();
                for size in [1 << 16, 1 << 12, 1] {
                    while file.write_all(&vec![1; size]).is_ok() {}
                }
            }
            Self::Limit => limit(pool, "65536:"),
        }
    }

    fn clear(&self, pool: &Pool) {
        match self {
            Self::Small { ballast, .. } => fs::remove_file(ballast).unwrap(),
            Self::Limit => limit(pool, "unlimited:"),
        }
    }
}

fn limit(pool: &Pool, soft: &str) {
    let pid = pool.pid().to_string();
    let status = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={soft}")]).status();
    assert!(status.unwrap().success(), "prlimit, of util-linux");
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Self::Small { at, .. } = self {
            let _ = Command::new("umount").arg("--lazy").arg(at).status();
        }
    }
}

/// A pool whose spool is on a small disk. The database is elsewhere.
fn cramped(node: &Node, postgres: &Postgres) -> (Pool, Disk) {
    let mut disk = None;
    let pool = Pool::start(node, &address(node.chain, 1), |setup| {
        setup.difficulty = (DIFFICULTY, DIFFICULTY);
        setup.ledger_url = postgres.url();
        setup.ignores_limits = true;
        disk = Some(Disk::at(&setup.directory.join("spool")));
    });
    (pool, disk.unwrap())
}

/// The disk is full before the first share. Every share is a block on regtest.
#[test]
fn blocks_go_on_while_the_disk_is_full() {
    let (node, postgres) = (Node::start(Chain::Regtest, Login::Cookie), Postgres::start());
    let (mut pool, disk) = cramped(&node, &postgres);
    let find = |pool: &Pool, name: &str| {
        let (height, user) = (node.height(), format!("{}.{name}", address(Chain::Regtest, 2)));
        let mut miner = Miner::connect(pool.setup.stratum_port, &user, Manner::Cpuminer).unwrap();
        miner.window = 1;
        miner.wait_for_tip(&node.hash_at(height), SOON).unwrap();
        // Closed where it was to be stored and could not be, refused where that is known already.
        let _ = miner.mine(|tally| tally.sent == 0);
        wait_for("the block to reach the node", SOON, || (node.height() == height + 1).then_some(()));
        miner.tally.acknowledged
    };
    assert_eq!(find(&pool, "before"), 1);
    // Else its record is put into the spool again at the next start, which makes room there.
    wait_for("the block to be settled", SOON, || {
        pool.log().contains("our block is on the chain").then_some(())
    });
    wait_for("the block to be in the ledger", SOON, || (pool.blocks().len() == 1).then_some(()));
    pool.kill(); // its window has room
    pool.start_again();
    disk.fill(&pool);
    for name in ["full", "still"] {
        assert_eq!(find(&pool, name), 0, "a share that is not stored is not acknowledged");
    }
    assert!(pool.is_running());
    assert!(pool.log().contains("the spool takes no shares"), "the operator is told");
    disk.clear(&pool);
    for name in ["after", "later"] {
        // A shard that has been refused tries again within seconds.
        wait_for("a share to be taken again", SOON, || (find(&pool, name) == 1).then_some(()));
    }
    let all = node.height() as usize;
    wait_for("all blocks to be in the ledger", SOON, || (pool.blocks().len() == all).then_some(()));
    assert!(pool.log().contains("the spool takes shares again"));
    assert!(pool.terminate().success());
    let books = Books::open(&pool.setup.ledger_url);
    books.audit();
    let shares: Vec<_> = books.accepted_shares().into_iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(shares, ["after", "before", "later"].map(|name| (name.to_owned(), 1)));
}

/// The disk becomes full under load: what the spool has allocated ahead is good still, to the last record, and no access
/// to it ends the process.
#[test]
fn what_is_allocated_ahead_is_there_when_the_disk_is_full() {
    let _processor = Processor::take();
    let (node, postgres) = (Node::start(Chain::Signet, Login::Cookie), Postgres::start());
    let (mut pool, disk) = cramped(&node, &postgres);
    let miner = address(Chain::Signet, 2);
    let mut expected = Expected::new();
    let flood = Flood::start(pool.setup.stratum_port, &miner, "full", 4_000);
    wait_for("the flood to begin", SOON, || (flood.acknowledged() > 2_000).then_some(()));
    for segment in segments(&pool) {
        let file = fs::metadata(&segment).unwrap();
        assert!(file.blocks() * 512 >= file.len(), "{segment:?} has holes: {file:?}");
    }
    disk.fill(&pool);
    let before = flood.acknowledged();
    wait_for("the operator to be told", 2 * SOON, || {
        pool.log().contains("the spool takes no shares").then_some(())
    });
    assert!(flood.acknowledged() > before + 1_000, "{before}, then {}", flood.acknowledged());
    note(&mut expected, flood.halt("20 "));
    assert!(pool.is_running());

    disk.clear(&pool);
    let flood = Flood::start(pool.setup.stratum_port, &miner, "after", 4_000);
    wait_for("shares once there is room", SOON, || (flood.acknowledged() > 2_000).then_some(()));
    note(&mut expected, flood.halt("20 ")); // a shard tries again within seconds only
    assert!(pool.terminate().success());
    let books = Books::open(&pool.setup.ledger_url);
    compare(&expected, &books);
    books.audit();
}

fn segments(pool: &Pool) -> Vec<PathBuf> {
    let files = fs::read_dir(pool.setup.directory.join("spool")).unwrap();
    let files = files.map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|ending| ending == "segment")).collect()
}
