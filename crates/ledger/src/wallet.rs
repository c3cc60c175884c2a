//! The pool's own coins: which scripts are its wallet's, and with whose keys they are spent.

use std::fmt;

use bdk_wallet::{
    bitcoin::{Network, NetworkKind, ScriptBuf, secp256k1::Secp256k1},
    descriptor::{DescriptorError, ExtendedDescriptor, IntoWalletDescriptor},
    keys::KeyMap,
    miniscript::descriptor::DescriptorType,
};
use sha2::{Digest, Sha256};

mod coins;
mod draft;

pub(crate) use coins::{Coins, FollowError, Origin, Reached, compact, kept};
pub(crate) use draft::{Choice, Draft, conflicts, read_psbt, serialised, vsize};

/// So many addresses of each descriptor are looked for on the chain.
pub(crate) const LOOKAHEAD: u32 = 200;

/// The wallet of the pool: two descriptors, for what it is paid and for its change, with private keys or without.
#[derive(Clone)]
pub struct Descriptors {
    external: (ExtendedDescriptor, KeyMap),
    internal: (ExtendedDescriptor, KeyMap),
    network: Network,
    /// The first block that may pay to it.
    birthday: u32,
    name: String,
}

/// Why there is no such wallet, or why it cannot do what it is to do.
#[derive(Debug, thiserror::Error)]
pub enum WalletError {
    /// A descriptor cannot be read.
    #[error(
        "{which} is no descriptor that can be used ({why}): give it as the wallet exports it, like \"tr(xpub…/<0;1>/*)\""
    )]
    Descriptor {
        /// The key of the configuration.
        which: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// One that does not fit.
    #[error("{0}")]
    Unfit(String),
    /// What the database has of the wallet cannot be read.
    #[error(
        "the wallet in the database cannot be read ({0}); remove its rows from wallet_change, it is then made anew from the chain"
    )]
    Kept(String),
    /// The coins do not suffice.
    #[error(
        "the wallet has {available} sat to spend, {needed} sat are needed: pay some in, or wait for rewards to mature"
    )]
    Funds {
        /// With the fee.
        needed: u64,
        /// Less what is locked by other batches.
        available: u64,
    },
    /// The transaction cannot be made.
    #[error("the transaction cannot be made: {0}")]
    Build(String),
    /// The signature is missing or wrong.
    #[error("the transaction is not signed: {0}")]
    Sign(String),
    /// A block does not fit onto what the wallet knows.
    #[error("the node gave a block that does not fit: {0}")]
    Block(String),
}

impl Descriptors {
    /// Reads `descriptor`, which may be for both with `<0;1>` in it, or beside it has one for `change`.
    pub fn parse(
        descriptor: &str,
        change: Option<&str>,
        network: Network,
        birthday: u32,
    ) -> Result<Self, WalletError> {
        let (external, internal) = match (two_paths(descriptor), change) {
            (Some(two), None) => two,
            (None, Some(change)) => (descriptor.trim().to_owned(), change.trim().to_owned()),
            (Some(_), Some(_)) => {
                return Err(WalletError::Unfit(
                    "wallet.descriptor has <0;1> in it, so it is for change too: leave wallet.change_descriptor out"
                        .to_owned(),
                ));
            }
            (None, None) => {
                return Err(WalletError::Unfit(
                    "wallet.descriptor has no <0;1> in it: give wallet.change_descriptor too".to_owned(),
                ));
            }
        };
        let external = read("wallet.descriptor", &external, network)?;
        let internal = read("wallet.change_descriptor", &internal, network)?;
        if external.0 == internal.0 {
            return Err(WalletError::Unfit(
                "wallet.change_descriptor is the same as wallet.descriptor: give another path".to_owned(),
            ));
        }
        if external.1.is_empty() != internal.1.is_empty() {
            return Err(WalletError::Unfit(
                "of wallet.descriptor and wallet.change_descriptor one has private keys and one has not: give both or neither"
                    .to_owned(),
            ));
        }
        let digest = Sha256::digest(format!("{}\n{}", external.0, internal.0).as_bytes());
        let name = hex::encode(digest.get(..8).unwrap_or_default());
        Ok(Self { external, internal, network, birthday, name })
    }

    /// Whether it has private keys.
    pub fn can_sign(&self) -> bool {
        !self.external.1.is_empty()
    }

    /// Whether `script` is that of one of its first addresses.
    pub fn owns(&self, script: &[u8]) -> bool {
        [&self.external.0, &self.internal.0].into_iter().any(|descriptor| {
            (0..LOOKAHEAD).any(|index| {
                let script_at = descriptor.at_derivation_index(index).map(|at| at.script_pubkey());
                script_at.is_ok_and(|at: ScriptBuf| at.as_bytes() == script)
            })
        })
    }

    /// Its name in the database: the same with private keys and without.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The chain that it is for.
    pub fn network(&self) -> Network {
        self.network
    }
}

impl fmt::Debug for Descriptors {
    /// Without the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Descriptors")
            .field("name", &self.name)
            .field("birthday", &self.birthday)
            .finish_non_exhaustive()
    }
}

fn read(
    which: &'static str,
    text: &str,
    network: Network,
) -> Result<(ExtendedDescriptor, KeyMap), WalletError> {
    let unusable = |error: DescriptorError| WalletError::Descriptor { which, why: error.to_string() };
    let kind = NetworkKind::from(network);
    let (descriptor, keys) = text.into_wallet_descriptor(&Secp256k1::new(), kind).map_err(unusable)?;
    let unfit = |why: &str| WalletError::Descriptor { which, why: why.to_owned() };
    // Only then is a transaction's id known before it is signed.
    let is_segwit = matches!(
        descriptor.desc_type(),
        DescriptorType::Tr | DescriptorType::Wpkh | DescriptorType::Wsh | DescriptorType::WshSortedMulti
    );
    if !is_segwit {
        return Err(unfit("it must be of native segwit: tr, wpkh or wsh"));
    }
    if !descriptor.has_wildcard() {
        return Err(unfit("it has one address only: it must end in /*"));
    }
    Ok((descriptor, keys))
}

/// `…/<a;b>/…` as two. A checksum is of the whole and goes.
fn two_paths(descriptor: &str) -> Option<(String, String)> {
    let body = descriptor.trim().split('#').next().unwrap_or_default();
    let (mut external, mut internal, mut rest) = (String::new(), String::new(), body);
    while let Some((before, after)) = rest.split_once('<') {
        let (pair, after) = after.split_once('>')?;
        let (one, other) = pair.split_once(';').filter(|(_, other)| !other.contains(';'))?;
        external.extend([before, one]);
        internal.extend([before, other]);
        rest = after;
    }
    (!external.is_empty()).then(|| (external + rest, internal + rest))
}

#[cfg(test)]
mod tests;
