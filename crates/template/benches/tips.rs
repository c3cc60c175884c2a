//! How soon there is work on a new block, with a real node and 4,000 transactions in its mempool, as ratios to the node's
//! own `getblocktemplate` in the same run. `cargo bench -p template --features ipc --bench tips`.

#[cfg(feature = "ipc")]
#[path = "../tests/node/daemon.rs"]
#[allow(dead_code, clippy::unwrap_used)]
mod daemon;
#[cfg(feature = "ipc")]
#[path = "../tests/node/miner.rs"]
#[allow(dead_code, clippy::unwrap_used)]
mod miner;

#[cfg(not(feature = "ipc"))]
fn main() {
    eprintln!("built without the feature ipc: nothing to measure");
}

#[cfg(feature = "ipc")]
fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(ipc::measure());
}

#[cfg(feature = "ipc")]
mod ipc {
    use std::{sync::Arc, time::Duration};

    use bitcoin::{Amount, Block, Network, OutPoint, Transaction, TxOut, consensus};
    use serde_json::json;
    use template::{
        Auth, Bitcoind, BitcoindConfig, Ipc, Node, Rpc, RpcConfig, Solved, Source, SourceConfig, Template,
    };
    use tokio::{sync::watch::Receiver, time::Instant};

    use super::{
        daemon::Daemon,
        miner::{block, payee, spend},
    };

    const ROUNDS: usize = 20;
    const TRANSACTIONS: u64 = 4_000;
    const FAN: u64 = 200;

    /// A node whose mempool has that many transactions, each by itself.
    async fn busy() -> (Daemon, Arc<Rpc>) {
        let daemon = Daemon::regtest().await;
        let rpc = daemon.rpc();
        let mut coins = Vec::new();
        for _ in 0..TRANSACTIONS / FAN + 101 {
            coins.push(add(&rpc, &rpc.template(None).await.expect("a template")).await);
        }
        let mut fans = Vec::new();
        for coin in &coins[..(TRANSACTIONS / FAN) as usize] {
            let sats = coin.output[0].value.to_sat();
            let mut fan = spend(coin.compute_txid(), sats, 0);
            let each = TxOut { value: Amount::from_sat(sats / FAN - 1_000), script_pubkey: payee() };
            fan.output = vec![each; FAN as usize];
            send(&daemon, &fan).await;
            fans.push(fan);
        }
        while rpc.template(None).await.expect("a template").transaction_count < fans.len() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        add(&rpc, &rpc.template(None).await.expect("a template")).await;
        for fan in &fans {
            for vout in 0..FAN as u32 {
                let mut one = spend(fan.compute_txid(), fan.output[0].value.to_sat(), 500);
                one.input[0].previous_output = OutPoint { txid: fan.compute_txid(), vout };
                send(&daemon, &one).await;
            }
        }
        (daemon, rpc)
    }

    /// Adds a block to the chain; its coinbase.
    async fn add(rpc: &Rpc, template: &Template) -> Transaction {
        let solved = block(template, b"");
        rpc.submit(&solved.block).await.expect("an answer");
        consensus::deserialize::<Block>(&solved.block).expect("a block").txdata.remove(0)
    }

    async fn send(daemon: &Daemon, transaction: &Transaction) {
        daemon.get("sendrawtransaction", json!([consensus::encode::serialize_hex(transaction)])).await;
    }

    fn rpc_config(daemon: &Daemon) -> RpcConfig {
        RpcConfig { url: daemon.url(), auth: Auth::Cookie(daemon.cookie()), network: Network::Regtest }
    }

    pub async fn measure() {
        let (daemon, rpc) = busy().await;
        let watcher = Ipc::new(daemon.socket(), Network::Regtest);
        println!("{TRANSACTIONS} transactions, {ROUNDS} blocks; medians in ms");
        for ipc in [Some(daemon.socket()), None] {
            let name = if ipc.is_some() { "mining interface" } else { "RPC alone" };
            let config = BitcoindConfig { rpc: rpc_config(&daemon), zmq_hashblock: None, ipc };
            let node: Arc<dyn Node> = Arc::new(Bitcoind::new(config).expect("an address"));
            let source = Source::start(vec![node.clone()], SourceConfig::default());
            let mut templates = source.watch();
            let first = templates.wait_for(Option::is_some).await.expect("a template");
            let mut tip = first.as_ref().expect("a template").prev_hash;
            drop(first);
            let (mut any, mut full, mut asked) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                // Of a block without transactions, so that the mempool stays as it is.
                let empty = node.empty(&tip).await.expect("an answer").expect("an empty template");
                let solved: Solved = block(&empty, b"");
                let submit = tokio::spawn({
                    let (rpc, block) = (rpc.clone(), solved.block.clone());
                    async move { rpc.submit(&block).await }
                });
                let changed = async {
                    watcher.tip_changed(&tip).await.expect("a tip");
                    Instant::now()
                };
                let (changed, (had_any, had_full)) =
                    tokio::join!(changed, heard(&mut templates, solved.hash));
                let _ = submit.await;
                any.push(had_any.saturating_duration_since(changed));
                full.push(had_full.saturating_duration_since(changed));
                tip = solved.hash;
                // What the node itself takes on a tip that it has made no template for yet.
                let probe = block(&rpc.empty(&tip).await.expect("an answer").expect("one"), b"probe");
                rpc.submit(&probe.block).await.expect("an answer");
                let since = Instant::now();
                rpc.template(None).await.expect("a template");
                asked.push(since.elapsed());
                tip = probe.hash;
                heard(&mut templates, tip).await;
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            let [any, full, asked] = [any, full, asked].map(median);
            let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
            println!(
                "{name}: from the node's tip to first work {:.1}, to full work {:.1}, getblocktemplate {:.1}: {:.2} x",
                ms(any),
                ms(full),
                ms(asked),
                full.as_secs_f64() / asked.as_secs_f64()
            );
        }
    }

    /// When the first template on `tip` was published, and when the first with transactions.
    async fn heard(templates: &mut Receiver<Option<Arc<Template>>>, tip: share::Hash) -> (Instant, Instant) {
        let on_tip = |template: &Option<Arc<Template>>| {
            template.as_ref().filter(|template| template.prev_hash == tip).map(|t| t.transaction_count)
        };
        templates.wait_for(|template| on_tip(template).is_some()).await.expect("a living source");
        let any = Instant::now();
        templates.wait_for(|t| on_tip(t).is_some_and(|count| count > 0)).await.expect("a living source");
        (any, Instant::now())
    }

    fn median(mut times: Vec<Duration>) -> Duration {
        times.sort();
        times[times.len() / 2]
    }
}
