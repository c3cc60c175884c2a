//! Pieces of the spool that cannot be applied. They are kept, and never hold up the rest.

use sqlx::AnyConnection;

use crate::{
    LedgerError,
    record::{Entry, may_be_found},
    spool::{Item, Position, Read},
    store::{self, Column, Dialect, Hex, json},
};

/// What is to be done about a piece that may be a block which the pool has found.
const BLOCK: &str = "this may be a found block, which is then not credited: the directory of found blocks (ledger.blocks) has \
                     HASH.block, HASH.done or HASH.refused of each. If the ledger does not know the hash: with a HASH.note \
                     beside it the next start of the pool enters it, else make it good by sluice ledger correct";

pub(super) struct Aside {
    writer: u16,
    from: Position,
    length: u64,
    reason: String,
    may_be_found: bool,
    record: Option<Vec<u8>>,
}

impl Aside {
    pub fn new(read: &Read, reason: &str) -> Self {
        let may_be_found = match &read.item {
            Item::Entry(entry) => matches!(entry, Entry::Found(_)),
            Item::Refused { record, .. } => may_be_found(record),
            Item::Unreadable { may_be_found } => *may_be_found,
            Item::Torn => false,
        };
        let reason = if may_be_found { format!("{reason}; {BLOCK}") } else { reason.to_owned() };
        let record = match &read.item {
            Item::Refused { record, .. } => Some(record.clone()),
            Item::Entry(entry) => Some(entry.bytes()),
            Item::Unreadable { .. } | Item::Torn => None,
        };
        Self { writer: read.writer, from: read.from, length: read.length, reason, may_be_found, record }
    }
}

pub(super) async fn write(
    connection: &mut AnyConnection,
    dialect: Dialect,
    spool: [u8; 16],
    asides: Vec<Aside>,
    now_ms: i64,
) -> Result<(), LedgerError> {
    if asides.is_empty() {
        return Ok(());
    }
    for Aside { writer, from, length, reason, may_be_found, .. } in &asides {
        let what = if *may_be_found { "that may be a found block " } else { "" };
        let (segment, byte) = (from.segment, from.offset);
        tracing::error!(writer, segment, byte, length, reason, "a piece of the spool {what}is set aside");
    }
    let rows: Vec<_> = asides
        .iter()
        .map(|aside| {
            let place = (Hex(&spool), aside.writer, aside.from.segment, aside.from.offset, aside.length);
            (place.0, place.1, place.2, place.3, place.4, &aside.reason, aside.record.as_deref().map(Hex))
        })
        .collect();
    let sql = format!(
        "INSERT INTO set_aside (spool, writer, segment, byte, length, reason, record, at_ms) \
         SELECT t.spool, t.writer, t.segment, t.byte, t.length, t.reason, t.record, $2 FROM {} AS t",
        dialect.table(&[
            ("spool", Column::Bytes),
            ("writer", Column::Integer),
            ("segment", Column::Integer),
            ("byte", Column::Integer),
            ("length", Column::Integer),
            ("reason", Column::Text),
            ("record", Column::Bytes)
        ])
    );
    store::write(connection, "set a piece aside", sql, json(&rows), &[now_ms]).await.map(drop)
}
