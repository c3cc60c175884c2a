//! Pieces of the spool that cannot be applied. They are kept, and never hold up the rest.

use sqlx::AnyConnection;

use crate::{
    LedgerError,
    spool::{Item, Position, Read},
    store::{self, Column, Dialect, Hex, json},
};

pub(super) struct Aside {
    writer: u16,
    from: Position,
    length: u64,
    reason: &'static str,
    record: Option<Vec<u8>>,
}

impl Aside {
    pub fn new(read: &Read, reason: &'static str) -> Self {
        let record = match &read.item {
            Item::Refused { record, .. } => Some(record.clone()),
            Item::Entry(entry) => Some(entry.bytes()),
            Item::Unreadable | Item::Torn => None,
        };
        Self { writer: read.writer, from: read.from, length: read.length, reason, record }
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
    for aside in &asides {
        tracing::error!(
            writer = aside.writer,
            segment = aside.from.segment,
            byte = aside.from.offset,
            length = aside.length,
            reason = aside.reason,
            "a piece of the spool is set aside"
        );
    }
    let rows: Vec<_> = asides
        .iter()
        .map(|aside| {
            let place = (Hex(&spool), aside.writer, aside.from.segment, aside.from.offset, aside.length);
            (place.0, place.1, place.2, place.3, place.4, aside.reason, aside.record.as_deref().map(Hex))
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
