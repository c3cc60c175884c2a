//! What blocks and slots have credited, done again from what is stored with them, and their windows from the slots.

use std::collections::{BTreeMap, HashMap};

use share::{Work, hash::shown};
use sqlx::{AnyConnection, Row};

use super::{Findings, failed, integer, rows, text};
use crate::{
    LedgerError, Scheme,
    bought::{self, Paid},
    division::Reward,
    journal::{self, Account, Purse},
    maturity::{outputs, stored},
    store::work,
    window::Window,
};

/// The windows of so many of the newest blocks are read from the slots again, unless all are asked for; each may be as long as
/// all slots.
pub(super) const WINDOWS: usize = 100;

/// Every block on its own: what stands in the journal for it must follow from its row, its weights and its outputs.
/// What of a window is not kept any more is noted.
pub(super) async fn blocks(
    snapshot: &mut AnyConnection,
    most: usize,
    notes: &mut Vec<String>,
) -> Result<Findings, LedgerError> {
    let mut findings = Findings::new();
    let sql = "SELECT b.id, b.hash, b.state, b.matured, b.scheme, b.reward_msat, b.subsidy_msat, b.fee_msat, b.credits, \
               CAST(b.window_work AS TEXT) AS window_work, COALESCE(b.slot_id, 0) AS slot, \
               CASE WHEN b.terms_id IS NULL THEN 0 ELSE COALESCE(b.window_bits, b.bits) END AS window_bits, \
               COALESCE(t.fee_ppm, -1) AS fee_ppm, \
               (SELECT COUNT(*) FROM txn t WHERE t.block_id = b.id AND t.kind = 'reward') AS rewards \
               FROM block b LEFT JOIN terms t ON t.id = b.terms_id ORDER BY b.id DESC";
    let mut windows = 0;
    for row in rows(snapshot, sql).await? {
        let id = integer(&row, "id")?;
        let hash: Vec<u8> = row.try_get("hash").map_err(failed)?;
        let name =
            hash.try_into().map_or_else(|_| format!("block {id}"), |hash| format!("block {}", shown(&hash)));
        let (reward, fee) = (integer(&row, "reward_msat")?, integer(&row, "fee_msat")?);
        if integer(&row, "credits")? != integer(&row, "rewards")? {
            findings.push(format!("{name} counts other credits than the journal has"));
        }
        let weights = stored(snapshot, id).await?;
        if weights.total() != work(&row, "window_work")? {
            findings.push(format!("{name} has weights that do not sum to its window"));
        }
        let (slot, bits) = (integer(&row, "slot")?, integer(&row, "window_bits")?);
        let is_solo = text(&row, "scheme")? == "solo";
        if slot > 0 && bits > 0 && !is_solo && windows < most {
            windows += 1;
            let window = window(snapshot, slot, bits).await?;
            let done_anew = window.weights();
            // Where there was no share at all, it is the finder's or the reserve's.
            if let Some(slot) = window.missing {
                notes.push(format!("{name} has a window from before slot {slot}, which is kept no longer"));
            } else if !done_anew.is_empty() && done_anew != weights {
                findings.push(format!("{name} has other weights than its slots say"));
            }
        }
        let state = text(&row, "state")?;
        let (on_chain, matured) =
            (matches!(state.as_str(), "immature" | "mature"), integer(&row, "matured")? == 1);
        let subsidy = integer(&row, "subsidy_msat")?;
        let of = |msat: i64| u64::try_from(msat).unwrap_or(0);
        let value = Reward { subsidy: of(subsidy), fees: of(reward.saturating_sub(subsidy)) };
        if let Ok(ppm) = u32::try_from(integer(&row, "fee_ppm")?)
            && !is_solo
            && value.fee(ppm, &weights) != of(fee)
        {
            findings.push(format!("{name} has another fee than its terms say"));
        }
        let division = match value.divide(of(fee), &weights) {
            Ok(division) => division,
            Err(error) => {
                findings.push(format!("{name}: {error}"));
                continue;
            }
        };
        let paid = if is_solo { BTreeMap::new() } else { outputs(snapshot, id).await? };
        let posted = posted(snapshot, id).await?;
        let parts: BTreeMap<i64, i64> = division.miners.into_iter().collect();
        let all = parts.keys().chain(paid.keys()).chain(posted.miners.keys());
        let (mut stood_in, mut is_right) = (0, true);
        for miner in all.copied().collect::<std::collections::BTreeSet<i64>>() {
            let part = i128::from(parts.get(&miner).copied().unwrap_or(0));
            let over = i128::from(paid.get(&miner).copied().unwrap_or(0)) - part;
            let has = posted.miners.get(&miner).copied().unwrap_or(0);
            // What the coinbase has paid beyond a miner's part was the miner's before, or else the reserve's.
            let (least, most) = match (on_chain, matured) {
                (true, _) => (part, part + over.max(0)),
                (false, true) => ((-over).max(0), (-over).max(0)),
                (false, false) => (0, 0),
            };
            is_right &= (least..=most).contains(&has);
            stood_in += has - if on_chain { part } else { 0 };
        }
        if !is_right {
            findings.push(format!("{name} is credited otherwise than its weights say"));
        }
        if on_chain && !posted.is_ripe(matured) {
            findings.push(format!("{name} has credits that are not as mature as it is"));
        }
        let given = on_chain || matured;
        let fees = if given { i128::from(fee) } else { 0 };
        let reserve = match on_chain {
            true => i128::from(division.reserve) - stood_in,
            false => -stood_in - fees,
        };
        let rewards = if on_chain { -i128::from(reward) } else { 0 };
        if (posted.rewards, posted.reserve, posted.fees) != (rewards, reserve, fees) {
            let Posted { rewards, fees, reserve, .. } = posted;
            findings.push(format!(
                "{name} has given {rewards}, fee {fees}, reserve {reserve} msat, against its state"
            ));
        }
    }
    Ok(findings)
}

/// A block's window, from the slots up to `slot` and the network target `bits`.
pub(super) async fn window(
    snapshot: &mut AnyConnection,
    slot: i64,
    bits: i64,
) -> Result<Window, LedgerError> {
    let longest = rows(snapshot, "SELECT COALESCE(MAX(factor), 0) AS longest FROM terms").await?;
    let longest = longest.first().map_or(Ok(0), |row| integer(row, "longest"))?;
    let (bits, longest) = (u32::try_from(bits).unwrap_or(0), u32::try_from(longest).unwrap_or(0));
    Window::load(snapshot, slot, bits, longest).await
}

/// What stands in the journal for a block.
#[derive(Default)]
struct Posted {
    miners: BTreeMap<i64, i128>,
    fees: i128,
    rewards: i128,
    reserve: i128,
    /// Of all that was credited, what is not mature, and what is.
    immature: i128,
    mature: i128,
}

impl Posted {
    /// Whether what a block on chain has given is immature until it is deep enough, and nothing of it afterwards. A coinbase
    /// may have paid balances of before, which are taken from what was available.
    fn is_ripe(&self, matured: bool) -> bool {
        if matured { self.immature == 0 } else { self.mature <= 0 }
    }
}

async fn posted(snapshot: &mut AnyConnection, block: i64) -> Result<Posted, LedgerError> {
    let mut posted = Posted::default();
    for (account, amount) in journal::posted(snapshot, block).await? {
        let sum = match account {
            Account::Miner(miner, _) => posted.miners.entry(miner).or_default(),
            // No block has anything to do with the network's fee or the operator: found as the pool's.
            Account::FeeImmature | Account::FeeAvailable | Account::NetworkFee | Account::Operator => {
                &mut posted.fees
            }
            Account::Rewards => &mut posted.rewards,
            Account::Reserve | Account::ReserveImmature => &mut posted.reserve,
        };
        *sum += i128::from(amount);
        match account {
            Account::Miner(_, Purse::Immature) | Account::FeeImmature | Account::ReserveImmature => {
                posted.immature += i128::from(amount);
            }
            Account::Miner(..) | Account::FeeAvailable => posted.mature += i128::from(amount),
            _ => {}
        }
    }
    Ok(posted)
}

/// Every slot that was paid at a fixed rate: what the journal has for it, corrections included, must be what it is worth.
pub(super) async fn slots(
    snapshot: &mut AnyConnection,
    notes: &mut Vec<String>,
) -> Result<Findings, LedgerError> {
    let mut findings = Findings::new();
    let (wrong, rests) = differences(snapshot).await?;
    let from = rates_from(snapshot).await?;
    let older = "SELECT s.id FROM slot s JOIN terms t ON t.id = s.terms_id \
                 WHERE s.id < $1 AND t.scheme IN ('pps', 'fpps', 'pps_plus') LIMIT 1";
    if sqlx::query(older).bind(from).fetch_optional(&mut *snapshot).await.map_err(failed)?.is_some() {
        notes.push(format!(
            "what was paid for slots before {from} cannot be done again: they are kept no longer"
        ));
    }
    for (slot, miners) in wrong {
        findings.push(format!(
            "slot {slot} is paid otherwise than its work is worth, for {} miners",
            miners.len()
        ));
    }
    for row in rows(snapshot, "SELECT id, rest FROM miner ORDER BY id").await? {
        let (miner, rest) = (integer(&row, "id")?, integer(&row, "rest")?);
        if u64::try_from(rest).ok() != Some(rests.get(&miner).copied().unwrap_or(0)) {
            findings.push(format!("miner {miner} has another rest than its slots leave"));
        }
    }
    let sql = "SELECT s.id, CAST(s.work AS TEXT) AS work, CAST(r.work AS TEXT) AS rate FROM slot s \
               JOIN slot_rate r ON r.slot_id = s.id ORDER BY s.id";
    let mut sums: BTreeMap<i64, (Work, Work)> = BTreeMap::new();
    for row in rows(snapshot, sql).await? {
        let sum = sums.entry(integer(&row, "id")?).or_insert((work(&row, "work")?, 0));
        sum.1 = sum.1.saturating_add(work(&row, "rate")?);
    }
    for (slot, _) in sums.iter().filter(|(_, (all, rates))| all != rates) {
        findings.push(format!("slot {slot} has rates that do not sum to its work"));
    }
    Ok(findings)
}

/// What each paid slot's miners have too little (or, negative, too much) in the journal; and what every miner's slots leave
/// below a millisatoshi.
#[allow(clippy::type_complexity)]
pub(crate) async fn differences(
    snapshot: &mut AnyConnection,
) -> Result<(BTreeMap<i64, BTreeMap<i64, i64>>, BTreeMap<i64, u64>), LedgerError> {
    let from = rates_from(snapshot).await?;
    let mut credited: HashMap<i64, BTreeMap<i64, i64>> = HashMap::new();
    let sql = "SELECT t.idem_key, e.account_id, e.amount_msat FROM txn t JOIN entry e ON e.txn_id = t.id \
               WHERE t.kind = 'slot' OR (t.kind = 'correction' AND t.idem_key LIKE 'correction:slot:%')";
    for row in rows(snapshot, sql).await? {
        let key = text(&row, "idem_key")?;
        let slot = key.trim_start_matches("correction:").split(':').nth(1).and_then(|slot| slot.parse().ok());
        let amount = integer(&row, "amount_msat")?;
        if let (Some(slot), Some(Account::Miner(miner, Purse::Available))) =
            (slot, Account::from_id(integer(&row, "account_id")?))
            && slot >= from
        {
            *credited.entry(slot).or_default().entry(miner).or_default() += amount;
        }
    }
    let sql = "SELECT s.id, t.scheme, t.fee_ppm, COALESCE(f.mean_msat, 0) AS mean FROM slot s \
               JOIN terms t ON t.id = s.terms_id LEFT JOIN fee_rate f ON f.id = s.fee_rate_id \
               WHERE s.closed_ms IS NOT NULL AND s.id >= $1 AND t.scheme IN ('pps', 'fpps', 'pps_plus') ORDER BY s.id";
    let mut wrong = BTreeMap::new();
    let mut rests = left_over(snapshot, from).await?;
    for row in sqlx::query(sql).bind(from).fetch_all(&mut *snapshot).await.map_err(failed)? {
        let slot = integer(&row, "id")?;
        let name = text(&row, "scheme")?;
        let mean = match Scheme::parse(&name, 0) {
            Some(Scheme::Fpps { .. }) => u64::try_from(integer(&row, "mean")?).unwrap_or(0),
            _ => 0,
        };
        let ppm = u32::try_from(integer(&row, "fee_ppm")?).unwrap_or(0);
        let done = bought::done(snapshot, slot).await?;
        let mut amiss = credited.remove(&slot).unwrap_or_default();
        amiss.values_mut().for_each(|amount| *amount = -*amount);
        for Paid { miner, msat, rest } in bought::value(&done, mean, ppm, &rests)? {
            *amiss.entry(miner).or_default() += msat;
            rests.insert(miner, rest);
        }
        amiss.retain(|_, amount| *amount != 0);
        if !amiss.is_empty() {
            wrong.insert(slot, amiss);
        }
    }
    for (slot, miners) in credited {
        let amiss: BTreeMap<i64, i64> = miners
            .into_iter()
            .filter(|(_, amount)| *amount != 0)
            .map(|(miner, amount)| (miner, -amount))
            .collect();
        if !amiss.is_empty() {
            wrong.insert(slot, amiss);
        }
    }
    Ok((wrong, rests))
}

/// The first slot from which on payments by the slot can be done again: the first range that is kept from its beginning.
async fn rates_from(snapshot: &mut AnyConnection) -> Result<i64, LedgerError> {
    let sql = "SELECT COALESCE((SELECT MIN(p.first_slot) FROM slot_span p WHERE p.first_slot >= k.miners_from), \
               k.miners_from) AS first FROM slot_kept k";
    rows(snapshot, sql).await?.first().map_or(Ok(1), |row| integer(row, "first"))
}

/// What miners had left over where the range that begins with `slot` began.
async fn left_over(snapshot: &mut AnyConnection, slot: i64) -> Result<BTreeMap<i64, u64>, LedgerError> {
    let query = sqlx::query("SELECT miner_id, rest FROM rest_mark WHERE slot_id = $1").bind(slot);
    let rows = query.fetch_all(snapshot).await.map_err(failed)?;
    rows.iter()
        .map(|row| Ok((integer(row, "miner_id")?, u64::try_from(integer(row, "rest")?).unwrap_or(0))))
        .collect()
}
