//! A real Bitcoin node on a chain of its own, alive for as long as this value is.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use bitcoin::Network;
use serde_json::{Value, json};
use template::{Auth, Node, Rpc, RpcConfig};
use tokio::time::{Instant, sleep};

#[path = "../../../../tests/support/ports.rs"]
mod ports;

use ports::free_port;

pub struct Daemon {
    child: Child,
    dir: tempfile::TempDir,
    rpc_port: u16,
    p2p_port: u16,
    arguments: Vec<String>,
}

/// The binary: `$BITCOIN_NODE`, else what `scripts/bitcoin-node` prints (it builds one if need be).
fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("BITCOIN_NODE") {
        return path.into();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/bitcoin-node");
    let said =
        Command::new(&script).stderr(Stdio::inherit()).output().expect("scripts/bitcoin-node can be run");
    let path = String::from_utf8(said.stdout).expect("a path in UTF-8");
    assert!(
        said.status.success() && !path.trim().is_empty(),
        "no Bitcoin node for this test: {} failed; set BITCOIN_NODE to the path of one",
        script.display()
    );
    path.trim().into()
}

impl Daemon {
    /// Starts a node with these arguments besides the usual ones, and waits until it answers.
    pub async fn start(arguments: &[&str]) -> Daemon {
        // Not in what may be a long $TMPDIR: the path of a socket has 107 bytes at most.
        let dir =
            tempfile::Builder::new().prefix("node").tempdir_in("/tmp").expect("a directory for the node");
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let (rpc_port, p2p_port) = (free_port(), free_port());
        let child = spawn(dir.path(), rpc_port, p2p_port, &arguments);
        let mut daemon = Daemon { child, dir, rpc_port, p2p_port, arguments };
        daemon.wait().await;
        daemon
    }

    pub async fn regtest() -> Daemon {
        Self::start(&["-regtest"]).await
    }

    /// Kills it as a power cut would: it forgets the latest blocks.
    pub fn kill(&mut self) {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
    }

    /// Ends it as an operator would: its chain stays as it is.
    pub async fn stop(&mut self) {
        self.get("stop", json!([])).await;
        while self.child.try_wait().expect("our own child").is_none() {
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts it again on the same ports, with a new cookie.
    pub async fn restart(&mut self) {
        self.child = spawn(self.dir.path(), self.rpc_port, self.p2p_port, &self.arguments);
        self.wait().await;
    }

    async fn wait(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
                panic!("the node ended with {status}: {log}");
            }
            if self.cookie().exists() && self.ask("getblockcount", json!([])).await.is_ok() {
                return;
            }
            assert!(Instant::now() < deadline, "the node does not answer");
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn chain_dir(&self) -> &'static str {
        let is = |name: &str| self.arguments.iter().any(|argument| argument == name);
        match () {
            () if is("-signet") => "signet",
            () if is("-chain=main") => "",
            () => "regtest",
        }
    }

    pub fn cookie(&self) -> PathBuf {
        self.dir.path().join(self.chain_dir()).join(".cookie")
    }

    /// Where its mining interface listens.
    #[cfg(feature = "ipc")]
    pub fn socket(&self) -> PathBuf {
        socket(self.dir.path())
    }

    /// What it has written to its log.
    #[cfg(feature = "ipc")]
    pub fn debug_log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join(self.chain_dir()).join("debug.log")).expect("a log")
    }

    /// Sends it a signal: `STOP` freezes it as a node that hangs, `CONT` lets it go on.
    #[cfg(feature = "ipc")]
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().expect("kill can be run");
        assert!(sent.success());
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.rpc_port)
    }

    pub fn p2p(&self) -> String {
        format!("127.0.0.1:{}", self.p2p_port)
    }

    pub fn rpc_with(&self, auth: Auth, network: Network) -> Rpc {
        Rpc::new(RpcConfig { url: self.url(), auth, network }).expect("a good address")
    }

    /// The client under test.
    pub fn rpc(&self) -> Arc<Rpc> {
        let network = if self.chain_dir() == "signet" { Network::Signet } else { Network::Regtest };
        Arc::new(self.rpc_with(Auth::Cookie(self.cookie()), network))
    }

    pub fn node(&self) -> Arc<dyn Node> {
        self.rpc()
    }

    /// Any question, past the client under test.
    pub async fn ask(&self, method: &str, params: Value) -> Result<Value, String> {
        let cookie = std::fs::read_to_string(self.cookie()).map_err(|e| e.to_string())?;
        let (user, password) = cookie.trim().split_once(':').ok_or("no cookie")?;
        let body = json!({ "jsonrpc": "2.0", "id": 0, "method": method, "params": params });
        let client = reqwest::Client::builder().no_proxy().build().map_err(|e| e.to_string())?;
        let request = client.post(self.url()).basic_auth(user, Some(password)).body(body.to_string());
        let response = request.send().await.map_err(|e| e.to_string())?;
        let text = response.text().await.map_err(|e| e.to_string())?;
        let reply: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
        if reply["error"].is_null() { Ok(reply["result"].clone()) } else { Err(reply["error"].to_string()) }
    }

    /// The same, where it must work.
    pub async fn get(&self, method: &str, params: Value) -> Value {
        self.ask(method, params).await.unwrap_or_else(|e| panic!("{method}: {e}"))
    }
}

#[cfg(feature = "ipc")]
fn socket(dir: &Path) -> PathBuf {
    dir.join("ipc.sock")
}

fn spawn(dir: &Path, rpc_port: u16, p2p_port: u16, arguments: &[String]) -> Child {
    let log = std::fs::File::create(dir.join("log")).expect("a log");
    let mut command = Command::new(binary());
    command
        .arg(format!("-datadir={}", dir.display()))
        .arg(format!("-rpcport={rpc_port}"))
        .arg(format!("-port={p2p_port}"))
        .args(["-server", "-dnsseed=0", "-fixedseeds=0", "-printtoconsole=0", "-dbcache=4"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log);
    #[cfg(feature = "ipc")]
    command.arg(format!("-ipcbind=unix:{}", socket(dir).display()));
    // Alone, unless the test says who else is there.
    if !arguments.iter().any(|argument| argument.starts_with("-listen")) {
        command.args(["-listen=0"]);
    }
    if !arguments.iter().any(|argument| argument.starts_with("-connect")) {
        command.args(["-connect=0"]);
    }
    command.spawn().expect("the node starts")
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Dead already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
