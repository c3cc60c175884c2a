//! The words of Core 30, which has other numbers for the same methods: an interpreter between the client under test and
//! a real node says everything as Core 30 does. Templates, transactions and verdicts are the node's.

use std::{path::PathBuf, rc::Rc, time::Duration};

use bitcoin::{Block, Network, TxOut, consensus};
use bitcoin_capnp_types::{
    capnp::{self, capability::FromClientHook, message::ReaderOptions},
    capnp_rpc::{RpcSystem, new_client, rpc_twoparty_capnp::Side, twoparty::VatNetwork},
    init_capnp as init_31, mining_capnp as mining_31, proxy_capnp as proxy_31,
};
use bitcoin_capnp_types_30::{init_capnp as init_30, mining_capnp as mining_30, proxy_capnp as proxy_30};
use template::{Ipc, Node as _, NodeError, Submitted, Template, Tip};
use tokio::{
    net::{UnixListener, UnixStream},
    time::{sleep, timeout},
};
use tokio_util::compat::{TokioAsyncReadCompatExt as _, TokioAsyncWriteCompatExt as _};

use super::{Way, a_thousand_blocks, assert_same, chain, grown, over_rpc, send};
use crate::{daemon::Daemon, miner::block};

/// Serves one connection after the other at `path`, from a thread of its own, for as long as the process lives.
fn interpret(node: PathBuf, path: PathBuf) {
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let listener = UnixListener::from_std(listener).unwrap();
            loop {
                let (ours, _) = listener.accept().await.unwrap();
                let theirs = UnixStream::connect(&node).await.unwrap();
                let real: init_31::init::Client = {
                    let (reader, writer) = theirs.into_split();
                    let (reader, writer) = (reader.compat(), writer.compat_write());
                    let streams = VatNetwork::new(reader, writer, Side::Client, ReaderOptions::new());
                    let mut system = RpcSystem::new(Box::new(streams), None);
                    let real = system.bootstrap(Side::Server);
                    tokio::task::spawn_local(system);
                    real
                };
                let front: init_30::init::Client = new_client(Init { real });
                let (reader, writer) = ours.into_split();
                let (reader, writer) = (reader.compat(), writer.compat_write());
                let streams = VatNetwork::new(reader, writer, Side::Server, ReaderOptions::new());
                tokio::task::spawn_local(RpcSystem::new(Box::new(streams), Some(front.client)));
            }
        });
    });
}

/// The thread that the caller has chosen, in the node's own type.
fn thread(context: capnp::Result<proxy_30::context::Reader<'_>>) -> capnp::Result<proxy_31::thread::Client> {
    Ok(context?.get_thread()?.cast_to())
}

struct Init {
    real: init_31::init::Client,
}

struct Mining {
    real: mining_31::mining::Client,
    /// Core 30 takes no thread for some methods.
    own: proxy_31::thread::Client,
}

struct BlockTemplate {
    real: mining_31::block_template::Client,
}

impl init_30::init::Server for Init {
    async fn construct(
        self: Rc<Self>,
        _: init_30::init::ConstructParams,
        mut results: init_30::init::ConstructResults,
    ) -> capnp::Result<()> {
        let answer = self.real.construct_request().send().promise.await?;
        results.get().set_thread_map(answer.get()?.get_thread_map()?.cast_to());
        Ok(())
    }

    async fn make_mining(
        self: Rc<Self>,
        params: init_30::init::MakeMiningParams,
        mut results: init_30::init::MakeMiningResults,
    ) -> capnp::Result<()> {
        let threads = self.real.construct_request().send().promise.await?.get()?.get_thread_map()?;
        let own = threads.make_thread_request().send().promise.await?.get()?.get_result()?;
        let mut request = self.real.make_mining_request();
        request.get().init_context().set_thread(thread(params.get()?.get_context())?);
        let real = request.send().promise.await?.get()?.get_result()?;
        results.get().set_result(new_client(Mining { real, own }));
        Ok(())
    }
}

impl mining_30::mining::Server for Mining {
    async fn is_test_chain(
        self: Rc<Self>,
        params: mining_30::mining::IsTestChainParams,
        mut results: mining_30::mining::IsTestChainResults,
    ) -> capnp::Result<()> {
        let mut request = self.real.is_test_chain_request();
        request.get().init_context().set_thread(thread(params.get()?.get_context())?);
        results.get().set_result(request.send().promise.await?.get()?.get_result());
        Ok(())
    }

    async fn get_tip(
        self: Rc<Self>,
        params: mining_30::mining::GetTipParams,
        mut results: mining_30::mining::GetTipResults,
    ) -> capnp::Result<()> {
        let mut request = self.real.get_tip_request();
        request.get().init_context().set_thread(thread(params.get()?.get_context())?);
        let answer = request.send().promise.await?;
        let (has, tip) = (answer.get()?.get_has_result(), answer.get()?.get_result()?);
        results.get().set_has_result(has);
        let mut said = results.get().init_result();
        said.set_hash(tip.get_hash()?);
        said.set_height(tip.get_height());
        Ok(())
    }

    async fn wait_tip_changed(
        self: Rc<Self>,
        params: mining_30::mining::WaitTipChangedParams,
        mut results: mining_30::mining::WaitTipChangedResults,
    ) -> capnp::Result<()> {
        let mut request = self.real.wait_tip_changed_request();
        let mut asked = request.get();
        asked.reborrow().init_context().set_thread(thread(params.get()?.get_context())?);
        asked.set_current_tip(params.get()?.get_current_tip()?);
        asked.set_timeout(params.get()?.get_timeout());
        let answer = request.send().promise.await?;
        let tip = answer.get()?.get_result()?;
        let mut said = results.get().init_result();
        said.set_hash(tip.get_hash()?);
        said.set_height(tip.get_height());
        Ok(())
    }

    async fn create_new_block(
        self: Rc<Self>,
        params: mining_30::mining::CreateNewBlockParams,
        mut results: mining_30::mining::CreateNewBlockResults,
    ) -> capnp::Result<()> {
        let options = params.get()?.get_options()?;
        let mut request = self.real.create_new_block_request();
        let mut asked = request.get();
        asked.reborrow().init_context().set_thread(self.own.clone());
        asked.set_cooldown(false);
        let mut passed = asked.init_options();
        passed.set_use_mempool(options.get_use_mempool());
        passed.set_block_reserved_weight(options.get_block_reserved_weight());
        passed.set_coinbase_output_max_additional_sigops(options.get_coinbase_output_max_additional_sigops());
        let real = request.send().promise.await?.get()?.get_result()?;
        results.get().set_result(new_client(BlockTemplate { real }));
        Ok(())
    }

    async fn check_block(
        self: Rc<Self>,
        params: mining_30::mining::CheckBlockParams,
        mut results: mining_30::mining::CheckBlockResults,
    ) -> capnp::Result<()> {
        let options = params.get()?.get_options()?;
        let mut request = self.real.check_block_request();
        let mut asked = request.get();
        asked.reborrow().init_context().set_thread(self.own.clone());
        asked.set_block(params.get()?.get_block()?);
        let mut passed = asked.init_options();
        passed.set_check_merkle_root(options.get_check_merkle_root());
        passed.set_check_pow(options.get_check_pow());
        let answer = request.send().promise.await?;
        let answer = answer.get()?;
        results.get().set_reason(answer.get_reason()?);
        results.get().set_result(answer.get_result());
        Ok(())
    }
}

impl mining_30::block_template::Server for BlockTemplate {
    async fn destroy(
        self: Rc<Self>,
        params: mining_30::block_template::DestroyParams,
        _: mining_30::block_template::DestroyResults,
    ) -> capnp::Result<()> {
        let mut request = self.real.destroy_request();
        request.get().init_context().set_thread(thread(params.get()?.get_context())?);
        request.send().promise.await.map(drop)
    }

    async fn get_block(
        self: Rc<Self>,
        params: mining_30::block_template::GetBlockParams,
        mut results: mining_30::block_template::GetBlockResults,
    ) -> capnp::Result<()> {
        let mut request = self.real.get_block_request();
        request.get().init_context().set_thread(thread(params.get()?.get_context())?);
        results.get().set_result(request.send().promise.await?.get()?.get_result()?);
        Ok(())
    }

    /// The dummy of the block itself, as Core 30 had it.
    async fn get_coinbase_tx(
        self: Rc<Self>,
        params: mining_30::block_template::GetCoinbaseTxParams,
        mut results: mining_30::block_template::GetCoinbaseTxResults,
    ) -> capnp::Result<()> {
        let mut request = self.real.get_block_request();
        request.get().init_context().set_thread(thread(params.get()?.get_context())?);
        let answer = request.send().promise.await?;
        let block: Block = consensus::deserialize(answer.get()?.get_result()?).unwrap();
        results.get().set_result(&consensus::serialize(&block.txdata[0]));
        Ok(())
    }

    async fn get_coinbase_commitment(
        self: Rc<Self>,
        params: mining_30::block_template::GetCoinbaseCommitmentParams,
        mut results: mining_30::block_template::GetCoinbaseCommitmentResults,
    ) -> capnp::Result<()> {
        let mut request = self.real.get_coinbase_tx_request();
        request.get().init_context().set_thread(thread(params.get()?.get_context())?);
        let answer = request.send().promise.await?;
        let outputs = answer.get()?.get_result()?.get_required_outputs()?;
        let output: TxOut = consensus::deserialize(outputs.get(0)?).unwrap();
        results.get().set_result(output.script_pubkey.as_bytes());
        Ok(())
    }

    async fn get_coinbase_merkle_path(
        self: Rc<Self>,
        params: mining_30::block_template::GetCoinbaseMerklePathParams,
        mut results: mining_30::block_template::GetCoinbaseMerklePathResults,
    ) -> capnp::Result<()> {
        let mut request = self.real.get_coinbase_merkle_path_request();
        request.get().init_context().set_thread(thread(params.get()?.get_context())?);
        let answer = request.send().promise.await?;
        let path = answer.get()?.get_result()?;
        let mut said = results.get().init_result(path.len());
        for at in 0..path.len() {
            said.set(at, path.get(at)?);
        }
        Ok(())
    }

    async fn submit_solution(
        self: Rc<Self>,
        params: mining_30::block_template::SubmitSolutionParams,
        mut results: mining_30::block_template::SubmitSolutionResults,
    ) -> capnp::Result<()> {
        let solution = params.get()?;
        let mut request = self.real.submit_solution_old7_request();
        let mut asked = request.get();
        asked.reborrow().init_context().set_thread(thread(solution.get_context())?);
        asked.set_version(solution.get_version());
        asked.set_timestamp(solution.get_timestamp());
        asked.set_nonce(solution.get_nonce());
        asked.set_coinbase(solution.get_coinbase()?);
        results.get().set_result(request.send().promise.await?.get()?.get_result());
        Ok(())
    }

    async fn wait_next(
        self: Rc<Self>,
        params: mining_30::block_template::WaitNextParams,
        mut results: mining_30::block_template::WaitNextResults,
    ) -> capnp::Result<()> {
        let options = params.get()?.get_options()?;
        let mut request = self.real.wait_next_request();
        let mut asked = request.get();
        asked.reborrow().init_context().set_thread(thread(params.get()?.get_context())?);
        let mut passed = asked.init_options();
        passed.set_timeout(options.get_timeout());
        passed.set_fee_threshold(options.get_fee_threshold());
        let answer = request.send().promise.await?;
        if answer.get()?.has_result() {
            let real = answer.get()?.get_result()?;
            results.get().set_result(new_client(BlockTemplate { real }));
        }
        Ok(())
    }

    async fn interrupt_wait(
        self: Rc<Self>,
        _: mining_30::block_template::InterruptWaitParams,
        _: mining_30::block_template::InterruptWaitResults,
    ) -> capnp::Result<()> {
        self.real.interrupt_wait_request().send().promise.await.map(drop)
    }
}

/// A client that hears the node in the words of Core 30.
fn ipc_30(daemon: &Daemon) -> std::sync::Arc<Ipc> {
    let path = daemon.socket().with_file_name("ipc30.sock");
    interpret(daemon.socket(), path.clone());
    std::sync::Arc::new(Ipc::new(path, Network::Regtest))
}

#[tokio::test]
async fn templates_waits_and_blocks_in_the_words_of_core_30() {
    let (daemon, coins) = grown(110).await;
    let (ipc, rpc) = (ipc_30(&daemon), daemon.rpc());
    let template = ipc.template().await.unwrap();
    assert_same(&template, &over_rpc(&rpc, 0).await);

    let waiting = |threshold| {
        let ipc = ipc.clone();
        tokio::spawn(async move { ipc.next(threshold).await })
    };
    let paying = waiting(10_000);
    let sent = chain(coins[0], &[300, 20_000, 400]);
    for transaction in &sent {
        send(&daemon, transaction).await;
    }
    let paying = timeout(Duration::from_secs(10), paying).await.unwrap().unwrap().unwrap();
    assert!(paying.coinbase_value >= template.coinbase_value + 10_000);
    let template = ipc.template().await.unwrap();
    assert_same(&template, &over_rpc(&rpc, sent.len()).await);
    let empty = ipc.empty().await.unwrap();
    assert_eq!((empty.transaction_count, empty.prev_hash), (0, template.prev_hash));

    // Given up, and free for the next.
    let given_up = waiting(u64::MAX);
    sleep(Duration::from_millis(200)).await;
    given_up.abort();
    let (next, known) = (waiting(u64::MAX), ipc.tip().await.unwrap());
    let changed = tokio::spawn({
        let ipc = ipc.clone();
        async move { ipc.tip_changed(&known.hash).await }
    });
    sleep(Duration::from_millis(200)).await;

    let accept = async |block: &[u8]| ipc.submit(block).await.unwrap().unwrap();
    let greedy = Template { coinbase_value: template.coinbase_value + 1, ..template.clone() };
    assert_eq!(accept(&block(&greedy, b"").block).await, Submitted::Refused("bad-cb-amount".into()));
    let (solved, sibling) = (block(&template, b"1"), block(&template, b"2"));
    assert_eq!(accept(&solved.block).await, Submitted::Accepted);
    let tip = Tip { hash: solved.hash, height: 111 };
    assert_eq!(timeout(Duration::from_secs(5), changed).await.unwrap().unwrap().unwrap(), tip);
    let next = timeout(Duration::from_secs(5), next).await.unwrap().unwrap().unwrap();
    assert_eq!((next.prev_hash, next.height), (solved.hash, 112));
    assert_eq!(accept(&sibling.block).await, Submitted::Unclear("inconclusive".into()));

    // Core 30 has no way to take a block that it knows nothing of.
    send(&daemon, &chain(coins[1], &[700])[0]).await;
    let foreign = over_rpc(&rpc, 1).await;
    assert!(ipc.submit(&block(&foreign, b"").block).await.is_none());
    assert_eq!(rpc.tip().await.unwrap(), tip);
    assert!(matches!(ipc.tip().await, Ok(same) if same == tip), "the connection is as good as before");
    let wrong = Ipc::new(daemon.socket().with_file_name("ipc30.sock"), Network::Bitcoin);
    assert!(matches!(wrong.tip().await, Err(NodeError::Chain { .. })));
}

#[tokio::test]
async fn a_thousand_blocks_in_the_words_of_core_30() {
    let daemon = Daemon::regtest().await;
    let ipc = ipc_30(&daemon);
    a_thousand_blocks(&daemon, Way::Ipc(ipc)).await;
}
