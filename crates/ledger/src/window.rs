//! Whose work a block is divided by: the last slots before it, as far back as the window reaches.

use std::collections::BTreeMap;

use share::Work;
use sqlx::{AnyConnection, Row};

use crate::{LedgerError, split::apportion, store::work};

/// The part of the slots, newest first, that a window of some length covers.
#[derive(Debug, Default, PartialEq, Eq)]
struct Reach {
    /// Slots that lie in the window entirely.
    whole: Vec<i64>,
    /// The oldest slot, and how much of its work is taken.
    part: Option<(i64, Work)>,
    /// Work in the window so far.
    work: Work,
}

/// How many slots are looked at in one query.
const PAGE: i64 = 256;

impl Reach {
    /// Goes back by one slot; false once the window is full.
    fn take(&mut self, slot: i64, slot_work: Work, length: Work) -> bool {
        let left = length.saturating_sub(self.work);
        if left == 0 {
            return false;
        }
        if slot_work <= left {
            self.whole.push(slot);
            self.work = self.work.saturating_add(slot_work);
        } else {
            self.part = Some((slot, left));
            self.work = length;
        }
        self.work < length
    }
}

/// The work of every miner within the last `length` of work up to the end of slot `newest`. Where the window begins
/// in the middle of a slot, all of that slot's miners are cut by the same ratio, so that the sum is `length` exactly.
/// If there is less work than `length`, all of it counts.
pub(crate) async fn weights(
    connection: &mut AnyConnection,
    newest: i64,
    length: Work,
) -> Result<Vec<(i64, Work)>, LedgerError> {
    let reach = reach(connection, newest, length).await?;
    let mut weights = BTreeMap::new();
    for slot in reach.whole {
        for (miner, work) in miners(connection, slot).await? {
            *weights.entry(miner).or_insert(0) += work;
        }
    }
    if let Some((slot, taken)) = reach.part {
        for (miner, work) in apportion(taken, &miners(connection, slot).await?) {
            *weights.entry(miner).or_insert(0) += work;
        }
    }
    weights.retain(|_, work| *work > 0);
    Ok(weights.into_iter().collect())
}

async fn reach(connection: &mut AnyConnection, newest: i64, length: Work) -> Result<Reach, LedgerError> {
    let failed = LedgerError::database("read the slots of a window");
    let (mut reach, mut newest) = (Reach::default(), newest);
    loop {
        let sql = "SELECT id, CAST(work AS TEXT) AS work FROM slot WHERE id <= $1 ORDER BY id DESC LIMIT $2";
        let rows =
            sqlx::query(sql).bind(newest).bind(PAGE).fetch_all(&mut *connection).await.map_err(&failed)?;
        for row in &rows {
            let slot = row.try_get("id").map_err(&failed)?;
            if !reach.take(slot, work(row, "work")?, length) {
                return Ok(reach);
            }
            newest = slot - 1;
        }
        if (rows.len() as i64) < PAGE {
            return Ok(reach);
        }
    }
}

/// The work of a slot by miner. One slot at a time, so that memory does not grow with the window.
async fn miners(connection: &mut AnyConnection, slot: i64) -> Result<Vec<(i64, Work)>, LedgerError> {
    let failed = LedgerError::database("read the work of a slot");
    let sql = "SELECT w.miner_id AS miner, CAST(s.work AS TEXT) AS work \
               FROM slot_work s JOIN worker w ON w.id = s.worker_id WHERE s.slot_id = $1";
    let mut miners: BTreeMap<i64, Work> = BTreeMap::new();
    for row in sqlx::query(sql).bind(slot).fetch_all(connection).await.map_err(&failed)? {
        *miners.entry(row.try_get("miner").map_err(&failed)?).or_default() += work(&row, "work")?;
    }
    Ok(miners.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(slots: &[Work], length: Work, whole: usize, part: Option<Work>) {
        let mut reach = Reach::default();
        for (slot, work) in (0..).zip(slots) {
            if !reach.take(slot, *work, length) {
                break;
            }
        }
        let expect: Vec<i64> = (0..whole as i64).collect();
        assert_eq!((&reach.whole, reach.part.map(|(_, work)| work)), (&expect, part), "{slots:?} {length}");
        assert_eq!(reach.part.map(|(slot, _)| slot), part.map(|_| whole as i64));
    }

    #[test]
    fn windows() {
        check(&[], 10, 0, None);
        check(&[4], 10, 1, None);
        check(&[4, 6], 10, 2, None);
        check(&[4, 6, 5], 10, 2, None);
        check(&[4, 7, 5], 10, 1, Some(6));
        check(&[11, 7], 10, 0, Some(10));
        check(&[10, 7], 10, 1, None);
        check(&[0, 0, 4], 10, 3, None);
        check(&[4, 0, 7], 10, 2, Some(6));
        check(&[4], 0, 0, None);
        check(&[Work::MAX - 1, 2, 1], Work::MAX, 1, Some(1));
    }

    proptest! {
        #[test]
        fn a_window_holds_its_length_or_all_there_is(slots in proptest::collection::vec(0u128..100, 0..40), length in 1u128..2_000) {
            let mut reach = Reach::default();
            let _ = (0..).zip(&slots).all(|(slot, work)| reach.take(slot, *work, length));
            let whole: Work = reach.whole.iter().map(|slot| slots[*slot as usize]).sum();
            prop_assert_eq!(whole + reach.part.map_or(0, |(_, work)| work), reach.work);
            prop_assert_eq!(reach.work, length.min(slots.iter().sum()));
            prop_assert!(reach.part.is_none_or(|(slot, work)| work > 0 && work < slots[slot as usize]));
        }
    }
}
