//! The ledger's database as an auditor reads it: by SQL, without the ledger's code.

use std::collections::BTreeMap;

use sqlx::{AnyConnection, AnyPool, Row, any::AnyRow};
use tokio::runtime::Runtime;

/// What a miner has, in millisatoshi.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balance {
    pub immature: i64,
    pub available: i64,
    pub paid: i64,
}

/// An open database.
pub struct Books {
    runtime: Runtime,
    pool: AnyPool,
    begin: &'static str,
}

impl Books {
    /// Opens the database that `ledger.url` names; it must be there by the first question.
    pub fn open(url: &str) -> Self {
        sqlx::any::install_default_drivers();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let _inside = runtime.enter();
        let pool = sqlx::any::AnyPoolOptions::new().max_connections(1).connect_lazy(url).unwrap();
        // All questions of an audit are about one state.
        let begin =
            if url.starts_with("postgres") { "BEGIN ISOLATION LEVEL REPEATABLE READ" } else { "BEGIN" };
        Self { runtime, pool, begin }
    }

    /// Accepted shares by the worker's name.
    pub fn accepted_shares(&self) -> BTreeMap<String, u64> {
        let rows = self.ask("SELECT name, accepted_shares FROM worker", None);
        rows.iter().map(|row| (row.get(0), row.get::<i64, _>(1).try_into().unwrap())).collect()
    }

    /// The sums of the entries of a miner's three accounts.
    pub fn balance(&self, address: &str) -> Balance {
        let rows = self.ask(
            "SELECT account.name, CAST(COALESCE(SUM(amount_msat), 0) AS BIGINT)
             FROM miner JOIN account ON miner_id = miner.id LEFT JOIN entry ON account_id = account.id
             WHERE address = $1 GROUP BY account.name",
            Some(address),
        );
        let sum = |ending: &str| {
            let row = rows.iter().find(|row| row.get::<String, _>(0).ends_with(ending));
            row.map_or(0, |row| row.get(1))
        };
        Balance { immature: sum(":immature"), available: sum(":available"), paid: sum(":paid") }
    }

    /// All that the blocks which stand have brought, in millisatoshi.
    pub fn rewards(&self) -> u64 {
        let rows = self.ask(
            "SELECT CAST(COALESCE(SUM(reward_msat), 0) AS BIGINT) FROM block WHERE state IN ('immature', 'mature')",
            None,
        );
        rows[0].get::<i64, _>(0).try_into().unwrap()
    }

    /// The sum of the reserve's entries, in millisatoshi.
    pub fn reserve(&self) -> i64 {
        let sql = "SELECT CAST(COALESCE(SUM(amount_msat), 0) AS BIGINT) FROM entry JOIN account ON account_id = account.id
                   WHERE account.name = 'reserve'";
        self.ask(sql, None)[0].get(0)
    }

    /// What the network has taken for payments, in millisatoshi.
    pub fn network_fee(&self) -> u64 {
        let sql = "SELECT CAST(COALESCE(SUM(amount_msat), 0) AS BIGINT) FROM entry JOIN account ON account_id = account.id
                   WHERE account.name = 'network:fee'";
        self.ask(sql, None)[0].get::<i64, _>(0).try_into().unwrap()
    }

    /// How many batches of payments there are.
    pub fn batches(&self) -> i64 {
        self.ask("SELECT COUNT(*) FROM payout", None)[0].get(0)
    }

    /// Asks for a payout as `sluice payout` does, while no pool runs.
    pub fn order(&self, kind: &str, argument: &str) {
        self.write(format!(
            "INSERT INTO payout_order (kind, argument, asked_ms) VALUES ('{kind}', '{argument}', 0)"
        ));
    }

    /// Sets from which balance on a miner is paid, in satoshi.
    pub fn set_threshold(&self, address: &str, sats: u64) {
        self.write(format!(
            "INSERT INTO payout_threshold (miner_id, sats, set_ms)
                SELECT id, {sats}, 0 FROM miner WHERE address = '{address}'"
        ));
    }

    /// Moves what is available to a miner, in millisatoshi, to another, who may be new. Only while no pool runs.
    pub fn transfer(&self, from: &str, to: &str, msat: i64) {
        let account = |address: &str| format!("(SELECT id * 8 + 1 FROM miner WHERE address = '{address}')");
        let (from, to_account) = (account(from), account(to));
        self.write(format!(
            "BEGIN;
             INSERT INTO miner (address) VALUES ('{to}') ON CONFLICT DO NOTHING;
             INSERT INTO account (id, name, miner_id)
                SELECT id * 8 + 1, 'miner:' || CAST(id AS TEXT) || ':available', id FROM miner WHERE address = '{to}'
                ON CONFLICT DO NOTHING;
             INSERT INTO entry (txn_id, account_id, amount_msat) VALUES
                ((SELECT MAX(id) + 1 FROM txn), {from}, -{msat}), ((SELECT MAX(id) + 1 FROM txn), {to_account}, {msat});
             INSERT INTO txn (id, kind, idem_key, created_ms)
                SELECT MAX(id) + 1, 'correction', 'correction:' || CAST(MAX(id) + 1 AS TEXT), 0 FROM txn;
             UPDATE account SET balance_msat = balance_msat - {msat} WHERE id = {from};
             UPDATE account SET balance_msat = balance_msat + {msat} WHERE id = {to_account};
             COMMIT"
        ));
    }

    fn write(&self, sql: String) {
        self.try_write(&sql).unwrap();
    }

    /// Carries out statements; the error is the database's own.
    pub fn try_write(&self, sql: &str) -> Result<(), String> {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        let done = self.runtime.block_on(async { sqlx::raw_sql(sql).execute(&self.pool).await });
        done.map(drop).map_err(|error| error.to_string())
    }

    /// Panics if anything does not add up.
    pub fn audit(&self) {
        let faults = self.runtime.block_on(async {
            let mut connection = self.pool.acquire().await.unwrap();
            sqlx::query(self.begin).execute(&mut *connection).await.unwrap();
            let mut faults = Vec::new();
            for (fault, sql) in FAULTS {
                let rows = sqlx::query(sql).fetch_all(&mut *connection).await;
                let rows = rows.unwrap_or_else(|e| panic!("{fault}: {e}"));
                faults.extend(rows.iter().map(|row| format!("{fault}: {}", row.get::<String, _>(0))));
            }
            faults.extend(splits(&mut connection).await);
            sqlx::query("COMMIT").execute(&mut *connection).await.unwrap();
            faults
        });
        assert!(faults.is_empty(), "the books do not add up: {faults:#?}");
    }

    fn ask(&self, sql: &'static str, bind: Option<&str>) -> Vec<AnyRow> {
        self.runtime.block_on(async {
            let query = sqlx::query(sql);
            let query = match bind {
                Some(value) => query.bind(value.to_owned()),
                None => query,
            };
            query.fetch_all(&self.pool).await.unwrap_or_else(|e| panic!("{sql}: {e}"))
        })
    }
}

/// Each of these finds nothing in good books; what it finds is the fault, as one text.
const FAULTS: [(&str, &str); 12] = [
    (
        "a transaction whose entries do not sum to zero",
        "SELECT CAST(txn_id AS TEXT) FROM entry GROUP BY txn_id HAVING SUM(amount_msat) <> 0",
    ),
    (
        "a transaction of less than two entries",
        "SELECT idem_key FROM txn LEFT JOIN entry ON txn_id = txn.id GROUP BY txn.id, idem_key HAVING COUNT(account_id) < 2",
    ),
    (
        "entries without a transaction",
        "SELECT CAST(txn_id AS TEXT) FROM entry WHERE txn_id NOT IN (SELECT id FROM txn)",
    ),
    (
        "an account whose balance is not the sum of its entries",
        "SELECT name FROM account LEFT JOIN entry ON account_id = account.id
         GROUP BY account.id, name, balance_msat HAVING balance_msat <> COALESCE(SUM(amount_msat), 0)",
    ),
    (
        "the sum of all balances but the rewards' is not what the standing blocks brought",
        "SELECT CAST(had AS TEXT) || ' instead of ' || CAST(brought AS TEXT) FROM
            (SELECT COALESCE(SUM(balance_msat), 0) AS had FROM account WHERE name <> 'rewards') AS a,
            (SELECT COALESCE(SUM(reward_msat), 0) AS brought FROM block WHERE state IN ('immature', 'mature')) AS b
         WHERE had <> brought",
    ),
    (
        "an orphan, or a block that was never seen on chain, of which something is left on an account",
        "SELECT state || ' ' || name FROM entry JOIN txn ON txn.id = txn_id JOIN block ON block.id = block_id
            JOIN account ON account.id = account_id
         WHERE state IN ('orphaned', 'candidate') AND matured = 0
         GROUP BY block.id, state, name HAVING SUM(amount_msat) <> 0",
    ),
    (
        "an orphan whose reward was available already, and the reserve does not stand for it",
        "SELECT CAST(height AS TEXT) FROM entry JOIN txn ON txn.id = txn_id JOIN block ON block.id = block_id
         WHERE state = 'orphaned' AND matured = 1 GROUP BY block.id, height, reward_msat
         HAVING SUM(CASE WHEN account_id = (SELECT id FROM account WHERE name = 'reserve') THEN amount_msat ELSE 0 END)
            <> -reward_msat",
    ),
    (
        "a miner with less than nothing",
        "SELECT name FROM account WHERE miner_id IS NOT NULL AND balance_msat < 0",
    ),
    (
        "a block whose outputs do not pay its value",
        "SELECT CAST(height AS TEXT) FROM block LEFT JOIN block_output ON block_id = block.id
         GROUP BY block.id, height, value_sats HAVING value_sats <> COALESCE(SUM(sats), 0)",
    ),
    (
        "a worker whose shares are not those of its slots",
        "SELECT name FROM worker
         LEFT JOIN (SELECT worker_id, shares FROM slot_work UNION ALL SELECT worker_id, shares FROM slot_open) AS done
         ON worker_id = worker.id
         GROUP BY worker.id, name, accepted_shares, base_shares
         HAVING accepted_shares <> base_shares + COALESCE(SUM(shares), 0)",
    ),
    (
        "a total that is not the sum over the workers",
        "SELECT CAST(tally.accepted_shares AS TEXT) || ' ' || CAST(tally.rejected_shares AS TEXT) FROM tally,
            (SELECT COALESCE(SUM(accepted_shares), 0) AS a, COALESCE(SUM(rejected_shares), 0) AS r FROM worker) AS sums
         WHERE a <> tally.accepted_shares OR r <> tally.rejected_shares",
    ),
    ("a record that was set aside", "SELECT reason FROM set_aside"),
];

/// Blocks that are not divided by the work in their window: each miner gets its part of the reward less the fee, rounded
/// down, and at most one millisatoshi of what is left over; together they get all of it.
async fn splits(connection: &mut AnyConnection) -> Vec<String> {
    let rows = sqlx::query(
        "SELECT block.height, block.reward_msat - block.fee_msat, CAST(block.window_work AS TEXT),
            CAST(block_weight.work AS TEXT),
            (SELECT CAST(COALESCE(SUM(amount_msat), 0) AS BIGINT) FROM entry JOIN txn ON txn.id = txn_id
                JOIN account ON account.id = account_id
             WHERE txn.block_id = block.id AND account.miner_id = block_weight.miner_id)
         FROM block JOIN block_weight ON block_weight.block_id = block.id
         WHERE state IN ('immature', 'mature')",
    );
    let rows = rows.fetch_all(connection).await.unwrap();
    let mut faults = Vec::new();
    let mut sums: BTreeMap<i64, (i128, i128, i128, i128)> = BTreeMap::new();
    for row in &rows {
        let height: i64 = row.get(0);
        let (divided, credit) = (i128::from(row.get::<i64, _>(1)), i128::from(row.get::<i64, _>(4)));
        let [window, work] = [2, 3].map(|column| row.get::<String, _>(column).parse::<i128>().unwrap());
        let least = divided * work / window;
        if !(least..=least + 1).contains(&credit) {
            faults.push(format!(
                "at height {height} a miner with {work} of {window} got {credit} of {divided}"
            ));
        }
        let sum = sums.entry(height).or_insert((divided, window, 0, 0));
        (sum.2, sum.3) = (sum.2 + credit, sum.3 + work);
    }
    faults.extend(
        sums.iter().filter(|(_, (divided, window, credits, work))| divided != credits || window != work).map(
            |(height, (divided, window, credits, work))| {
                format!("at height {height} {credits} of {divided} was given, for {work} of {window}")
            },
        ),
    );
    faults
}

#[test]
fn an_audit_sees_what_is_wrong() {
    let directory = super::directory();
    let url = format!("sqlite://{}?mode=rwc", directory.path().join("books.db").display());
    let books = Books::open(&url);
    let migrations = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations/sqlite");
    let mut files: Vec<_> =
        std::fs::read_dir(migrations).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let schema: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let run = |sql: &str| {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        books.runtime.block_on(async {
            let mut transaction = books.pool.begin().await.unwrap();
            sqlx::raw_sql(sql).execute(&mut *transaction).await.unwrap();
            transaction.commit().await.unwrap();
        });
    };
    run(&schema);
    books.audit();

    let faults = |expected: &[&str]| {
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| books.audit())).unwrap_err();
        let text = panic.downcast_ref::<String>().unwrap();
        let count = text.matches("\n    \"").count();
        assert!(expected.iter().all(|fault| text.contains(fault)) && count == expected.len(), "{text}");
    };
    run("INSERT INTO miner (id, address) VALUES (1, 'someone');
         INSERT INTO worker (id, key, miner_id, name, accepted_shares, rejected_shares, work, last_share_ms) VALUES (1, zeroblob(16), 1, 'rig', 3, 0, '9', NULL);");
    faults(&["not those of its slots: rig", "not the sum over the workers: 0 0"]);
    run("INSERT INTO slot (id, opened_ms, closed_ms, shares, work) VALUES (1, 0, NULL, 3, '9'); INSERT INTO slot_open (worker_id, shares, work) VALUES (1, 3, '9');
         UPDATE tally SET accepted_shares = 3;
         INSERT INTO block (id, hash, prev_hash, height, bits, coinbase_txid, value_sats, found_ms, finder_id, slot_id, scheme, factor, window_work, reward_msat, fee_msat, state, credits, matured, confirmations, watched) VALUES (1, zeroblob(32), zeroblob(32), 7, 1, zeroblob(32), 50, 0, 1, 1, 'pplns', 2, '10',
            50000, 500, 'immature', 1, 0, 1, 1);
         INSERT INTO block_weight (block_id, miner_id, work) VALUES (1, 1, '9');");
    let (unpaid, given) =
        ("outputs do not pay its value: 7", "at height 7 0 of 49500 was given, for 9 of 10");
    faults(&["0 instead of 50000", unpaid, "a miner with 9 of 10 got 0 of 49500", given]);
    run("INSERT INTO block_output (block_id, position, script, sats) VALUES (1, 0, zeroblob(1), 50); UPDATE block_weight SET work = '10';
         INSERT INTO account (id, name, miner_id, balance_msat) VALUES (8, 'miner:1:immature', 1, 49500);
         UPDATE account SET balance_msat = 500 WHERE id = 3; UPDATE account SET balance_msat = -50000 WHERE id = 1;
         INSERT INTO entry (txn_id, account_id, amount_msat) VALUES (1, 1, -50000), (1, 3, 500), (1, 8, 49500);
         INSERT INTO txn (id, kind, idem_key, block_id, created_ms) VALUES (1, 'reward', 'reward:1', 1, 0);");
    books.audit();
    assert_eq!(books.balance("someone"), Balance { immature: 49_500, available: 0, paid: 0 });
    assert_eq!((books.rewards(), books.accepted_shares()), (50_000, BTreeMap::from([("rig".to_owned(), 3)])));
    run("UPDATE block SET state = 'orphaned'");
    let left = ["orphaned rewards", "orphaned pool:fee:immature", "orphaned miner:1:immature"];
    faults(&[&left[..], &["50000 instead of 0"]].concat());
    run("UPDATE block SET state = 'immature'; UPDATE account SET balance_msat = 49501 WHERE id = 8");
    faults(&["sum of its entries: miner:1:immature", "50001 instead of 50000"]);
}
