//! Whether the pool is well, for whoever restarts or calls for help.

use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;

use ledger::Lag;

use crate::figures::{Figures, Shown, now_ms};

/// The ledger is asked every two seconds, or every ten while nobody else asks; this long without an answer and the database counts as away.
const LEDGER_SILENT: Duration = Duration::from_secs(15);
/// A batch takes a few seconds at most; this long without one and the database counts as behind.
const DRAIN_STUCK: Duration = Duration::from_secs(15);
/// Nodes give a fresh template at least every half minute; this old and miners work for nothing.
const TEMPLATE_STALE_MS: u64 = 30_000;

/// What `/healthz` says. 200 where `status` is `ok`, 503 where it is `failing`, with the reasons.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Health {
    status: &'static str,
    reasons: Vec<String>,
    database: &'static str,
    database_age_ms: Option<u64>,
    /// How old the oldest record is that the database does not have.
    undrained_age_ms: Option<u64>,
    template_age_ms: Option<u64>,
    spooled_bytes: u64,
    storing: bool,
}

impl Health {
    fn of(Figures { snapshot, books }: &Figures, spooled_bytes: u64, lag: Lag, now_ms: u64) -> Self {
        let age = books.as_ref().map(|books| books.read.elapsed());
        let template_age_ms = snapshot.tip.map(|tip| now_ms.saturating_sub(tip.template_time_ms));
        let mut reasons = Vec::new();
        let database = match age {
            Some(age) if age < LEDGER_SILENT => "ok",
            Some(age) => {
                let seconds = age.as_secs();
                reasons.push(format!(
                    "the database has not answered for {seconds} s; look at it and at the log"
                ));
                "away"
            }
            None => {
                reasons
                    .push("the database has not answered since the start; look at it and at the log".into());
                "away"
            }
        };
        if let Some(stuck) = lag.stuck.filter(|stuck| *stuck > DRAIN_STUCK) {
            let seconds = stuck.as_secs();
            reasons.push(format!(
                "no share could be written to the database for {seconds} s; look at it and at the log, which says why. \
                 Mining goes on and the shares are safe in the spool: leave the pool running, and see that the spool's \
                 disk has room"
            ));
        }
        match template_age_ms {
            None => reasons.push("no node has given a template yet; look at the nodes and at the log".into()),
            Some(age) if age > TEMPLATE_STALE_MS => {
                reasons.push(format!("the template is {} s old; look at the nodes", age / 1000));
            }
            Some(_) => {}
        }
        if !snapshot.storing {
            reasons.push("the spool takes no shares, so none are acknowledged; look at its disk".into());
        }
        Self {
            status: if reasons.is_empty() { "ok" } else { "failing" },
            reasons,
            database,
            database_age_ms: age.map(|age| age.as_millis() as u64),
            undrained_age_ms: lag.oldest.map(|oldest| oldest.as_millis() as u64),
            template_age_ms,
            spooled_bytes,
            storing: snapshot.storing,
        }
    }
}

pub(crate) async fn health(State(shown): State<Arc<Shown>>) -> (StatusCode, Json<Health>) {
    let health = Health::of(&shown.figures(), shown.ledger.spooled_bytes(), shown.ledger.lag(), now_ms());
    let status = if health.reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(health))
}

/// What `/livez` says: that somebody answers. To restart the pool is of no use for anything else: without its database or a
/// node it does not start, and would stop mining.
#[derive(Serialize)]
pub(crate) struct Alive {
    status: &'static str,
}

pub(crate) async fn alive() -> Json<Alive> {
    Json(Alive { status: "ok" })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pool::{Snapshot, roster::Tip};

    use super::*;

    #[test]
    fn what_is_wrong_is_said() {
        let now_ms = 1_000_000;
        let check = |template_time_ms: Option<u64>, storing: bool, stuck: Option<u64>, expect: &[&str]| {
            let tip = template_time_ms.map(|template_time_ms| Tip {
                height: 1,
                network_difficulty: 1.0,
                template_time_ms,
            });
            let snapshot = Arc::new(Snapshot { tip, storing, ..Snapshot::default() });
            let lag = Lag { stuck: stuck.map(Duration::from_secs), oldest: stuck.map(Duration::from_secs) };
            let health = Health::of(&Figures { snapshot, books: None }, 0, lag, now_ms);
            assert_eq!(health.undrained_age_ms, stuck.map(|seconds| seconds * 1000));
            assert_eq!((health.status, health.database), ("failing", "away"));
            assert_eq!(health.reasons.len(), expect.len(), "{:?}", health.reasons);
            for (reason, part) in health.reasons.iter().zip(expect) {
                assert!(reason.contains(part), "{reason}");
            }
        };
        check(Some(now_ms), true, None, &["database"]);
        check(Some(now_ms + 5), true, None, &["database"]);
        check(Some(now_ms - TEMPLATE_STALE_MS), true, None, &["database"]);
        check(Some(now_ms - TEMPLATE_STALE_MS - 1), true, None, &["database", "30 s old"]);
        check(None, false, None, &["database", "no node", "spool"]);
        check(Some(now_ms), true, Some(15), &["database"]);
        check(Some(now_ms), true, Some(16), &["database", "for 16 s; look at it"]);
        check(
            Some(now_ms),
            true,
            Some(16),
            &["database", "shares are safe in the spool: leave the pool running"],
        );
    }
}
