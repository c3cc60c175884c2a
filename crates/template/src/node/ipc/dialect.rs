//! The calls of the mining interface, in the words of the node that is asked. Core 31 gave the methods other numbers
//! than Core 30 had; what came later was only added.

use std::time::Duration;

use bitcoin_capnp_types::{
    capnp::{self, ErrorKind, capability::FromClientHook},
    init_capnp::init,
    mining_capnp::{block_create_options, block_template, mining},
    proxy_capnp::thread,
};
use bitcoin_capnp_types_30::{
    init_capnp::init as init_30,
    mining_capnp::{block_template as block_template_30, mining as mining_30},
    proxy_capnp::thread as thread_30,
};
use share::Hash;

use crate::node::rpc::wire::MAX_MONEY;

/// Weight that the node leaves to header, count and coinbase: what `getblocktemplate` reserves too (Core's default of
/// `-blockreservedweight`).
const RESERVED_WEIGHT: u64 = 8000;

/// Signature operations that the node leaves to the outputs of the coinbase, as `getblocktemplate` does.
const RESERVED_SIGOPS: u64 = 400;

/// More than any fees: the node then looks for a new tip only.
const NO_FEES: i64 = MAX_MONEY as i64;

/// Which words the node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Make {
    Core30,
    Core31,
}

/// The mining interface of a node.
#[derive(Clone)]
pub(super) struct Mining {
    client: mining::Client,
    make: Make,
}

/// A template that the node holds for us.
#[derive(Clone)]
pub(super) struct Handle {
    client: block_template::Client,
    make: Make,
}

/// What the node says of the coinbase to be made.
pub(super) enum RawCoinbase {
    /// Core 30: one that pays nobody in particular, and the script of the witness commitment.
    Whole {
        /// Serialised.
        transaction: Vec<u8>,
        /// Empty if there is none.
        commitment: Vec<u8>,
    },
    /// Since Core 31: what must be in it.
    Fields {
        /// How its input script begins.
        script_prefix: Vec<u8>,
        /// The reserved value of its witness; empty if there is none.
        witness: Vec<u8>,
        /// What it may pay out, satoshi.
        value: i64,
        /// Outputs that it must have, serialised.
        outputs: Vec<Vec<u8>>,
    },
}

/// The header fields of a solution, and the coinbase with its witness.
pub(super) struct Solution<'a> {
    pub version: u32,
    pub time: u32,
    pub nonce: u32,
    pub coinbase: &'a [u8],
}

/// What the node says to a solution or a block.
pub(super) enum Verdict {
    /// It went through, for what that is worth: the block may be in no chain. Or it did not, for whatever reason.
    Processed(bool),
    /// In words: empty if all is well.
    Reason(String),
}

/// The node's word for a method that it does not have.
pub(super) fn is_unknown_method<T>(answer: &capnp::Result<T>) -> bool {
    answer.as_ref().is_err_and(|e| e.kind == ErrorKind::Unimplemented)
}

/// A reason in words, of what says yes or no and why.
fn reason(said_yes: bool, reason: capnp::Result<capnp::text::Reader<'_>>) -> capnp::Result<String> {
    let reason = reason?.to_string()?;
    Ok(if !said_yes && reason.is_empty() { "rejected".to_owned() } else { reason })
}

fn hash(bytes: &[u8]) -> capnp::Result<Hash> {
    bytes.try_into().map_err(|_| capnp::Error::failed(format!("a hash of {} bytes", bytes.len())))
}

/// Both makes have the same threads.
fn thread_30(thread: &thread::Client) -> thread_30::Client {
    thread.clone().cast_to()
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

impl Mining {
    /// Asks for the interface, in the newer words first. Waits while the node starts.
    pub async fn of(init: &init::Client, thread: &thread::Client) -> capnp::Result<Mining> {
        let mut request = init.make_mining_request();
        request.get().init_context().set_thread(thread.clone());
        let answer = request.send().promise.await;
        if !is_unknown_method(&answer) {
            return Ok(Mining { client: answer?.get()?.get_result()?, make: Make::Core31 });
        }
        let mut request = init.clone().cast_to::<init_30::Client>().make_mining_request();
        request.get().init_context().set_thread(thread_30(thread));
        let client: mining_30::Client = request.send().promise.await?.get()?.get_result()?;
        Ok(Mining { client: client.cast_to(), make: Make::Core30 })
    }

    /// What to call this make in a log.
    pub fn make(&self) -> &'static str {
        match self.make {
            Make::Core30 => "Core 30",
            Make::Core31 => "Core 31 or later",
        }
    }

    fn core_30(&self) -> mining_30::Client {
        self.client.clone().cast_to()
    }

    pub async fn is_test_chain(&self, thread: &thread::Client) -> capnp::Result<bool> {
        let mut request = self.client.is_test_chain_request();
        request.get().init_context().set_thread(thread.clone());
        Ok(request.send().promise.await?.get()?.get_result())
    }

    pub async fn is_downloading(&self, thread: &thread::Client) -> capnp::Result<bool> {
        let mut request = self.client.is_initial_block_download_request();
        request.get().init_context().set_thread(thread.clone());
        Ok(request.send().promise.await?.get()?.get_result())
    }

    /// Hash and height of the best block, if the node has any.
    pub async fn tip(&self, thread: &thread::Client) -> capnp::Result<Option<(Hash, i32)>> {
        let mut request = self.client.get_tip_request();
        request.get().init_context().set_thread(thread.clone());
        let answer = request.send().promise.await?;
        let answer = answer.get()?;
        if !answer.get_has_result() {
            return Ok(None);
        }
        let tip = answer.get_result()?;
        Ok(Some((hash(tip.get_hash()?)?, tip.get_height())))
    }

    /// The best block, as soon as it is another than `known` or the time is over. `None` if the node shuts down.
    pub async fn wait_tip(
        &self,
        thread: &thread::Client,
        known: &Hash,
        time: Duration,
    ) -> capnp::Result<Option<(Hash, i32)>> {
        let mut request = self.client.wait_tip_changed_request();
        let mut asked = request.get();
        asked.reborrow().init_context().set_thread(thread.clone());
        asked.set_current_tip(known);
        asked.set_timeout(milliseconds(time));
        let answer = request.send().promise.await?;
        let answer = answer.get()?;
        if !answer.has_result() {
            return Ok(None);
        }
        let tip = answer.get_result()?;
        Ok(Some((hash(tip.get_hash()?)?, tip.get_height())))
    }

    /// A new template. The node is told not to wait for the end of the initial download or of a catch-up: that is asked
    /// for apart, and a call that hangs in the node would be of use to nobody.
    pub async fn create(&self, thread: &thread::Client, mempool: bool) -> capnp::Result<Handle> {
        let client = match self.make {
            Make::Core30 => {
                let mut request = self.core_30().create_new_block_request();
                let mut options = request.get().init_options();
                options.set_use_mempool(mempool);
                options.set_block_reserved_weight(RESERVED_WEIGHT);
                options.set_coinbase_output_max_additional_sigops(RESERVED_SIGOPS);
                let client: block_template_30::Client = request.send().promise.await?.get()?.get_result()?;
                client.cast_to()
            }
            Make::Core31 => {
                let mut request = self.client.create_new_block_request();
                let mut asked = request.get();
                asked.reborrow().init_context().set_thread(thread.clone());
                asked.set_cooldown(false);
                let mut options: block_create_options::Builder<'_> = asked.init_options();
                options.set_use_mempool(mempool);
                options.set_block_reserved_weight(RESERVED_WEIGHT);
                options.set_coinbase_output_max_additional_sigops(RESERVED_SIGOPS);
                request.send().promise.await?.get()?.get_result()?
            }
        };
        Ok(Handle { client, make: self.make })
    }

    /// What the node thinks of a block on its tip: empty if all is well.
    pub async fn check(&self, thread: &thread::Client, block: &[u8]) -> capnp::Result<String> {
        match self.make {
            Make::Core30 => {
                let mut request = self.core_30().check_block_request();
                let mut asked = request.get();
                asked.set_block(block);
                let mut options = asked.init_options();
                options.set_check_merkle_root(true);
                options.set_check_pow(true);
                let answer = request.send().promise.await?;
                let answer = answer.get()?;
                reason(answer.get_result(), answer.get_reason())
            }
            Make::Core31 => {
                let mut request = self.client.check_block_request();
                let mut asked = request.get();
                asked.reborrow().init_context().set_thread(thread.clone());
                asked.set_block(block);
                let mut options = asked.init_options();
                options.set_check_merkle_root(true);
                options.set_check_pow(true);
                let answer = request.send().promise.await?;
                let answer = answer.get()?;
                reason(answer.get_result(), answer.get_reason())
            }
        }
    }

    /// Hands over a whole block, and returns the reason against it: empty if there is none. Not every node has this.
    pub async fn submit(&self, thread: &thread::Client, block: &[u8]) -> capnp::Result<String> {
        if self.make == Make::Core30 {
            return Err(capnp::Error::unimplemented("submitBlock".to_owned()));
        }
        let mut request = self.client.submit_block_request();
        let mut asked = request.get();
        asked.reborrow().init_context().set_thread(thread.clone());
        asked.set_block(block);
        let answer = request.send().promise.await?;
        let answer = answer.get()?;
        reason(answer.get_result(), answer.get_reason())
    }
}

impl Handle {
    fn core_30(&self) -> block_template_30::Client {
        self.client.clone().cast_to()
    }

    /// The block, serialised with witness, with a coinbase that is not meant to be used.
    pub async fn block(&self, thread: &thread::Client) -> capnp::Result<Vec<u8>> {
        let mut request = self.client.get_block_request();
        request.get().init_context().set_thread(thread.clone());
        Ok(request.send().promise.await?.get()?.get_result()?.to_vec())
    }

    pub async fn coinbase(&self, thread: &thread::Client) -> capnp::Result<RawCoinbase> {
        match self.make {
            Make::Core30 => {
                let mut request = self.core_30().get_coinbase_tx_request();
                request.get().init_context().set_thread(thread_30(thread));
                let transaction = request.send().promise.await?.get()?.get_result()?.to_vec();
                let mut request = self.core_30().get_coinbase_commitment_request();
                request.get().init_context().set_thread(thread_30(thread));
                let commitment = request.send().promise.await?.get()?.get_result()?.to_vec();
                Ok(RawCoinbase::Whole { transaction, commitment })
            }
            Make::Core31 => {
                let mut request = self.client.get_coinbase_tx_request();
                request.get().init_context().set_thread(thread.clone());
                let answer = request.send().promise.await?;
                let said = answer.get()?.get_result()?;
                let outputs = said.get_required_outputs()?.iter().map(|output| Ok(output?.to_vec()));
                Ok(RawCoinbase::Fields {
                    script_prefix: said.get_script_sig_prefix()?.to_vec(),
                    witness: said.get_witness()?.to_vec(),
                    value: said.get_block_reward_remaining(),
                    outputs: outputs.collect::<capnp::Result<_>>()?,
                })
            }
        }
    }

    /// Siblings of the coinbase on the way up the merkle tree.
    pub async fn branch(&self, thread: &thread::Client) -> capnp::Result<Vec<Hash>> {
        let hashes = |list: capnp::data_list::Reader<'_>| list.iter().map(|item| hash(item?)).collect();
        match self.make {
            Make::Core30 => {
                let mut request = self.core_30().get_coinbase_merkle_path_request();
                request.get().init_context().set_thread(thread_30(thread));
                hashes(request.send().promise.await?.get()?.get_result()?)
            }
            Make::Core31 => {
                let mut request = self.client.get_coinbase_merkle_path_request();
                request.get().init_context().set_thread(thread.clone());
                hashes(request.send().promise.await?.get()?.get_result()?)
            }
        }
    }

    /// A template on a new tip, or one with that many satoshi more in fees; `None` when the time is over.
    pub async fn wait_next(
        &self,
        thread: &thread::Client,
        time: Duration,
        threshold_sat: u64,
    ) -> capnp::Result<Option<Handle>> {
        let threshold = i64::try_from(threshold_sat).unwrap_or(NO_FEES).min(NO_FEES);
        let client = match self.make {
            Make::Core30 => {
                let mut request = self.core_30().wait_next_request();
                let mut asked = request.get();
                asked.reborrow().init_context().set_thread(thread_30(thread));
                let mut options = asked.init_options();
                options.set_timeout(milliseconds(time));
                options.set_fee_threshold(threshold);
                let answer = request.send().promise.await?;
                let answer = answer.get()?;
                if !answer.has_result() {
                    return Ok(None);
                }
                let client: block_template_30::Client = answer.get_result()?;
                client.cast_to()
            }
            Make::Core31 => {
                let mut request = self.client.wait_next_request();
                let mut asked = request.get();
                asked.reborrow().init_context().set_thread(thread.clone());
                let mut options = asked.init_options();
                options.set_timeout(milliseconds(time));
                options.set_fee_threshold(threshold);
                let answer = request.send().promise.await?;
                let answer = answer.get()?;
                if !answer.has_result() {
                    return Ok(None);
                }
                answer.get_result()?
            }
        };
        Ok(Some(Handle { client, make: self.make }))
    }

    /// Ends a [`Handle::wait_next`] that is under way.
    pub async fn interrupt(&self) -> capnp::Result<()> {
        match self.make {
            Make::Core30 => drop(self.core_30().interrupt_wait_request().send().promise.await?),
            Make::Core31 => drop(self.client.interrupt_wait_request().send().promise.await?),
        }
        Ok(())
    }

    /// Has the node make a block of this template and take it.
    pub async fn solve(&self, thread: &thread::Client, solution: &Solution<'_>) -> capnp::Result<Verdict> {
        if self.make == Make::Core30 {
            let mut request = self.core_30().submit_solution_request();
            let mut asked = request.get();
            asked.reborrow().init_context().set_thread(thread_30(thread));
            asked.set_version(solution.version);
            asked.set_timestamp(solution.time);
            asked.set_nonce(solution.nonce);
            asked.set_coinbase(solution.coinbase);
            return Ok(Verdict::Processed(request.send().promise.await?.get()?.get_result()));
        }
        let mut request = self.client.submit_solution_request();
        let mut asked = request.get();
        asked.reborrow().init_context().set_thread(thread.clone());
        asked.set_version(solution.version);
        asked.set_timestamp(solution.time);
        asked.set_nonce(solution.nonce);
        asked.set_coinbase(solution.coinbase);
        let answer = request.send().promise.await;
        if !is_unknown_method(&answer) {
            let answer = answer?;
            let answer = answer.get()?;
            return Ok(Verdict::Reason(reason(answer.get_result(), answer.get_reason())?));
        }
        // Core 31 has this under another number, and says yes or no only.
        let mut request = self.client.submit_solution_old7_request();
        let mut asked = request.get();
        asked.reborrow().init_context().set_thread(thread.clone());
        asked.set_version(solution.version);
        asked.set_timestamp(solution.time);
        asked.set_nonce(solution.nonce);
        asked.set_coinbase(solution.coinbase);
        Ok(Verdict::Processed(request.send().promise.await?.get()?.get_result()))
    }

    /// Frees what the node holds.
    pub async fn destroy(&self, thread: &thread::Client) -> capnp::Result<()> {
        let mut request = self.client.destroy_request();
        request.get().init_context().set_thread(thread.clone());
        request.send().promise.await?;
        Ok(())
    }
}
