//! The servers that are measured, each as a process of its own. They obey standard input, line by line, and end with
//! it, so that none outlives who started it.

use std::{
    io::BufRead as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use sandbox::{
    floor::{self, v2::Certified},
    swarm::Protocol,
};
use template::{Node as _, Submitted};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
};

use super::apart::{Apart, Threads};
use crate::{config::Config, failure::Failure, run::Running};

/// What the pool's coinbases say.
pub const TAG: &str = "/sluice bench/";
/// Whom the pool and its miners are paid to: nobody has the key.
pub const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
/// Threads that serve sockets, of either server.
const THREADS: usize = 2;
/// Orders that wait to be obeyed; whoever gives more waits.
const ORDERS: usize = 4;

/// Said when a server can be connected to, with the address.
pub const LISTENING: &str = "listening ";
/// Asks the pool to find a block; it says this too when it has one.
pub const FIND: &str = "find";
/// Has the pool's node take the block that was found.
pub const BLOCK: &str = "block";

/// The floor: sends each job that it is given, in hex, to all connections.
pub async fn floor(listen: SocketAddr, protocol: Protocol, signs: bool) -> Result<(), Failure> {
    let (mut orders, _interrupt) = orders()?;
    let Some(first) = orders.recv().await else { return Ok(()) };
    let (job, jobs) = watch::channel(bytes(&first)?);
    let threads = Threads::start("floor", THREADS)?;
    let cannot = |error| Failure::unavailable(format!("cannot listen on {listen}: {error}"));
    let listener = std::net::TcpListener::bind(listen).map_err(cannot)?;
    listener.set_nonblocking(true).map_err(cannot)?;
    let address = listener.local_addr().map_err(cannot)?;
    threads.handle().spawn(async move {
        let serve = async || {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            match protocol {
                Protocol::V1 => floor::serve(listener, jobs).await,
                Protocol::V2 if signs => floor::v2::serve(listener, jobs, Certified::Always).await?,
                Protocol::V2 => floor::v2::serve(listener, jobs, Certified::Once).await?,
            }
            Ok::<_, std::io::Error>(())
        };
        if let Err(error) = serve().await {
            tracing::error!(%error, "cannot serve");
        }
    });
    println!("{LISTENING}{address}");
    while let Some(line) = orders.recv().await {
        job.send_replace(bytes(&line)?);
    }
    Ok(())
}

/// The pool as `sluice run` runs it, with ledger and spool in `dir`, on a chain of its own.
pub async fn pool(dir: &Path, protocol: Protocol) -> Result<(), Failure> {
    let (mut orders, _interrupt) = orders()?;
    let (node, _threads) = Apart::start()?;
    let config = Config::load(&write_config(dir, protocol)?, std::iter::empty())?;
    let running = Running::start(&config, vec![node.clone()]).await?;
    let address = match protocol {
        Protocol::V1 => running.v1.first().map(ToString::to_string),
        Protocol::V2 => running.v2.first().map(|url| format!("{}:{}", url.host, url.port)),
    };
    if let Some(address) = address {
        println!("{LISTENING}{address}");
    }
    let mut found = None;
    while let Some(order) = orders.recv().await {
        match (order.as_str(), found.take()) {
            (FIND, _) => {
                let block = node.find(&config.terms.pool_script).await;
                found = Some(block.map_err(Failure::unavailable)?);
                println!("{FIND}");
            }
            (BLOCK, Some(block)) => match node.submit(&block).await.map_err(Failure::unavailable)? {
                Submitted::Accepted => {}
                other => tracing::warn!(?other, "a miner was faster: no new block"),
            },
            (other, _) => tracing::warn!(other, "not understood"),
        }
    }
    running.stop().await;
    Ok(())
}

/// Every hash meets a target of difficulty 1e-12, so the swarm's shares are good without hashing; the pool cannot know,
/// and judges them as any other.
fn write_config(dir: &Path, protocol: Protocol) -> Result<PathBuf, Failure> {
    let version = match protocol {
        Protocol::V1 => "v1",
        Protocol::V2 => "v2",
    };
    let (spool, database) = (dir.join("spool"), dir.join("sluice.db"));
    let text = format!(
        "network = \"regtest\"\n[[node]]\nrpc = \"http://127.0.0.1:1\"\nrpc_user = \"none\"\nrpc_password = \"none\"\n\
         [pool]\ntag = \"{TAG}\"\naddress = \"{ADDRESS}\"\n\
         [stratum]\n{version} = [\"127.0.0.1:0\"]\nshards = {THREADS}\n\
         [vardiff]\nstart = 1e-12\nmin = 1e-12\nmax = 1e-12\n\
         [limits]\nconnections = 19500\nsubmits_per_second = 100000\n\
         [ledger]\nurl = \"sqlite://{}\"\nspool = \"{}\"\n[api]\nlisten = \"127.0.0.1:0\"\n",
        database.display(),
        spool.display()
    );
    let path = dir.join("sluice.toml");
    std::fs::write(&path, text)
        .map_err(|error| Failure::unavailable(format!("cannot write {}: {error}", path.display())))?;
    Ok(path)
}

/// The lines of standard input. Ctrl-C in a terminal goes to all processes in it: whoever started us ends us.
fn orders() -> Result<(mpsc::Receiver<String>, Signal), Failure> {
    let interrupt = signal(SignalKind::interrupt())
        .map_err(|error| Failure::unavailable(format!("cannot listen for signals: {error}")))?;
    let (give, orders) = mpsc::channel(ORDERS);
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if give.blocking_send(line).is_err() {
                return;
            }
        }
    });
    Ok((orders, interrupt))
}

fn bytes(hex: &str) -> Result<floor::Job, Failure> {
    let bytes =
        hex::decode(hex).map_err(|error| Failure::usage(format!("a job in hex is wanted: {error}")))?;
    Ok(Arc::from(bytes))
}
