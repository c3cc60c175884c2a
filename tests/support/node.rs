//! A Bitcoin Core node with a chain of its own, cut off from every other.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{directory, free_port, http, signal, wait_for};

/// Which chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// Signet whose blocks need no signature: difficulty 0.0011, about 5 million hashes a block.
    Signet,
    /// Half of all hashes are blocks.
    Regtest,
}

impl Chain {
    /// What Sluice's configuration and the node's data directory call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Signet => "signet",
            Self::Regtest => "regtest",
        }
    }
}

/// How the pool shows the node who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// By the file that the node writes anew at each start.
    Cookie,
    /// By name and password from both configurations.
    Password,
}

/// The user of [`Login::Password`].
pub const USER: &str = "sluice";
/// The password of [`Login::Password`].
pub const PASSWORD: &str = "only on the loopback";

/// A running node. Ended and removed when dropped.
pub struct Node {
    pub chain: Chain,
    pub login: Login,
    pub rpc_port: u16,
    /// Its port for other nodes and that of the one that it connects to, if it is one of a pair.
    net: Option<(u16, u16)>,
    directory: TempDir,
    process: Child,
}

impl Node {
    /// Starts a node on a new chain and waits until it answers.
    pub fn start(chain: Chain, login: Login) -> Self {
        Self::start_in(chain, login, None)
    }

    /// Two nodes on one new chain, each of which connects to the other.
    pub fn pair(chain: Chain, login: Login) -> [Self; 2] {
        let (one, other) = (free_port(), free_port());
        [(one, other), (other, one)].map(|net| Self::start_in(chain, login, Some(net)))
    }

    fn start_in(chain: Chain, login: Login, net: Option<(u16, u16)>) -> Self {
        let directory = directory();
        let rpc_port = free_port();
        let process = spawn(chain, login, rpc_port, net, &directory);
        let mut node = Self { chain, login, rpc_port, net, directory, process };
        node.wait();
        node
    }

    /// The file of [`Login::Cookie`].
    pub fn cookie(&self) -> PathBuf {
        self.directory.path().join(self.chain.name()).join(".cookie")
    }

    /// The socket of its mining interface.
    pub fn socket(&self) -> PathBuf {
        socket(&self.directory)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Everything of it that lies on disk.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Makes `count` blocks at once, which pay to `address` (regtest).
    pub fn generate(&self, count: u32, address: &str) -> Vec<String> {
        let hashes = self.call("generatetoaddress", json!([count, address]));
        hashes.as_array().unwrap().iter().map(|hash| hash.as_str().unwrap().to_owned()).collect()
    }

    /// Calls `method`; the error is the node's own message, or what went wrong on the way.
    pub fn try_call(&self, method: &str, params: Value) -> Result<Value, String> {
        let login = match self.login {
            Login::Cookie => fs::read_to_string(self.cookie()).map_err(|e| e.to_string())?,
            Login::Password => format!("{USER}:{PASSWORD}"),
        };
        let headers = format!("Authorization: Basic {}\r\n", http::base64(login.as_bytes()));
        let body = json!({"jsonrpc": "1.0", "id": 0, "method": method, "params": params}).to_string();
        let answer = http::ask(self.rpc_port, "POST", "/", &headers, &body).map_err(|e| e.to_string())?;
        let mut answer: Value = serde_json::from_str(&answer.body).map_err(|e| format!("{e}: {answer:?}"))?;
        match &answer["error"] {
            Value::Null => Ok(answer["result"].take()),
            error => Err(error.to_string()),
        }
    }

    /// Calls `method`, which must succeed.
    pub fn call(&self, method: &str, params: Value) -> Value {
        self.try_call(method, params).unwrap_or_else(|e| panic!("{method}: {e}"))
    }

    /// Number of blocks on top of the first one.
    pub fn height(&self) -> u64 {
        self.call("getblockcount", json!([])).as_u64().unwrap()
    }

    /// Hash of the block at `height` of the best chain.
    pub fn hash_at(&self, height: u64) -> String {
        self.call("getblockhash", json!([height])).as_str().unwrap().to_owned()
    }

    /// What the coinbase of `hash` pays: address and satoshi, without the outputs that pay nobody.
    pub fn coinbase(&self, hash: &str) -> Vec<(String, u64)> {
        let block = self.call("getblock", json!([hash, 2]));
        let outputs = block["tx"][0]["vout"].as_array().unwrap();
        let pays = outputs.iter().filter_map(|output| {
            let address = output["scriptPubKey"]["address"].as_str()?;
            // Written with eight decimals: as a number of satoshi once the point is gone.
            let satoshi = (output["value"].as_f64().unwrap() * 1e8).round() as u64;
            Some((address.to_owned(), satoshi))
        });
        pays.collect()
    }

    /// Ends the node as an operator does. (Killed outright it would forget the last blocks, and with them the chain that
    /// the pool is to go on with.)
    pub fn stop(&mut self) {
        signal("TERM", self.process.id());
        wait_for("the node to end", Duration::from_secs(30), || self.process.try_wait().unwrap());
    }

    /// Kills it: it forgets what it has not written, the last blocks too.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Cuts it off from its peers, or lets it have some again.
    pub fn set_network(&self, active: bool) {
        self.call("setnetworkactive", json!([active]));
    }

    /// Hash of its best block, and the work in its chain, as text that sorts; nothing while it does not answer.
    pub fn best(&self) -> Option<(String, String)> {
        let info = self.try_call("getblockchaininfo", json!([])).ok()?;
        let text = |name: &str| info[name].as_str().map(str::to_owned);
        Some((text("bestblockhash")?, text("chainwork")?))
    }

    /// Starts it again on the same data, at the same address.
    pub fn start_again(&mut self) {
        self.process = spawn(self.chain, self.login, self.rpc_port, self.net, &self.directory);
        self.wait();
    }

    /// Stops it where it stands: connections stay open, nothing is answered.
    pub fn freeze(&self) {
        signal("STOP", self.process.id());
    }

    /// Lets it go on after [`Self::freeze`].
    pub fn thaw(&self) {
        signal("CONT", self.process.id());
    }

    fn wait(&mut self) {
        let start = Instant::now();
        wait_for("the node to answer", Duration::from_secs(60), || {
            if let Some(status) = self.process.try_wait().unwrap() {
                panic!("the node ended after {:?}: {status}\n{}", start.elapsed(), self.log());
            }
            self.try_call("getblockchaininfo", json!([])).ok()
        });
    }

    fn log(&self) -> String {
        let path = self.directory.path().join(self.chain.name()).join("debug.log");
        fs::read_to_string(path).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn socket(directory: &TempDir) -> PathBuf {
    directory.path().join("node.sock")
}

fn spawn(chain: Chain, login: Login, rpc_port: u16, net: Option<(u16, u16)>, directory: &TempDir) -> Child {
    let mut command = Command::new(binary());
    match chain {
        Chain::Signet => command.args(["-signet", "-signetchallenge=51"]),
        Chain::Regtest => command.arg("-regtest"),
    };
    if login == Login::Password {
        command.arg(format!("-rpcuser={USER}")).arg(format!("-rpcpassword={PASSWORD}"));
    }
    match net {
        None => command.args(["-listen=0", "-connect=0"]),
        Some((own, other)) => command.args([
            "-listen=1",
            &format!("-bind=127.0.0.1:{own}"),
            &format!("-connect=127.0.0.1:{other}"),
        ]),
    };
    command
        .arg(format!("-datadir={}", directory.path().display()))
        .arg(format!("-rpcport={rpc_port}"))
        .arg(format!("-ipcbind=unix:{}", socket(directory).display()))
        .args(["-server", "-dnsseed=0", "-printtoconsole=0", "-dbcache=4"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("bitcoin-node starts")
}

fn binary() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/bitcoin-node");
        let output =
            Command::new(script).stderr(Stdio::inherit()).output().expect("scripts/bitcoin-node starts");
        assert!(
            output.status.success(),
            "scripts/bitcoin-node found no node and could not build one: see above"
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    })
}
