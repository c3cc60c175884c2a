//! Whose work a block is divided by: the shares of the slots before it, each for as long as its terms say.
//!
//! A share mined under terms with a window of N blocks counts in every block that is found before N x (network work) of
//! shares have come after it, with its work divided by N. So the parts of all shares sum to one block's worth of work
//! whatever terms are mixed, and a change of scheme neither pays a share twice nor forgets it. What the pool has paid for
//! (PPS and its kin) stands in the window for the reserve. Solo work is in no window, and takes no place in one.
//!
//! The sums are kept from slot to slot: a new slot costs what is in it and in the oldest one, however long the window is.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use share::{Target, Work};
use sqlx::{AnyConnection, Row, any::AnyRow};

use crate::{LedgerError, Scheme, growth::Kept, scheme::Claim, split::apportion, store::work};

/// What a block is divided by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weights {
    /// By miner id.
    pub miners: Vec<(i64, Weight)>,
    /// What the reserve has paid for.
    pub bought: Weight,
}

/// Work that counts for the fees of a block, and for its subsidy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weight {
    pub fees: Work,
    pub subsidy: Work,
}

/// The work up to the end of the slot `newest`, as far back as it counts at a network target.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    pub newest: i64,
    pub bits: u32,
    /// The newest slot that it should have and that is not kept any more.
    pub missing: Option<i64>,
    /// Work of the network target.
    network: Work,
    /// Where the newest slot ends, on a scale of pooled work that begins somewhere in the past.
    end: Work,
    lanes: BTreeMap<Lane, Reach>,
}

/// Slots that count alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lane {
    /// Length of the window, in blocks.
    pub factor: u32,
    pub claim: Claim,
}

/// The slots of a lane that are in the window, oldest first.
#[derive(Clone, Debug, Default)]
struct Reach {
    slots: VecDeque<Stretch>,
    /// The work by miner of all but the one that the window begins in.
    sums: HashMap<i64, Work>,
    /// The slot that the window begins in, by miner.
    cut: Option<(i64, Vec<(i64, Work)>)>,
}

/// A slot on the scale of pooled work.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    id: i64,
    start: Work,
    work: Work,
}

/// How many slots are looked at in one query.
const PAGE: i64 = 256;
/// Where the scale begins: as far from either end as can be.
const MIDDLE: Work = 1 << 126;
/// Stands for the reserve where a miner is expected. Miners count from 1.
const RESERVE: i64 = 0;

impl Lane {
    fn of(scheme: Scheme) -> Option<Self> {
        scheme.claim().map(|claim| Self { factor: scheme.factor(), claim })
    }

    /// Of a slot, as its terms are stored; `None` if it is in no window.
    pub fn read(row: &AnyRow) -> Result<Option<Self>, sqlx::Error> {
        let scheme: Option<String> = row.try_get("scheme")?;
        let factor: Option<i64> = row.try_get("factor")?;
        let factor = factor.and_then(|factor| u32::try_from(factor).ok()).unwrap_or(0);
        Ok(scheme.and_then(|name| Self::of(Scheme::parse(&name, factor)?)))
    }
}

impl Weight {
    fn add(&mut self, claim: Claim, work: Work) {
        self.fees = self.fees.saturating_add(work);
        if claim != Claim::Fees {
            self.subsidy = self.subsidy.saturating_add(work);
        }
    }

    pub fn all(work: Work) -> Self {
        Self { fees: work, subsidy: work }
    }
}

impl Weights {
    /// All that counts: the same for fees and subsidy.
    pub fn total(&self) -> Work {
        self.miners.iter().fold(self.bought.fees, |sum, (_, weight)| sum.saturating_add(weight.fees))
    }

    pub fn is_empty(&self) -> bool {
        self.miners.is_empty() && self.bought == Weight::default()
    }
}

impl Window {
    fn new(newest: i64, bits: u32) -> Self {
        let network = Target::from_compact(bits).map_or(0, Target::work);
        Self { newest, bits, missing: None, network, end: MIDDLE, lanes: BTreeMap::new() }
    }

    /// Reads it from the closed slots up to `newest`. `longest`: of any terms, in blocks.
    pub async fn load(
        connection: &mut AnyConnection,
        newest: i64,
        bits: u32,
        longest: u32,
    ) -> Result<Self, LedgerError> {
        let failed = LedgerError::database("read the slots of a window");
        let kept = Kept::load(connection).await?.miners_from;
        let mut window = Self::new(newest, bits);
        let (mut start, mut from) = (window.end, newest);
        let longest = window.network.saturating_mul(longest.into());
        loop {
            let sql = "SELECT s.id, CAST(s.work AS TEXT) AS work, t.scheme, t.factor FROM slot s \
                       LEFT JOIN terms t ON t.id = s.terms_id WHERE s.id <= $1 ORDER BY s.id DESC LIMIT $2";
            let rows =
                sqlx::query(sql).bind(from).bind(PAGE).fetch_all(&mut *connection).await.map_err(&failed)?;
            for row in &rows {
                let id: i64 = row.try_get("id").map_err(&failed)?;
                from = id - 1;
                let Some(lane) = Lane::read(row).map_err(&failed)? else { continue };
                if window.end - start >= longest {
                    return Ok(window);
                }
                let work = work(row, "work")?;
                start -= work;
                let (length, near) = (window.length(lane), window.end - start - work);
                if near >= length {
                    continue;
                }
                if id < kept && lane.claim != Claim::Reserve {
                    window.missing = window.missing.or(Some(id));
                    continue;
                }
                let parts = miners(connection, lane, id, work).await?;
                let reach = window.lanes.entry(lane).or_default();
                reach.slots.push_front(Stretch { id, start, work });
                if near + work <= length {
                    reach.add(&parts);
                } else {
                    reach.cut = Some((id, parts));
                }
            }
            if (rows.len() as i64) < PAGE {
                return Ok(window);
            }
        }
    }

    /// Goes on by a slot that has just been closed and written.
    pub async fn push(
        &mut self,
        connection: &mut AnyConnection,
        slot: i64,
        scheme: Scheme,
        work: Work,
    ) -> Result<(), LedgerError> {
        self.newest = slot;
        let Some(lane) = Lane::of(scheme).filter(|_| work > 0) else { return Ok(()) };
        let parts = miners(connection, lane, slot, work).await?;
        let reach = self.lanes.entry(lane).or_default();
        reach.slots.push_back(Stretch { id: slot, start: self.end, work });
        reach.add(&parts);
        self.end = self.end.saturating_add(work);
        // What has left the window, wholly or in part, leaves the sums.
        let (end, network) = (self.end, self.network);
        for (lane, reach) in &mut self.lanes {
            let length = network.saturating_mul(lane.factor.into());
            while let Some(oldest) = reach.slots.front().copied().filter(|oldest| end - oldest.start > length)
            {
                if reach.cut.as_ref().is_none_or(|(id, _)| *id != oldest.id) {
                    let parts = miners(connection, *lane, oldest.id, oldest.work).await?;
                    reach.subtract(&parts);
                    reach.cut = Some((oldest.id, parts));
                }
                if end - oldest.start - oldest.work < length {
                    break;
                }
                reach.slots.pop_front();
                reach.cut = None;
            }
        }
        self.lanes.retain(|_, reach| !reach.slots.is_empty());
        Ok(())
    }

    /// The slots that are in it, wholly or in part; the oldest first.
    pub fn slots(&self) -> Vec<i64> {
        let slots: BTreeSet<i64> =
            self.lanes.values().flat_map(|reach| reach.slots.iter().map(|stretch| stretch.id)).collect();
        slots.into_iter().collect()
    }

    fn length(&self, lane: Lane) -> Work {
        self.network.saturating_mul(lane.factor.into())
    }

    /// What a block is divided by. Where the window begins in the middle of a slot, all of that slot's miners are cut by
    /// the same ratio, so that the sum is the window's length exactly; if there is less work than that, all of it counts.
    pub fn weights(&self) -> Weights {
        // Work is divided by its lane's factor: all are brought to one denominator instead.
        let denominator = self.lanes.keys().fold(1u128, |all, lane| common(all, lane.factor.into()));
        let mut miners: BTreeMap<i64, Weight> = BTreeMap::new();
        for (lane, reach) in &self.lanes {
            let scale = denominator / u128::from(lane.factor.max(1));
            let mut add = |miner: i64, work: Work| {
                miners.entry(miner).or_default().add(lane.claim, work.saturating_mul(scale));
                if lane.claim == Claim::Fees {
                    let reserve = miners.entry(RESERVE).or_default();
                    reserve.subsidy = reserve.subsidy.saturating_add(work.saturating_mul(scale));
                }
            };
            reach.sums.iter().for_each(|(miner, work)| add(*miner, *work));
            if let (Some((_, parts)), Some(oldest)) = (&reach.cut, reach.slots.front()) {
                let near = self.end - oldest.start - oldest.work;
                let taken = self.length(*lane).saturating_sub(near);
                apportion(taken, parts).into_iter().for_each(|(miner, work)| add(miner, work));
            }
        }
        let bought = miners.remove(&RESERVE).unwrap_or_default();
        miners.retain(|_, weight| weight.fees > 0);
        Weights { miners: miners.into_iter().collect(), bought }
    }
}

impl Reach {
    fn add(&mut self, parts: &[(i64, Work)]) {
        for (miner, work) in parts {
            *self.sums.entry(*miner).or_default() += work;
        }
    }

    fn subtract(&mut self, parts: &[(i64, Work)]) {
        for (miner, work) in parts {
            if let Some(sum) = self.sums.get_mut(miner) {
                *sum = sum.saturating_sub(*work);
                if *sum == 0 {
                    self.sums.remove(miner);
                }
            }
        }
    }
}

/// The least common multiple, as far as it fits.
fn common(a: u128, b: u128) -> u128 {
    let (mut x, mut y) = (a, b.max(1));
    while y > 0 {
        (x, y) = (y, x % y);
    }
    (a / x).saturating_mul(b.max(1))
}

/// The work of a slot by miner, or the reserve's. One slot at a time, so that memory does not grow with the window.
async fn miners(
    connection: &mut AnyConnection,
    lane: Lane,
    slot: i64,
    slot_work: Work,
) -> Result<Vec<(i64, Work)>, LedgerError> {
    if lane.claim == Claim::Reserve {
        return Ok(vec![(RESERVE, slot_work)]);
    }
    let failed = LedgerError::database("read the work of a slot");
    let sql =
        "SELECT miner_id, CAST(work AS TEXT) AS work FROM slot_miner WHERE slot_id = $1 ORDER BY miner_id";
    let rows = sqlx::query(sql).bind(slot).fetch_all(connection).await.map_err(&failed)?;
    rows.iter().map(|row| Ok((row.try_get("miner_id").map_err(&failed)?, work(row, "work")?))).collect()
}
