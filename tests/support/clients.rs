//! Clients of the Stratum Reference Implementation, as its authors wrote them, and our own miner: as processes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use tempfile::TempDir;

use super::{
    directory, free_port,
    pool::{Pool, Setup, spawn},
    signal, wait_for,
};

/// Has the pool of `setup` serve Stratum V2 on a port of its own.
pub fn serve_v2(setup: &mut Setup) {
    setup.stratum += &format!("v2 = [\"127.0.0.1:{}\"]\n", free_port());
}

/// Where Stratum V2 is served, as the pool tells everybody.
#[derive(Clone, Debug)]
pub struct Place {
    /// `stratum2+tcp://host:port/KEY`.
    pub url: String,
    pub port: u16,
    pub key: String,
}

impl Place {
    /// By the pool's API.
    pub fn of(pool: &Pool) -> Self {
        let answer = pool.api("/api/v1/pool");
        let urls = answer["stratum_urls"].as_array().unwrap_or_else(|| panic!("no stratum_urls: {answer}"));
        let url = urls.iter().filter_map(|url| url.as_str()).find(|url| url.starts_with("stratum2+tcp://"));
        let url = url.unwrap_or_else(|| panic!("no URL of Stratum V2: {answer}"));
        let (place, key) = url.strip_prefix("stratum2+tcp://").unwrap().split_once('/').unwrap();
        let port = place.rsplit_once(':').unwrap().1.parse().unwrap();
        Self { url: url.to_owned(), port, key: key.to_owned() }
    }
}

/// A process with a directory of its own and all that it says in a file there. Killed when dropped.
pub struct Program {
    name: &'static str,
    process: Child,
    directory: TempDir,
}

/// SRI's proxy from V1 to V2, where V1 miners connect to.
pub struct Translator {
    pub program: Program,
    pub port: u16,
}

impl Translator {
    /// Starts one before `pool`, with one channel for all miners or one for each, and waits until it serves. It asks
    /// for the extension that names workers, and leaves a pool that has it not.
    pub fn start(pool: &Place, user: &str, is_aggregated: bool) -> Self {
        let (directory, port) = (directory(), free_port());
        // It never goes back to a pool that it has lost: the same one stands there many times.
        let upstream = format!(
            "[[upstreams]]\naddress = \"127.0.0.1\"\nport = {}\nauthority_pubkey = \"{}\"\nuser_identity = \"{user}\"\n",
            pool.port, pool.key
        );
        let config = format!(
            "downstream_address = \"127.0.0.1\"\ndownstream_port = {port}\n\
             max_supported_version = 2\nmin_supported_version = 2\ndownstream_extranonce2_size = 4\n\
             aggregate_channels = {is_aggregated}\nsupported_extensions = [2]\nrequired_extensions = [2]\n\
             [downstream_difficulty_config]\nmin_individual_miner_hashrate = 1000000.0\n\
             shares_per_minute = 120.0\nenable_vardiff = true\njob_keepalive_interval_secs = 60\n{}",
            upstream.repeat(8)
        );
        fs::write(directory.path().join("translator.toml"), config).unwrap();
        let program = Program::start("translator_sv2", &["-c", "translator.toml"], directory);
        let mut translator = Self { program, port };
        translator.wait("the translator to serve");
        translator
    }

    fn wait(&mut self, what: &str) {
        wait_for(what, Duration::from_secs(30), || {
            self.program.must_run();
            std::net::TcpStream::connect(("127.0.0.1", self.port)).ok().map(drop)
        });
    }
}

impl Program {
    /// SRI's miner on a standard channel, which hashes on one thread: at most 2000 times a millisecond, so that a block
    /// takes seconds on every machine. It says that it is a fifth as fast as it could be, so that its first shares are easy.
    pub fn mining_device(pool: &Place, user: &str) -> Self {
        let address = format!("127.0.0.1:{}", pool.port);
        let whom = ["--address-pool", &address, "--pubkey-pool", &pool.key, "--id-user", user];
        let speed = ["--cores", "1", "--handicap", "1000", "--nonces-per-call", "2000"];
        let says = ["--nominal-hashrate-multiplier", "0.2"];
        Self::start("mining_device", &[&whom[..], &speed, &says].concat(), directory())
    }

    /// Our own miner.
    pub fn sluice_miner(url: &str, user: &str, hashrate: &str, more: &[&str]) -> Self {
        let directory = directory();
        let arguments = [&["miner", "--url", url, "--user", user, "--hashrate", hashrate], more].concat();
        let process = spawn(&arguments, directory.path(), &directory.path().join("log"));
        Self { name: "sluice miner", process, directory }
    }

    fn start(name: &'static str, arguments: &[&str], directory: TempDir) -> Self {
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let process = Command::new(clients().join(name))
            .args(arguments)
            .current_dir(directory.path())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { name, process, directory }
    }

    /// Panics if it has ended, or a part of it has.
    pub fn must_run(&mut self) {
        assert!(!self.log().contains("panicked"), "{} panicked\n{}", self.name, self.tail());
        if let Some(status) = self.process.try_wait().unwrap() {
            panic!("{} ended by itself: {status}\n{}", self.name, self.tail());
        }
    }

    /// Asks it to end, as somebody at the keyboard does, waits for that, and returns all that it said.
    pub fn stop(mut self) -> String {
        signal("INT", self.process.id());
        wait_for(&format!("{} to end", self.name), Duration::from_secs(20), || {
            self.process.try_wait().unwrap()
        });
        self.log()
    }

    /// All that it said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("--- the end of the log of {}\n{}\n---", self.name, self.tail());
        }
    }
}

/// The directory of SRI's programs.
fn clients() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/sri-clients");
        let output =
            Command::new(script).stderr(Stdio::inherit()).output().expect("scripts/sri-clients starts");
        assert!(output.status.success(), "scripts/sri-clients could not build the programs: see above");
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
    })
}
