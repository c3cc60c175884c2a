//! The `sluice` binary as a process: started on a configuration, watched, killed, started again.

use std::{
    fs::{self, OpenOptions},
    net::TcpStream,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use super::{
    directory, free_port, http,
    node::{Login, Node, PASSWORD, USER},
    signal, wait_for,
};

/// What the configuration of a pool says; fields that a test does not care about come from [`Setup::new`].
#[derive(Clone, Debug)]
pub struct Setup {
    pub network: &'static str,
    /// The `[[node]]` table's lines.
    pub node: String,
    pub address: String,
    pub scheme: &'static str,
    pub fee_percent: f64,
    /// Of a share: pinned if both are the same.
    pub difficulty: (f64, f64),
    pub shares_per_minute: f64,
    /// Lines of `[limits]`.
    pub limits: &'static str,
    /// Whether a file that may not grow any more is an error for it and no end.
    pub ignores_limits: bool,
    /// More lines of `[pool]`.
    pub pool: &'static str,
    /// More lines of `[stratum]`.
    pub stratum: String,
    /// More tables.
    pub more: String,
    pub ledger_url: String,
    pub stratum_port: u16,
    pub api_port: u16,
    /// Where spool, blocks and SQLite are.
    pub directory: PathBuf,
}

impl Setup {
    /// For `node`, below `directory`: SQLite, pplns, 1 % fee.
    pub fn new(node: &Node, directory: &Path, address: &str) -> Self {
        Self {
            network: node.chain.name(),
            node: Self::lines(node),
            address: address.to_owned(),
            scheme: "pplns",
            fee_percent: 1.0,
            difficulty: (0.0002, 0.0002),
            shares_per_minute: 10.0,
            limits: "",
            ignores_limits: false,
            pool: "",
            stratum: String::new(),
            more: String::new(),
            ledger_url: format!("sqlite://{}", directory.join("sluice.db").display()),
            stratum_port: free_port(),
            api_port: free_port(),
            directory: directory.to_owned(),
        }
    }

    /// Adds another node, less preferred than those before it.
    pub fn and_node(&mut self, node: &Node) {
        self.node += &format!("[[node]]\n{}", Self::lines(node));
    }

    /// Has the node that was named last spoken to over its mining interface too.
    pub fn over_ipc(&mut self, node: &Node) {
        self.node += &format!("ipc = \"{}\"\n", node.socket().display());
    }

    fn lines(node: &Node) -> String {
        let rpc = format!("rpc = \"http://127.0.0.1:{}\"\n", node.rpc_port);
        match node.login {
            Login::Cookie => format!("{rpc}cookie = \"{}\"\n", node.cookie().display()),
            Login::Password => format!("{rpc}rpc_user = \"{USER}\"\nrpc_password = \"{PASSWORD}\"\n"),
        }
    }

    /// As TOML.
    pub fn text(&self) -> String {
        let Self {
            network,
            node,
            address,
            scheme,
            fee_percent,
            shares_per_minute,
            limits,
            pool,
            stratum,
            more,
            ..
        } = self;
        let (min, max) = self.difficulty;
        // Where there is only one difficulty there is nothing to start with.
        let start = if min < max { format!("start = {min:?}\n") } else { String::new() };
        format!(
            "network = \"{network}\"\n\
             [[node]]\n{node}\
             [pool]\naddress = \"{address}\"\nscheme = \"{scheme}\"\nfee_percent = {fee_percent:?}\n{pool}\n\
             [stratum]\nv1 = [\"127.0.0.1:{}\"]\n{stratum}\n\
             [vardiff]\nshares_per_minute = {shares_per_minute:?}\n{start}min = {min:?}\nmax = {max:?}\n\
             [limits]\n{limits}\n\
             [ledger]\nurl = \"{}\"\nspool = \"{}\"\n\
             [api]\nlisten = \"127.0.0.1:{}\"\n{more}",
            self.stratum_port,
            self.ledger_url,
            self.directory.join("spool").display(),
            self.api_port,
        )
    }
}

/// A block as the API tells it.
#[derive(Clone, Debug)]
pub struct Block {
    pub hash: String,
    pub height: u64,
    pub status: String,
    pub reward_msat: u64,
    pub fee_msat: u64,
}

/// A pool that runs. Killed when dropped; a panic in its log fails the test.
pub struct Pool {
    pub setup: Setup,
    directory: TempDir,
    process: Option<Child>,
}

impl Pool {
    /// Writes the configuration that `change` made of the usual one, starts the pool and waits until it serves.
    pub fn start(node: &Node, address: &str, change: impl FnOnce(&mut Setup)) -> Self {
        let directory = directory();
        let mut setup = Setup::new(node, directory.path(), address);
        change(&mut setup);
        let mut pool = Self { setup, directory, process: None };
        pool.start_again();
        pool
    }

    /// Starts it again on the same configuration and data, and waits until it serves.
    pub fn start_again(&mut self) {
        let config = self.directory.path().join("sluice.toml");
        fs::write(&config, self.setup.text()).unwrap();
        let arguments = ["run", "--config", "sluice.toml"];
        let mut command = sluice(self.directory.path());
        if self.setup.ignores_limits {
            let own = command.get_program().to_owned();
            let others: Vec<_> = command.get_envs().map(|(key, _)| key.to_owned()).collect();
            command = Command::new("env");
            command
                .arg("--ignore-signal=XFSZ")
                .arg(own)
                .current_dir(self.directory.path())
                .stdin(Stdio::null());
            for key in &others {
                command.env_remove(key);
            }
        }
        self.process = Some(start(command.args(arguments), &self.log_path()));
        wait_for("the pool to serve", Duration::from_secs(30), || {
            if let Some(status) = self.process.as_mut()?.try_wait().unwrap() {
                panic!("the pool ended by itself: {status}\n{}", self.log());
            }
            let healthy = http::get(self.setup.api_port, "/healthz").is_ok_and(|answer| answer.status == 200);
            (healthy && TcpStream::connect(("127.0.0.1", self.setup.stratum_port)).is_ok()).then_some(())
        });
    }

    /// Starts it so that it dies at `point` of the ledger's work or of a payment, as of a `kill -9`, and waits until it has.
    pub fn die_at(&mut self, point: &str) {
        fs::write(self.directory.path().join("sluice.toml"), self.setup.text()).unwrap();
        let log = OpenOptions::new().create(true).append(true).open(self.log_path()).unwrap();
        let mut command = sluice(self.directory.path());
        command.args(["run", "--config", "sluice.toml"]).env("SLUICE_DIES_AT", point);
        let mut process = Process(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
        let status = wait_for(&format!("the pool to die at {point}"), Duration::from_secs(60), || {
            process.0.try_wait().unwrap()
        });
        assert_eq!(status.signal(), Some(9), "{point}: {status}");
    }

    /// Runs `sluice` with these arguments beside the pool, on its configuration; what it says, if it succeeds.
    pub fn ask(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = sluice(self.directory.path());
        let output = command.args(arguments).args(["--config", "sluice.toml"]).output().unwrap();
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(said(&output.stdout)) } else { Err(said(&output.stderr)) }
    }

    /// The same: its exit status, and all that it says.
    pub fn outcome(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = sluice(self.directory.path());
        let output = command.args(arguments).args(["--config", "sluice.toml"]).output().unwrap();
        let said = [&output.stdout[..], &output.stderr[..]].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
        (output.status.code().expect("it ends by itself"), said)
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("the pool runs");
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Asks it to end, as an operator does, and waits for that.
    pub fn terminate(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("the pool runs");
        signal("TERM", process.id());
        let status = wait_for("the pool to end after SIGTERM", Duration::from_secs(20), || {
            process.try_wait().unwrap()
        });
        self.check_log();
        status
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.try_wait().unwrap().is_none())
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the pool runs").id()
    }

    /// One sample of `/metrics`, by name and what stands in its label.
    pub fn metric(&self, name: &str, label: &str) -> u64 {
        let page = http::get(self.setup.api_port, "/metrics").unwrap().body;
        let line = page.lines().find(|line| line.starts_with(name) && line.contains(&format!("\"{label}\"")));
        let line = line.unwrap_or_else(|| panic!("no {name} with {label:?} in {page}"));
        line.rsplit(' ').next().unwrap().parse().unwrap_or_else(|e| panic!("{e}: {line}"))
    }

    /// How many connections were closed for `reason` so far.
    pub fn closed(&self, reason: &str) -> u64 {
        self.metric("sluice_closed_connections_total", reason)
    }

    /// Waits until `count` connections were closed for `reason` since `before` was asked.
    pub fn wait_closed(&self, reason: &str, before: u64, count: u64) {
        wait_for(&format!("{count} connections closed for {reason}"), Duration::from_secs(20), || {
            (self.closed(reason) >= before + count).then_some(())
        });
    }

    /// How many submissions were refused for `reason` so far.
    pub fn refused(&self, reason: &str) -> u64 {
        self.metric("sluice_rejects_total", reason)
    }

    /// Memory in use, in bytes.
    pub fn memory(&self) -> u64 {
        let pid = self.pid();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// The answer of an API path, which must be JSON and no error.
    pub fn api(&self, path: &str) -> Value {
        self.try_api(path).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// The same, for a path that may not be there yet.
    pub fn try_api(&self, path: &str) -> Result<Value, String> {
        let answer = http::get(self.setup.api_port, path).map_err(|e| e.to_string())?;
        if answer.status != 200 {
            return Err(format!("{answer:?}"));
        }
        serde_json::from_str(&answer.body).map_err(|e| format!("{e}: {answer:?}"))
    }

    /// The blocks that it found, the newest first.
    pub fn blocks(&self) -> Vec<Block> {
        let answer = self.api("/api/v1/blocks?limit=500");
        let number =
            |value: &Value| value.as_u64().unwrap_or_else(|| panic!("not a number: {value} in {answer}"));
        let text = |value: &Value| {
            value.as_str().unwrap_or_else(|| panic!("no text: {value} in {answer}")).to_owned()
        };
        let rows = answer["blocks"].as_array().unwrap_or_else(|| panic!("no blocks: {answer}"));
        rows.iter()
            .map(|row| Block {
                hash: text(&row["hash"]),
                height: number(&row["height"]),
                status: text(&row["status"]),
                reward_msat: number(&row["reward_msat"]),
                fee_msat: number(&row["fee_msat"]),
            })
            .collect()
    }

    /// Everything that it logged so far, over all its starts.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Everything of it that lies on disk.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// Panics if the pool did.
    pub fn check_log(&self) {
        let log = self.log();
        let panics: Vec<&str> = log.lines().filter(|line| line.contains("panicked at")).collect();
        assert!(panics.is_empty(), "the pool panicked: {panics:#?}");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines.len().saturating_sub(60);
            eprintln!("--- the pool's log, last of {} lines\n{}\n---", lines.len(), lines[tail..].join("\n"));
        } else {
            self.check_log();
        }
    }
}

/// A process that is killed when dropped.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `sluice`, to be run in `directory` without anything of this environment that could configure it.
pub fn sluice(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("SLUICE")) {
        command.env_remove(key);
    }
    command.current_dir(directory).stdin(Stdio::null());
    command
}

/// The same, started, with all that it says in `log`.
pub fn spawn(arguments: &[&str], directory: &Path, log: &Path) -> Child {
    start(sluice(directory).args(arguments), log)
}

fn start(command: &mut Command, log: &Path) -> Child {
    let log = OpenOptions::new().create(true).append(true).open(log).unwrap();
    command.stdout(log.try_clone().unwrap()).stderr(log).spawn().expect("sluice starts")
}
