//! Which slots a window may still need.

use std::collections::HashSet;

use share::{Target, Work};
use sqlx::{AnyConnection, Row};

use crate::{LedgerError, scheme::Claim, store::work, window::Lane};

/// So many times as far as windows reach today nothing is dropped: a target can become as much harder at once, and a block
/// may be entered late that was found for an older slot.
const MARGIN: Work = 4;

/// A slot that is in windows.
struct Slot {
    id: i64,
    work: Work,
    lane: Lane,
}

/// The oldest slot whose work by miner is needed; all before it may go. `from`: the first that is kept.
pub(super) async fn needed(snapshot: &mut AnyConnection, from: i64) -> Result<i64, LedgerError> {
    let failed = LedgerError::database("look for the slots of windows");
    let sql = "SELECT s.id, CAST(s.work AS TEXT) AS work, COALESCE(s.bits, 0) AS bits, t.scheme, t.factor FROM slot s \
               LEFT JOIN terms t ON t.id = s.terms_id WHERE s.id >= $1 ORDER BY s.id DESC";
    let rows = sqlx::query(sql).bind(from).fetch_all(snapshot).await.map_err(&failed)?;
    let (mut slots, mut targets) = (Vec::new(), HashSet::new());
    for row in &rows {
        targets.insert(row.try_get::<i64, _>("bits").map_err(&failed)?);
        if let Some(lane) = Lane::read(row).map_err(&failed)? {
            slots.push(Slot { id: row.try_get("id").map_err(&failed)?, work: work(row, "work")?, lane });
        }
    }
    // The hardest of all targets: where blocks may be found at a low one for a while, that says little.
    let work = |bits: i64| Some(Target::from_compact(u32::try_from(bits).ok()?)?.work());
    let network = targets.into_iter().filter_map(work).max().unwrap_or(0);
    let first_not_there = rows.first().map_or(Ok(from), |row| row.try_get::<i64, _>("id").map(|id| id + 1));
    Ok(oldest(&slots, network).unwrap_or(first_not_there.map_err(&failed)?))
}

/// The oldest of `slots` (newest first) that is not behind the end of its own window, at the network work `network`.
fn oldest(slots: &[Slot], network: Work) -> Option<i64> {
    let (mut behind, mut oldest): (Work, Option<i64>) = (0, None);
    for Slot { id, work, lane } in slots {
        let reach = network.saturating_mul(lane.factor.into()).saturating_mul(MARGIN);
        // What the reserve has bought is counted by the slot: nobody asks whose it was.
        if behind < reach && lane.claim != Claim::Reserve {
            oldest = Some(*id);
        }
        behind = behind.saturating_add(*work);
    }
    oldest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(slots: &[(u32, Claim, Work)], network: Work, expect: Option<i64>) {
        let count = slots.len() as i64;
        let slots: Vec<Slot> = (0..)
            .zip(slots)
            .map(|(at, &(factor, claim, work))| Slot { id: count - at, work, lane: Lane { factor, claim } })
            .collect();
        assert_eq!(oldest(&slots, network), expect);
    }

    #[test]
    fn what_windows_may_reach() {
        use Claim::{Fees, Miner, Reserve};
        check(&[], 10, None);
        check(&[(1, Miner, 5), (1, Miner, 5), (1, Miner, 5)], 10, Some(1));
        // Four times ten: of slots of twenty, two.
        check(&[(1, Miner, 20), (1, Miner, 20), (1, Miner, 20)], 10, Some(2));
        check(&[(1, Miner, 20), (1, Miner, 19), (1, Miner, 20)], 10, Some(1));
        // Older ones of longer terms are needed longer, bought ones never, but they push others back.
        check(&[(1, Miner, 20), (1, Miner, 20), (2, Miner, 20), (2, Fees, 20), (2, Fees, 20)], 10, Some(2));
        check(
            &[(2, Reserve, 20), (2, Reserve, 20), (2, Miner, 20), (2, Miner, 20), (2, Miner, 20)],
            10,
            Some(2),
        );
        check(&[(2, Reserve, 20), (2, Reserve, 20)], 10, None);
        check(&[(1, Miner, 5)], 0, None);
        check(&[(8, Miner, Work::MAX), (8, Miner, Work::MAX)], Work::MAX, Some(2));
    }
}
