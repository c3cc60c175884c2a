//! The coins of a chain, and what it takes to spend one.

use std::collections::{HashMap, HashSet};

use bitcoin::{
    Amount, OutPoint, PublicKey, ScriptBuf, TapSighashType, Transaction, TxOut, Txid, Witness, ecdsa,
    hashes::Hash as _,
    secp256k1::{All, Message, Secp256k1, XOnlyPublicKey, schnorr},
    sighash::{Prevouts, SighashCache},
};

/// A coinbase can be spent in the hundredth block behind it.
const MATURITY: u32 = 100;

#[derive(Clone, Debug)]
pub struct Coin {
    pub out: TxOut,
    pub height: u32,
    pub is_coinbase: bool,
}

/// What is unspent at the tip, and who has spent what below it.
#[derive(Default)]
pub struct Coins {
    unspent: HashMap<OutPoint, Coin>,
    spent: HashMap<OutPoint, (Coin, Txid)>,
    /// Transactions in the chain: height, and what each leaves to the network.
    at: HashMap<Txid, (u32, u64)>,
}

impl Coins {
    pub fn get(&self, coin: &OutPoint) -> Option<&Coin> {
        self.unspent.get(coin)
    }

    pub fn all(&self) -> impl Iterator<Item = (&OutPoint, &Coin)> {
        self.unspent.iter()
    }

    /// Height and fee of a transaction in the chain.
    pub fn place(&self, txid: &Txid) -> Option<(u32, u64)> {
        self.at.get(txid).copied()
    }

    /// Which transaction of the chain spends `coin`.
    pub fn spender(&self, coin: &OutPoint) -> Option<Txid> {
        self.spent.get(coin).map(|(_, txid)| *txid)
    }

    /// Takes a block's transaction in, which has been found good.
    pub fn enter(&mut self, transaction: &Transaction, height: u32) {
        let (txid, is_coinbase) = (transaction.compute_txid(), transaction.is_coinbase());
        let mut value = Amount::ZERO;
        for input in transaction.input.iter().filter(|_| !is_coinbase) {
            let coin = self.unspent.remove(&input.previous_output).expect("a block spends what is there");
            value += coin.out.value;
            self.spent.insert(input.previous_output, (coin, txid));
        }
        let out: Amount = transaction.output.iter().map(|out| out.value).sum();
        let fee = if is_coinbase { 0 } else { (value - out).to_sat() };
        assert!(self.at.insert(txid, (height, fee)).is_none(), "{txid} is in the chain twice");
        for (vout, out) in (0..).zip(&transaction.output) {
            let coin = Coin { out: out.clone(), height, is_coinbase };
            self.unspent.insert(OutPoint { txid, vout }, coin);
        }
    }

    /// Undoes [`Self::enter`]; the last one first.
    pub fn leave(&mut self, transaction: &Transaction) {
        let txid = transaction.compute_txid();
        self.at.remove(&txid);
        for vout in 0..transaction.output.len() as u32 {
            self.unspent.remove(&OutPoint { txid, vout }).expect("nobody has spent it any more");
        }
        for input in transaction.input.iter().filter(|_| !transaction.is_coinbase()) {
            let (coin, _) = self.spent.remove(&input.previous_output).unwrap();
            self.unspent.insert(input.previous_output, coin);
        }
    }
}

/// Coins with what is not in a block yet.
pub struct View<'a> {
    coins: &'a Coins,
    spent: HashSet<OutPoint>,
    made: HashMap<OutPoint, Coin>,
    /// Of the block that is to come.
    height: u32,
}

impl<'a> View<'a> {
    pub fn new(coins: &'a Coins, height: u32) -> Self {
        let (spent, made) = Default::default();
        Self { coins, spent, made, height }
    }

    /// What `transaction` leaves to the network, or why no block could have it next.
    pub fn check(&self, transaction: &Transaction, law: &Law) -> Result<u64, String> {
        let mut prevouts = Vec::new();
        for input in &transaction.input {
            let at = &input.previous_output;
            let coin = if self.spent.contains(at) { None } else { self.made.get(at).or(self.coins.get(at)) };
            let coin = coin.ok_or("bad-txns-inputs-missingorspent")?;
            if coin.is_coinbase && self.height < coin.height + MATURITY {
                return Err("bad-txns-premature-spend-of-coinbase".to_owned());
            }
            prevouts.push(coin.out.clone());
        }
        let inputs: HashSet<_> = transaction.input.iter().map(|input| input.previous_output).collect();
        assert_eq!(inputs.len(), transaction.input.len(), "a coin is spent twice in {transaction:?}");
        let of_all = |outs: &[TxOut]| outs.iter().map(|out| out.value.to_sat()).sum::<u64>();
        let fee = of_all(&prevouts).checked_sub(of_all(&transaction.output)).ok_or("bad-txns-in-belowout")?;
        law.check(transaction, &prevouts)?;
        Ok(fee)
    }

    pub fn enter(&mut self, transaction: &Transaction) {
        let txid = transaction.compute_txid();
        self.spent.extend(transaction.input.iter().map(|input| input.previous_output));
        for (vout, out) in (0..).zip(&transaction.output) {
            let coin = Coin { out: out.clone(), height: self.height, is_coinbase: false };
            self.made.insert(OutPoint { txid, vout }, coin);
        }
    }
}

/// Whose signatures are looked at: the wallet's. Strangers are believed.
pub struct Law {
    secp: Secp256k1<All>,
    pub wallet: HashSet<ScriptBuf>,
}

impl Law {
    pub fn new(wallet: HashSet<ScriptBuf>) -> Self {
        Self { secp: Secp256k1::new(), wallet }
    }

    fn check(&self, transaction: &Transaction, prevouts: &[TxOut]) -> Result<(), String> {
        for (index, out) in prevouts.iter().enumerate() {
            let is_good = !self.wallet.contains(&out.script_pubkey)
                || self.is_signed(transaction, index, prevouts).unwrap_or(false);
            if !is_good {
                return Err(format!("mandatory-script-verify-flag-failed: input {index}"));
            }
        }
        Ok(())
    }

    /// Runs the one script that a wallet of one key has: P2TR by its key, or P2WPKH.
    fn is_signed(&self, transaction: &Transaction, index: usize, prevouts: &[TxOut]) -> Option<bool> {
        let mut cache = SighashCache::new(transaction);
        let (script, witness) = (&prevouts[index].script_pubkey, &transaction.input[index].witness);
        if script.is_p2tr() {
            let key = XOnlyPublicKey::from_slice(&script.as_bytes()[2..]).ok()?;
            let [signature] = whole(witness)?;
            let signature = schnorr::Signature::from_slice(signature).ok()?;
            let all = Prevouts::All(prevouts);
            let hash = cache.taproot_key_spend_signature_hash(index, &all, TapSighashType::Default).ok()?;
            let message = Message::from_digest(hash.to_byte_array());
            return Some(self.secp.verify_schnorr(&signature, &message, &key).is_ok());
        }
        let [signature, key] = whole(witness)?;
        let (signature, key) =
            (ecdsa::Signature::from_slice(signature).ok()?, PublicKey::from_slice(key).ok()?);
        if ScriptBuf::new_p2wpkh(&key.wpubkey_hash().ok()?) != *script {
            return Some(false);
        }
        let value = prevouts[index].value;
        let hash = cache.p2wpkh_signature_hash(index, script, value, signature.sighash_type).ok()?;
        let message = Message::from_digest(hash.to_byte_array());
        Some(self.secp.verify_ecdsa(&message, &signature.signature, &key.inner).is_ok())
    }
}

fn whole<const N: usize>(witness: &Witness) -> Option<[&[u8]; N]> {
    let parts: Vec<&[u8]> = witness.iter().collect();
    parts.try_into().ok()
}
