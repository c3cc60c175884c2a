//! What the drain writes so that others can check it: the seals of finished segments, and where slots end in the spool.

use share::Hash;
use sqlx::{AnyConnection, Row};

use crate::{
    LedgerError,
    proof::Seal,
    spool::{Finished, Position},
    store::{Column, Dialect, Hex, Whole, json, write},
};

/// The newest link of the chain of segments.
#[derive(Clone, Copy, Default)]
pub(super) struct Link {
    sequence: u64,
    chain: Hash,
}

/// How far each writer has been applied.
#[derive(Default)]
pub(super) struct Ends(Vec<End>);

struct End {
    writer: u16,
    at: Position,
    /// Since the slot before was closed.
    has_moved: bool,
}

impl Link {
    /// As the database has it.
    pub async fn load(connection: &mut AnyConnection) -> Result<Self, LedgerError> {
        let failed = LedgerError::database("read the chain of segments");
        let sql = "SELECT id, chain FROM segment ORDER BY id DESC LIMIT 1";
        let row = sqlx::query(sql).fetch_optional(connection).await.map_err(&failed)?;
        let Some(row) = row else { return Ok(Self::default()) };
        let unsound = || LedgerError::Unsound("the newest segment has no sequence and link".to_owned());
        let id: i64 = row.try_get("id").map_err(&failed)?;
        let chain: Vec<u8> = row.try_get("chain").map_err(&failed)?;
        Ok(Self {
            sequence: u64::try_from(id).map_err(|_| unsound())?,
            chain: chain.try_into().map_err(|_| unsound())?,
        })
    }

    /// Adds finished segments to the chain.
    pub async fn add(
        &mut self,
        connection: &mut AnyConnection,
        dialect: Dialect,
        finished: &[Finished],
    ) -> Result<(), LedgerError> {
        if finished.is_empty() {
            return Ok(());
        }
        let mut seals = Vec::new();
        for Finished { name, digested } in finished {
            let previous = self.chain;
            self.sequence += 1;
            self.chain = Seal::link(self.sequence, *name, digested, previous);
            seals.push((self.sequence, name, digested, previous, self.chain));
        }
        let rows: Vec<_> = seals
            .iter()
            .map(|(sequence, name, digested, previous, chain)| {
                let place = (*sequence, Hex(&name.spool), name.writer, name.segment);
                let sums = (digested.shares, Whole(digested.work), digested.first_ms, digested.last_ms);
                let hashes = (digested.bytes, Hex(&digested.root), Hex(previous), Hex(chain));
                (
                    place.0, place.1, place.2, place.3, sums.0, sums.1, sums.2, sums.3, hashes.0, hashes.1,
                    hashes.2, hashes.3,
                )
            })
            .collect();
        let sql = format!(
            "INSERT INTO segment (id, spool, writer, segment, shares, work, first_ms, last_ms, bytes, root, previous, chain) \
             SELECT t.id, t.spool, t.writer, t.segment, t.shares, t.work, t.first_ms, t.last_ms, t.bytes, t.root, \
             t.previous, t.chain FROM {} AS t",
            dialect.table(&[
                ("id", Column::Integer),
                ("spool", Column::Bytes),
                ("writer", Column::Integer),
                ("segment", Column::Integer),
                ("shares", Column::Integer),
                ("work", Column::Work),
                ("first_ms", Column::Integer),
                ("last_ms", Column::Integer),
                ("bytes", Column::Integer),
                ("root", Column::Bytes),
                ("previous", Column::Bytes),
                ("chain", Column::Bytes),
            ])
        );
        write(connection, "seal a segment", sql, json(&rows), &[]).await.map(drop)
    }
}

impl Ends {
    /// From the watermarks of the database. Who has moved since the newest slot was closed is not known: all may have.
    pub fn new(watermarks: impl IntoIterator<Item = (u16, Position)>) -> Self {
        Self(watermarks.into_iter().map(|(writer, at)| End { writer, at, has_moved: true }).collect())
    }

    /// The records of `writer` up to `at` are applied.
    pub fn reach(&mut self, writer: u16, at: Position) {
        match self.0.iter_mut().find(|end| end.writer == writer) {
            Some(end) => (end.at, end.has_moved) = (at, true),
            None => self.0.push(End { writer, at, has_moved: true }),
        }
    }

    /// Writes that `slot` ends here.
    pub async fn write(
        &mut self,
        connection: &mut AnyConnection,
        dialect: Dialect,
        spool: [u8; 16],
        slot: i64,
    ) -> Result<(), LedgerError> {
        let moved = self.0.iter().filter(|end| end.has_moved);
        let rows: Vec<_> =
            moved.map(|end| (Hex(&spool), end.writer, end.at.segment, end.at.offset)).collect();
        self.0.iter_mut().for_each(|end| end.has_moved = false);
        if rows.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "INSERT INTO slot_end (slot_id, spool, writer, segment, byte) \
             SELECT $2, t.spool, t.writer, t.segment, t.byte FROM {} AS t",
            dialect.table(&[
                ("spool", Column::Bytes),
                ("writer", Column::Integer),
                ("segment", Column::Integer),
                ("byte", Column::Integer)
            ])
        );
        write(connection, "write where a slot ends", sql, json(&rows), &[slot]).await.map(drop)
    }
}
