//! A Postgres server of its own for a test, in a temporary directory.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use super::{directory, free_port, signal, wait_for};

/// A running server with one empty database. Ended and removed when dropped.
pub struct Postgres {
    port: u16,
    owner: Option<(u32, u32)>,
    directory: TempDir,
    process: Option<Child>,
}

impl Postgres {
    /// Makes a cluster and starts it.
    pub fn start() -> Self {
        let directory = directory();
        let owner = owner(directory.path());
        let data = directory.path().join("data");
        fs::create_dir(&data).unwrap();
        if let Some((user, group)) = owner {
            chown(&data, Some(user), Some(group)).unwrap();
        }
        let made = command("initdb", owner)
            .args([
                "--no-sync",
                "--auth=trust",
                "--username=sluice",
                "--encoding=UTF8",
                "--locale=C",
                "--pgdata",
            ])
            .arg(&data)
            .output()
            .expect("initdb starts");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let mut postgres = Self { port: free_port(), owner, directory, process: None };
        postgres.start_again();
        postgres
    }

    /// For `ledger.url`.
    pub fn url(&self) -> String {
        format!("postgres://sluice@127.0.0.1:{}/postgres", self.port)
    }

    /// Starts the server on the same data, at the same address, and waits until it answers.
    pub fn start_again(&mut self) {
        let data = self.directory.path().join("data");
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log()).unwrap();
        let process = command("postgres", self.owner)
            .arg("-D")
            .arg(&data)
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string()])
            // The machine does not lose power in these tests, so nothing is gained by waiting for the disk.
            .args(["-c", "fsync=off", "-c", "unix_socket_directories="])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("postgres starts");
        self.process = Some(process);
        wait_for("postgres to answer", Duration::from_secs(60), || {
            let process = self.process.as_mut()?;
            if let Some(status) = process.try_wait().unwrap() {
                panic!("postgres ended: {status}\n{}", fs::read_to_string(self.log()).unwrap_or_default());
            }
            let ready = command("pg_isready", None)
                .args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()])
                .status()
                .expect("pg_isready starts");
            ready.success().then_some(())
        });
    }

    /// Ends the server at once, in the middle of whatever it does; it recovers from its log at the next start.
    pub fn stop_immediate(&mut self) {
        if let Some(mut process) = self.process.take() {
            signal("QUIT", process.id());
            process.wait().unwrap();
        }
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop_immediate();
    }
}

/// Who is to run the server: Postgres refuses to run as root, so root lends it to the user that the package made.
fn owner(directory: &Path) -> Option<(u32, u32)> {
    if fs::metadata(directory).unwrap().uid() != 0 {
        return None;
    }
    let number = |flag| {
        let output = Command::new("id").args([flag, "postgres"]).output().expect("id starts");
        let text = String::from_utf8_lossy(&output.stdout).trim().parse();
        text.unwrap_or_else(|_| panic!("root cannot run postgres, and there is no user postgres: {MISSING}"))
    };
    Some((number("-u"), number("-g")))
}

const MISSING: &str = "run scripts/test, or: apt-get install postgresql";

fn command(program: &str, owner: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(binaries().join(program));
    // Wherever the tests were started, the server's user may not be allowed to be.
    command.current_dir("/").env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
    if let Some((user, group)) = owner {
        command.uid(user).gid(group);
    }
    command
}

/// `$POSTGRES_BIN`, else the newest version that Debian's packages installed.
fn binaries() -> PathBuf {
    if let Some(path) = std::env::var_os("POSTGRES_BIN") {
        return path.into();
    }
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let versions = installed.filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        let path = entry.path().join("bin");
        path.join("initdb").exists().then_some((version, path))
    });
    let newest = versions.max_by_key(|(version, _)| *version);
    newest
        .unwrap_or_else(|| {
            panic!("no PostgreSQL below /usr/lib/postgresql, and POSTGRES_BIN is not set: {MISSING}")
        })
        .1
}
