//! What the pool gives out so that others can check it: the chain of segments, their files, the proof of a share, the
//! division of a block.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use share::{Hash, Work, hash::shown};
use sqlx::{AnyConnection, Row, any::AnyRow};

use crate::{
    Ledger, LedgerError, WorkerId,
    division::Reward,
    maturity::stored,
    proof::{self, MinerWeight, Name, Seal, ShareProof, Weights},
    record::Entry,
    spool::archive,
    store::work,
};

mod slots;

pub use slots::SlotCredit;

/// How a miner names its share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// `address.name` of the worker; the dot stands also when the name is empty.
    pub worker: String,
    /// First 8 bytes of the hash of its header, little-endian: see [`Wanted::tag`].
    pub tag: u64,
    /// About when it was sent, milliseconds since 1970; without it only the newest segments are looked through.
    pub time_ms: Option<u64>,
}

/// How far the clocks of miner and pool may be apart, milliseconds.
const APART: i64 = 120_000;
/// The most segments that are looked through for one share.
const MOST: i64 = 48;

impl Wanted {
    /// The tag of a share's hash as people read it (64 hex digits), or its last 16 digits, which are the tag itself.
    pub fn tag(hash: &str) -> Option<u64> {
        let fits = matches!(hash.len(), 16 | 64) && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        let last = hash.get(hash.len().checked_sub(16)?..).filter(|_| fits)?;
        u64::from_str_radix(last, 16).ok()
    }
}

impl Ledger {
    /// The chain of finished segments, oldest first: at most `limit`, leaving out the first `offset`.
    pub async fn segments(&self, limit: u32, offset: u64) -> Result<Vec<Seal>, LedgerError> {
        let mut snapshot = self.store().snapshot().await?;
        let sql = "SELECT id, spool, writer, segment, shares, CAST(work AS TEXT) AS work, first_ms, last_ms, bytes, \
                   root, previous, chain FROM segment WHERE id > $1 ORDER BY id LIMIT $2";
        let offset = i64::try_from(offset).unwrap_or(i64::MAX);
        let query = sqlx::query(sql).bind(offset).bind(i64::from(limit));
        query.fetch_all(&mut *snapshot).await.map_err(failed)?.iter().map(seal).collect()
    }

    /// How many finished segments there are.
    pub async fn segment_count(&self) -> Result<u64, LedgerError> {
        let mut snapshot = self.store().snapshot().await?;
        let row =
            sqlx::query("SELECT COALESCE(MAX(id), 0) AS count FROM segment").fetch_one(&mut *snapshot).await;
        let count: i64 = row.and_then(|row| row.try_get("count")).map_err(failed)?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// The compressed file of a finished segment; `None` if there is no such segment or it is not kept.
    pub async fn segment_file(&self, sequence: u64) -> Result<Option<PathBuf>, LedgerError> {
        let Some(seal) = self.segments(1, sequence.saturating_sub(1)).await?.pop() else { return Ok(None) };
        let name = seal.name().filter(|name| name.spool == self.spool().id() && seal.sequence == sequence);
        Ok(name.map(|name| archive::file(self.spool().dir(), name)).filter(|file| file.exists()))
    }

    /// The proof that a share is in a finished segment; `None` if it is in none of those that were looked through, which
    /// are those of its time that are still kept.
    pub async fn prove(&self, wanted: &Wanted) -> Result<Option<ShareProof>, LedgerError> {
        let mut snapshot = self.store().snapshot().await?;
        let time = wanted.time_ms.map(|time| i64::try_from(time).unwrap_or(i64::MAX));
        let (from, to) =
            time.map_or((0, i64::MAX), |time| (time.saturating_sub(APART), time.saturating_add(APART)));
        let sql = "SELECT id, spool, writer, segment, shares, CAST(work AS TEXT) AS work, first_ms, last_ms, bytes, \
                   root, previous, chain FROM segment WHERE spool = $1 AND shares > 0 AND last_ms >= $2 \
                   AND first_ms <= $3 ORDER BY id DESC LIMIT $4";
        let query = sqlx::query(sql).bind(self.spool().id().to_vec()).bind(from).bind(to).bind(MOST);
        let rows = query.fetch_all(&mut *snapshot).await.map_err(failed)?;
        let seals = rows.iter().map(seal).collect::<Result<Vec<_>, _>>()?;
        drop(snapshot);
        let (worker, tag) = (WorkerId::of(&wanted.worker), wanted.tag);
        // One at a time: each looks through whole files.
        let _turn = self.proofs().lock().await;
        let dir = self.spool().dir().to_owned();
        let search = tokio::task::spawn_blocking(move || {
            for seal in seals {
                if let Some(proof) = search(&dir, &seal, worker, tag)? {
                    return Ok(Some(proof));
                }
            }
            Ok(None)
        });
        search.await.map_err(|error| LedgerError::Unsound(format!("looking for a share failed: {error}")))?
    }

    /// What the block with this hash (internal order) was divided by.
    pub async fn block_weights(&self, hash: &Hash) -> Result<Option<Weights>, LedgerError> {
        let mut snapshot = self.store().snapshot().await?;
        let sql = "SELECT b.id, b.height, b.bits, b.scheme, b.factor, b.reward_msat, b.subsidy_msat, b.fee_msat, \
                   COALESCE(b.slot_id, 0) AS slot, CAST(b.window_work AS TEXT) AS window_work, \
                   COALESCE(t.fee_ppm, -1) AS ppm FROM block b LEFT JOIN terms t ON t.id = b.terms_id \
                   WHERE b.hash = $1";
        let row =
            sqlx::query(sql).bind(hash.to_vec()).fetch_optional(&mut *snapshot).await.map_err(failed)?;
        let Some(row) = row else { return Ok(None) };
        let integer = |name: &str| row.try_get::<i64, _>(name).map_err(failed);
        let narrow = |name: &str| Ok::<_, LedgerError>(u32::try_from(integer(name)?).unwrap_or(0));
        let (reward_msat, subsidy_msat, fee_msat) =
            (integer("reward_msat")?, integer("subsidy_msat")?, integer("fee_msat")?);
        let window_work = work(&row, "window_work")?;
        let stored = stored(&mut snapshot, integer("id")?).await?;
        let unsigned = |msat: i64| u64::try_from(msat).unwrap_or(0);
        let reward = Reward {
            subsidy: unsigned(subsidy_msat),
            fees: unsigned(reward_msat.saturating_sub(subsidy_msat)),
        };
        let division = reward.divide(unsigned(fee_msat), &stored)?;
        let credits: HashMap<i64, i64> = division.miners.into_iter().collect();

        let sql = "SELECT w.miner_id, m.address FROM block_weight w JOIN miner m ON m.id = w.miner_id \
                   WHERE w.block_id = $1";
        let mut addresses: HashMap<i64, String> = HashMap::new();
        for row in sqlx::query(sql).bind(integer("id")?).fetch_all(&mut *snapshot).await.map_err(failed)? {
            addresses
                .insert(row.try_get("miner_id").map_err(failed)?, row.try_get("address").map_err(failed)?);
        }
        let weights = stored.miners.iter().map(|(miner, weight)| MinerWeight {
            miner: *miner,
            address: addresses.remove(miner).unwrap_or_default(),
            work: weight.fees.to_string(),
            subsidy_work: weight.subsidy.to_string(),
            credit_msat: credits.get(miner).copied().unwrap_or(0),
        });
        let weights = weights.collect();
        let scheme: String = row.try_get("scheme").map_err(failed)?;
        // In solo the coinbase itself takes the fee.
        let fee_ppm = u32::try_from(integer("ppm")?).ok().filter(|_| scheme != "solo");
        let newest = integer("slot")?;
        let oldest = match scheme.as_str() {
            "solo" => None,
            _ => window_slots(&mut snapshot, newest, window_work).await?.pop(),
        };
        let (first_slot, first_slot_work) = oldest.unwrap_or_default();
        Ok(Some(Weights {
            hash: shown(hash),
            height: narrow("height")?,
            bits: narrow("bits")?,
            scheme,
            factor: narrow("factor")?,
            reward_msat,
            subsidy_msat,
            fee_ppm,
            fee_msat,
            reserve_msat: division.reserve,
            first_slot,
            first_slot_work: first_slot_work.to_string(),
            last_slot: newest,
            window_work: window_work.to_string(),
            bought_work: stored.bought.fees.to_string(),
            bought_subsidy_work: stored.bought.subsidy.to_string(),
            weights,
        }))
    }
}

/// The slots that a window of `length` takes up to `newest`, newest first, and how much of each one's work.
pub(crate) async fn window_slots(
    connection: &mut AnyConnection,
    newest: i64,
    length: Work,
) -> Result<Vec<(i64, Work)>, LedgerError> {
    let (mut slots, mut left, mut next) = (Vec::new(), length, newest);
    while left > 0 {
        let sql = "SELECT id, CAST(work AS TEXT) AS work FROM slot WHERE id <= $1 ORDER BY id DESC LIMIT 256";
        let rows = sqlx::query(sql).bind(next).fetch_all(&mut *connection).await.map_err(failed)?;
        if rows.is_empty() {
            break;
        }
        for row in &rows {
            let id: i64 = row.try_get("id").map_err(failed)?;
            let taken = work(row, "work")?.min(left);
            (left, next) = (left - taken, id - 1);
            slots.push((id, taken));
            if left == 0 {
                break;
            }
        }
    }
    Ok(slots)
}

fn search(dir: &Path, seal: &Seal, worker: WorkerId, tag: u64) -> Result<Option<ShareProof>, LedgerError> {
    let Some(name) = seal.name() else { return Ok(None) };
    let Some(bytes) = archive::bytes(dir, name)? else { return Ok(None) };
    let is_it = |entry: &Entry| matches!(entry, Entry::Share(share) if share.worker == worker && share.hash_tag == tag);
    if !proof::entries_of(&bytes, name).any(|(_, _, entry)| is_it(&entry)) {
        return Ok(None);
    }
    let (mut leaves, mut found) = (Vec::new(), None);
    for (_, record, entry) in proof::entries_of(&bytes, name) {
        if is_it(&entry) && found.is_none() {
            found = Some((leaves.len(), hex::encode(record)));
        }
        if let Entry::Share(_) = entry {
            leaves.push(proof::leaf(record));
        }
    }
    let prove = |(index, record): (usize, String)| ShareProof {
        segment: seal.clone(),
        position: index as u64,
        record,
        path: proof::path(leaves, index).iter().map(hex::encode).collect(),
    };
    Ok(found.map(prove))
}

/// A row of `segment`.
pub(crate) fn seal(row: &AnyRow) -> Result<Seal, LedgerError> {
    let integer = |name: &str| row.try_get::<i64, _>(name).map_err(failed);
    let number = |name: &str| Ok::<_, LedgerError>(u64::try_from(integer(name)?).unwrap_or(0));
    let bytes = |name: &str| row.try_get::<Vec<u8>, _>(name).map_err(failed);
    let name = Name {
        spool: bytes("spool")?.try_into().unwrap_or_default(),
        writer: u16::try_from(integer("writer")?).unwrap_or(u16::MAX),
        segment: number("segment")?,
    };
    Ok(Seal {
        sequence: number("id")?,
        name: name.shown(),
        spool: hex::encode(name.spool),
        shares: number("shares")?,
        work: work(row, "work")?.to_string(),
        first_ms: number("first_ms")?,
        last_ms: number("last_ms")?,
        bytes: number("bytes")?,
        root: hex::encode(bytes("root")?),
        previous: hex::encode(bytes("previous")?),
        chain: hex::encode(bytes("chain")?),
    })
}

fn failed(source: sqlx::Error) -> LedgerError {
    LedgerError::Database { doing: "answer a question", source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags() {
        let check = |hash: &str, expect: Option<u64>| assert_eq!(Wanted::tag(hash), expect, "{hash:?}");
        check(&format!("{}00000000000000ff", "0".repeat(48)), Some(255));
        check("0123456789abcdef", Some(0x0123_4567_89ab_cdef));
        check("0123456789ABCDEF", Some(0x0123_4567_89ab_cdef));
        check("+123456789abcdef", None);
        check("123", None);
        check("", None);
        check(&"é".repeat(8), None);
    }
}
