//! Extensions: which of them are spoken (0x0001), and who of many workers found a share (0x0002).

use super::{
    frame,
    message::messages,
    mining::SubmitSharesExtended,
    wire::{Bytes, Field, Malformed, Reader, Seq64K},
};

messages! {
    /// Messages of the extension that agrees on extensions.
    enum Negotiation = extension 0x0001;

    /// Right after the connection is set up.
    0x00 => RequestExtensions<'a> {
        request_id: u16,
        requested_extensions: Seq64K<'a, u16>,
    }

    0x01 => RequestExtensionsSuccess<'a> {
        request_id: u16,
        supported_extensions: Seq64K<'a, u16>,
    }

    0x02 => RequestExtensionsError<'a> {
        request_id: u16,
        unsupported_extensions: Seq64K<'a, u16>,
        /// What the server cannot do without.
        required_extensions: Seq64K<'a, u16>,
    }
}

/// The extension that says who of many workers found a share.
pub const WORKER_HASHRATE: u16 = 0x0002;

/// The field of [`WORKER_HASHRATE`] that holds the name of a worker.
const USER_IDENTITY: u8 = 0x01;

/// The name of a worker, at most 32 bytes; should be UTF-8.
pub type UserIdentity<'a> = Bytes<'a, 2, 32>;

/// What an extension adds behind a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// Whose field it is.
    pub extension: u16,
    /// Which of its fields.
    pub field: u8,
    /// As the extension defines it.
    pub value: &'a [u8],
}

/// The fields that extensions add behind a message. Numbers are little-endian as everywhere; since the examples of the
/// specification have them the other way round, that is tried where little-endian makes no sense.
pub fn fields(tail: Reader<'_>) -> Result<impl Iterator<Item = Tlv<'_>>, Malformed> {
    let orders: [fn([u8; 2]) -> u16; 2] = [u16::from_le_bytes, u16::from_be_bytes];
    let order = orders.into_iter().find(|&order| {
        let mut rest = tail;
        while field(&mut rest, order).is_some() {}
        rest.0.is_empty()
    });
    let (order, mut rest) = (order.ok_or(Malformed::Tail)?, tail);
    Ok(std::iter::from_fn(move || field(&mut rest, order)))
}

fn field<'a>(rest: &mut Reader<'a>, order: fn([u8; 2]) -> u16) -> Option<Tlv<'a>> {
    let mut ahead = *rest;
    let extension = order(<[u8; 2]>::read(&mut ahead).ok()?);
    let field = u8::read(&mut ahead).ok()?;
    let length = order(<[u8; 2]>::read(&mut ahead).ok()?);
    let value = ahead.take(usize::from(length)).ok()?;
    *rest = ahead;
    Some(Tlv { extension, field, value })
}

/// The worker that `tail` names, if it names one. Only to be asked where [`WORKER_HASHRATE`] was agreed on. An error if
/// it is too long or there are two.
pub fn user_identity(tail: Reader<'_>) -> Result<Option<UserIdentity<'_>>, Malformed> {
    let mut named =
        fields(tail)?.filter(|tlv| (tlv.extension, tlv.field) == (WORKER_HASHRATE, USER_IDENTITY));
    let Some(first) = named.next() else { return Ok(None) };
    if named.next().is_some() {
        return Err(Malformed::Tail);
    }
    let long = |_| Malformed::Long { length: first.value.len(), limit: 32 };
    UserIdentity::new(first.value).map(Some).map_err(long)
}

/// Appends the frame of `share` with the name of the worker who found it.
pub fn encode_share_of(share: &SubmitSharesExtended<'_>, worker: UserIdentity<'_>, out: &mut Vec<u8>) {
    let mut tail = Vec::with_capacity(3 + UserIdentity::MAX);
    WORKER_HASHRATE.write(&mut tail);
    USER_IDENTITY.write(&mut tail);
    worker.write(&mut tail);
    frame::write(share, &tail, out).expect("a share and a name are short");
}
