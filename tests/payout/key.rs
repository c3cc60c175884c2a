//! The key of the pool's wallet, in the hands of a test: descriptors, addresses and signatures by the `bitcoin` crate.

use bitcoin::{
    Address, Amount, CompressedPublicKey, Network, Psbt, ScriptBuf, Transaction, TxIn, TxOut, Witness,
    bip32::{ChildNumber, DerivationPath, Xpriv, Xpub},
    consensus::encode::serialize_hex,
    secp256k1::{All, Secp256k1},
};

/// Of a wallet of one key; receives at m/0/*, change goes to m/1/*.
pub struct Key {
    secp: Secp256k1<All>,
    master: Xpriv,
    network: Network,
    is_taproot: bool,
}

impl Key {
    pub fn taproot(network: Network) -> Self {
        Self::new(network, true)
    }

    pub fn wpkh(network: Network) -> Self {
        Self::new(network, false)
    }

    fn new(network: Network, is_taproot: bool) -> Self {
        let master = Xpriv::new_master(network, b"a wallet that is worth nothing").unwrap();
        Self { secp: Secp256k1::new(), master, network, is_taproot }
    }

    /// The descriptor with the private key.
    pub fn private(&self) -> String {
        self.descriptor(&self.master.to_string())
    }

    /// The same without.
    pub fn public(&self) -> String {
        self.descriptor(&Xpub::from_priv(&self.secp, &self.master).to_string())
    }

    fn descriptor(&self, key: &str) -> String {
        let kind = if self.is_taproot { "tr" } else { "wpkh" };
        format!("{kind}({key}/<0;1>/*)")
    }

    /// The first address.
    pub fn address(&self) -> String {
        self.address_at(0, 0)
    }

    /// The address at m/branch/index.
    pub fn address_at(&self, branch: u32, index: u32) -> String {
        let path = [branch, index].map(|at| ChildNumber::from_normal_idx(at).unwrap());
        let path: DerivationPath = path.to_vec().into();
        let public = Xpub::from_priv(&self.secp, &self.master.derive_priv(&self.secp, &path).unwrap());
        let address = match self.is_taproot {
            true => Address::p2tr(&self.secp, public.to_x_only_pub(), None, self.network),
            false => Address::p2wpkh(&CompressedPublicKey(public.public_key), self.network),
        };
        address.to_string()
    }

    /// What an offline signer makes of a PSBT: the same with signatures.
    pub fn sign(&self, psbt: &str) -> String {
        let mut psbt: Psbt = psbt.trim().parse().unwrap();
        psbt.sign(&self.master, &self.secp).unwrap_or_else(|(_, errors)| panic!("{errors:?}"));
        psbt.to_string()
    }

    /// Spends the first input of `psbt` to `address` instead, for `fee` satoshi: signed, in hex.
    pub fn spend_instead(&self, psbt: &str, address: &str, fee: u64) -> String {
        let other: Psbt = psbt.trim().parse().unwrap();
        let coin = other.inputs[0].witness_utxo.clone().unwrap();
        let to: ScriptBuf = address.parse::<Address<_>>().unwrap().assume_checked().script_pubkey();
        let mut transaction = Transaction {
            input: vec![TxIn { witness: Witness::new(), ..other.unsigned_tx.input[0].clone() }],
            output: vec![TxOut { value: coin.value - Amount::from_sat(fee), script_pubkey: to }],
            ..other.unsigned_tx.clone()
        };
        let mut psbt = Psbt::from_unsigned_tx(transaction.clone()).unwrap();
        psbt.inputs[0] = other.inputs[0].clone();
        psbt.sign(&self.master, &self.secp).unwrap_or_else(|(_, errors)| panic!("{errors:?}"));
        let signed = &psbt.inputs[0];
        transaction.input[0].witness = match (signed.tap_key_sig, signed.partial_sigs.first_key_value()) {
            (Some(signature), _) => Witness::p2tr_key_spend(&signature),
            (None, Some((key, signature))) => Witness::p2wpkh(signature, &key.inner),
            (None, None) => panic!("nothing was signed"),
        };
        serialize_hex(&transaction)
    }
}
