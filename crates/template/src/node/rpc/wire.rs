//! `getblocktemplate` (BIP 22, 23, 145) as it stands on the wire, and the one place where it becomes a [`Template`].

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};
use share::{Hash, Target, sha256};

use super::{
    http::Response,
    reply::{self, Object},
};
use crate::{NodeError, Template};

/// What is asked for one.
pub(super) const METHOD: &str = "getblocktemplate";

/// More satoshi than there will ever be.
pub(in crate::node) const MAX_MONEY: u64 = 21_000_000 * 100_000_000;

/// How the script of a witness commitment begins (BIP 141): OP_RETURN, a push of 36 bytes, and the mark.
pub(in crate::node) const COMMITMENT: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];

/// What a block template says, as far as a pool cares.
#[derive(Deserialize)]
struct Wire<'a> {
    version: i64,
    #[serde(borrow, default)]
    rules: Vec<Cow<'a, str>>,
    #[serde(borrow)]
    previousblockhash: Cow<'a, str>,
    transactions: Transactions,
    coinbasevalue: u64,
    longpollid: Option<String>,
    #[serde(borrow)]
    target: Cow<'a, str>,
    mintime: u32,
    curtime: u32,
    #[serde(borrow)]
    bits: Cow<'a, str>,
    height: u32,
    #[serde(borrow)]
    default_witness_commitment: Option<Cow<'a, str>>,
}

/// The transactions, taken out of their hex one by one as they are read: beside the reply itself there is never
/// more than one copy.
struct Transactions {
    serialised: Vec<u8>,
    txids: Vec<Hash>,
}

#[derive(Deserialize)]
struct Transaction<'a> {
    #[serde(borrow)]
    data: Cow<'a, str>,
    #[serde(borrow)]
    txid: Cow<'a, str>,
}

/// The template in a reply.
pub(super) fn read(reply: &Response) -> Result<Template, NodeError> {
    let Object(wire) = reply::parse(METHOD, reply)?.value(METHOD)?;
    template(wire)
}

/// Checks what the node said for sense and puts it in machine form.
fn template(wire: Wire<'_>) -> Result<Template, NodeError> {
    let unusable = |why: String| NodeError::Template(why);
    let shown = |text: &str| reply::beginning(text.as_bytes());
    if let Some(rule) = wire.rules.iter().find_map(|rule| unknown(rule)) {
        let rule = shown(rule);
        return Err(unusable(format!(
            "it needs the consensus rule {rule:?}, which this version does not know"
        )));
    }
    // The node prints a signed integer.
    let version = i32::try_from(wire.version)
        .map(i32::cast_unsigned)
        .or_else(|_| u32::try_from(wire.version))
        .map_err(|_| unusable(format!("version {} is not 32 bits", wire.version)))?;
    let prev_hash = share::hash::read(&wire.previousblockhash).ok_or_else(|| {
        unusable(format!("previousblockhash {:?} is not a hash", shown(&wire.previousblockhash)))
    })?;
    let mut bits = [0; 4];
    hex::decode_to_slice(&*wire.bits, &mut bits)
        .map_err(|_| unusable(format!("bits {:?} are not 8 hex digits", shown(&wire.bits))))?;
    let bits = u32::from_be_bytes(bits);
    let network_target =
        Target::from_compact(bits).ok_or_else(|| unusable(format!("bits {bits:08x} have no target")))?;
    if share::hash::read(&wire.target).map(Target::from_le_bytes) != Some(network_target) {
        return Err(unusable(format!("target {:?} is not what bits {bits:08x} say", shown(&wire.target))));
    }
    if wire.height == 0 || i32::try_from(wire.height).is_err() {
        return Err(unusable(format!("height {}", wire.height)));
    }
    if wire.coinbasevalue > MAX_MONEY {
        return Err(unusable(format!(
            "coinbasevalue {} is more than there are bitcoins",
            wire.coinbasevalue
        )));
    }
    if wire.mintime > wire.curtime {
        return Err(unusable(format!("mintime {} is after curtime {}", wire.mintime, wire.curtime)));
    }
    let witness_commitment = match wire.default_witness_commitment {
        None => None,
        Some(text) => match hex::decode(&*text) {
            Ok(script) if script.starts_with(&COMMITMENT) && script.len() >= 38 => Some(script),
            _ => return Err(unusable(format!("default_witness_commitment {:?} is none", shown(&text)))),
        },
    };
    let Transactions { mut serialised, txids } = wire.transactions;
    serialised.shrink_to_fit();
    Ok(Template {
        height: wire.height,
        prev_hash,
        version,
        bits,
        network_target,
        time: wire.curtime,
        min_time: wire.mintime,
        coinbase_value: wire.coinbasevalue,
        witness_commitment,
        transactions: serialised.into(),
        transaction_count: txids.len(),
        branch: sha256::branch(txids),
        long_poll: wire.longpollid,
    })
}

/// The name of a rule that a miner must understand (BIP 9: it is marked `!`) and we do not.
fn unknown(rule: &str) -> Option<&str> {
    rule.strip_prefix('!').filter(|name| !["segwit", "signet"].contains(name))
}

impl<'de> Deserialize<'de> for Transactions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Reading)
    }
}

struct Reading;

impl<'de> Visitor<'de> for Reading {
    type Value = Transactions;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of transactions")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Transactions, A::Error> {
        let (mut serialised, mut txids) = (Vec::new(), Vec::new());
        while let Some(Object(Transaction { data, txid })) = list.next_element()? {
            let at = txids.len();
            let start = serialised.len();
            serialised.resize(start + data.len() / 2, 0);
            let room = serialised.get_mut(start..).unwrap_or_default();
            // Megabytes of it, digit by digit, would be three quarters of the time that a template takes.
            if room.is_empty() || faster_hex::hex_decode(data.as_bytes(), room).is_err() {
                return Err(A::Error::custom(format_args!("data of transaction {at} is not hex")));
            }
            let txid = share::hash::read(&txid)
                .ok_or_else(|| A::Error::custom(format_args!("txid of transaction {at} is not a hash")))?;
            txids.push(txid);
        }
        Ok(Transactions { serialised, txids })
    }
}

#[cfg(test)]
mod tests;
