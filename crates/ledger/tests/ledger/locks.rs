//! Who may hold up the pool, and what the pool says when somebody does.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ledger::{Hand, Lag, Ledger, LedgerError, Scheme, Settings};
use sqlx::{AnyConnection, Connection};

use crate::{
    guards::credited,
    postgres::Server,
    rig::{Rig, Running, Shard, Tree, execute, hash, quick, until, worker},
};

const ROLES: &str = include_str!("../../../../docker/postgres-roles.sql");
/// What the journal locks before the transactions with the first numbers are written.
const NUMBERS: &str = "generate_series((1::bigint << 62) + 1, (1::bigint << 62) + 9)";

async fn as_role(rig: &Rig, role: &str) -> AnyConnection {
    AnyConnection::connect(&rig.url.replace("postgres@", &format!("{role}@"))).await.unwrap()
}

/// Who may only connect, or only read, can neither hold up the pool nor fill the disk; the pool has what it needs.
#[tokio::test(flavor = "multi_thread")]
async fn locks_are_for_the_pool_only() {
    let rig = Rig::on(Arc::new(Server::start()));
    let mut raw = rig.raw().await;
    // The owner of the tables is no superuser: he makes the roles, but cannot take from everybody what Postgres gives.
    execute(&mut raw, "CREATE ROLE keeper LOGIN CREATEROLE; CREATE ROLE stranger LOGIN").await.unwrap();
    let own = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I OWNER TO keeper', current_database()); END $$";
    execute(&mut raw, own).await.unwrap();
    let keeper = rig.url.replace("postgres@", "keeper@");
    Ledger::migrate(&keeper).await.unwrap();
    execute(&mut as_role(&rig, "keeper").await, ROLES).await.unwrap();
    execute(&mut as_role(&rig, "stranger").await, "SELECT pg_advisory_lock(1)").await.unwrap();
    for _ in 0..2 {
        execute(&mut raw, ROLES).await.unwrap();
        execute(&mut as_role(&rig, "keeper").await, ROLES).await.unwrap();
    }

    const LARGE: [&str; 4] =
        ["lo_create(0)", "lo_creat(-1)", "lo_from_bytea(0, 'x')", "lo_put(lo_create(0), 0, 'x')"];
    const LOCKS: [&str; 6] = [
        "pg_advisory_lock((1::bigint << 62) + 1)",
        "pg_advisory_lock_shared(1)",
        "pg_try_advisory_lock(x'536c75696365'::bigint)",
        "pg_advisory_xact_lock(1, 2)",
        "pg_try_advisory_xact_lock_shared(1)",
        "pg_try_advisory_lock_shared(1, 2)",
    ];
    let refused = async |role: &str, call: &str| {
        let done = execute(&mut as_role(&rig, role).await, &format!("SELECT {call}")).await;
        let error = done.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("permission denied for function"), "{role}: {call}: {error}");
    };
    for role in ["stranger", "sluice_reader"] {
        for call in LOCKS.iter().chain(&LARGE) {
            refused(role, call).await;
        }
        // What some drivers call when they put a connection back.
        execute(&mut as_role(&rig, role).await, "SELECT pg_advisory_unlock_all()").await.unwrap();
    }
    for call in LARGE.into_iter().chain(["pg_advisory_lock(1)"]) {
        refused("sluice_pool", call).await;
    }

    let pool = Rig { url: rig.url.replace("postgres@", "sluice_pool@"), ..rig };
    let ledger = credited(&pool).await;
    ledger.verify().await.unwrap();
    drop(ledger);
    Ledger::migrate(&keeper).await.unwrap();
}

/// One batch. A connection that was given up keeps its right to write until the server has noticed: that is waited for, as a
/// ledger that runs does.
async fn drain(hand: &mut Hand) -> Result<usize, LedgerError> {
    loop {
        match hand.drain().await {
            Err(LedgerError::Busy { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
            other => return other,
        }
    }
}

/// Somebody holds what the journal needs: the drain comes back soon and says what to do, and how far it is behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_somebody_holds_is_said() {
    let rig = Rig::postgres();
    let spool = rig.spool();
    let mut shard = Shard::new(&spool, 0);
    shard.time_ms = 1_700_000_000_000;
    let ledger = rig.open(&spool, Scheme::Pps { factor: 1 }).await;
    let mut hand = ledger.by_hand(Tree::new());
    let mut raw = rig.raw().await;
    execute(&mut raw, &format!("SELECT pg_advisory_lock(n) FROM {NUMBERS} AS n")).await.unwrap();
    // The second share closes the slot of the first, which is paid.
    shard.share(&worker(1, "a"), 8);
    shard.time_ms += 700_000;
    shard.share(&worker(1, "a"), 8);
    shard.commit();
    let begun = Instant::now();
    for _ in 0..2 {
        let error = drain(&mut hand).await.unwrap_err().to_string();
        assert!(error.contains("another session of the database holds a lock"), "{error}");
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(30), "{took:?}");
    let Lag { stuck, oldest } = ledger.lag();
    assert!(stuck.is_some_and(|stuck| stuck <= begun.elapsed() && stuck >= took / 2), "{stuck:?}");
    assert!(oldest.is_some_and(|oldest| oldest > Duration::from_secs(86_400)), "{oldest:?}");

    execute(&mut raw, "SELECT pg_advisory_unlock_all()").await.unwrap();
    while drain(&mut hand).await.unwrap() > 0 {}
    assert_eq!(ledger.lag(), Lag::default());
    assert_eq!(ledger.totals().await.unwrap().accepted_shares, 2);
    ledger.verify().await.unwrap();
}

/// A block that cannot be credited, again and again, keeps no share from the database.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_on_the_journal_holds_up_no_share() {
    let rig = Rig::postgres();
    let scheme = Scheme::Pplns { factor: 50 };
    let chain = Tree::new();
    chain.grow(hash(0), hash(1), 1);
    let spool = rig.spool();
    let mut shard = Shard::new(&spool, 0);
    let mut raw = rig.raw().await;
    let running = Running::start(rig.open(&spool, scheme).await, &chain);
    execute(&mut raw, &format!("SELECT pg_advisory_lock(n) FROM {NUMBERS} AS n")).await.unwrap();
    shard.share(&worker(1, "a"), 60);
    shard.found(scheme, &worker(1, "a"), 1, 1_000);
    for expect in 1..=3 {
        shard.commit();
        until("the shares are drained", async || {
            running.ledger.totals().await.unwrap().accepted_shares == expect
        })
        .await;
        // While the block is tried.
        tokio::time::sleep(Duration::from_millis(500)).await;
        shard.share(&worker(1, "a"), 60);
    }
    assert_eq!(rig.number("SELECT COUNT(*) FROM txn").await, 0);
    execute(&mut raw, "SELECT pg_advisory_unlock_all()").await.unwrap();
    crate::rig::until_block(&running.ledger, ledger::BlockStatus::Immature, Some(1)).await;
    running.stop().await.verify().await.unwrap();
}

/// The oldest record that is not in the database, while there are more than a batch takes.
pub async fn how_far_the_drain_is_behind(rig: Rig) {
    let spool = rig.spool();
    let mut shard = Shard::new(&spool, 0);
    let day = 86_400_000;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    shard.time_ms = now - 9 * day - 60_000;
    let settings = Settings { batch: 4, ..quick() };
    let ledger = rig.open_with(&spool, Scheme::Pplns { factor: 50 }, settings).await.unwrap();
    let mut hand = ledger.by_hand(Tree::new());
    assert_eq!(ledger.lag(), Lag::default());
    for _ in 0..3 {
        for _ in 0..2 {
            shard.share(&worker(1, "a"), 1);
        }
        shard.time_ms += 3 * day;
    }
    shard.commit();
    let mut days = Vec::new();
    while hand.drain().await.unwrap() > 0 {
        let Lag { stuck, oldest } = ledger.lag();
        assert_eq!(stuck, None);
        days.extend(oldest.map(|oldest| oldest.as_secs() / 86_400));
    }
    assert_eq!(days, [6], "a name and three shares, the last of them of six days ago; then the rest");
    assert_eq!(ledger.lag(), Lag::default());
}
