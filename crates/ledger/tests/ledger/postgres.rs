//! A Postgres of our own: in a temporary directory, on a Unix socket only, stopped when the last user drops it.

use std::{
    env, fs,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, Weak},
};

use tempfile::TempDir;

/// A running server.
pub struct Server {
    bin: PathBuf,
    dir: TempDir,
    /// The user to run as: Postgres refuses root.
    user: Option<(u32, u32)>,
    settings: &'static [&'static str],
}

static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());

impl Server {
    /// The one that tests share, each with a database of its own.
    pub fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap();
        if let Some(server) = shared.upgrade() {
            return server;
        }
        let server = Arc::new(Self::start());
        *shared = Arc::downgrade(&server);
        server
    }

    /// A new one, for a test that stops it.
    pub fn start() -> Self {
        Self::start_with(&["fsync=off"])
    }

    /// A new one with these settings.
    pub fn start_with(settings: &'static [&'static str]) -> Self {
        let bin = binaries();
        let user = root().then(|| (id("-u"), id("-g")));
        let server = Self { bin, dir: tempfile::tempdir().unwrap(), user, settings };
        if let Some((uid, gid)) = user {
            chown(server.dir.path(), Some(uid), Some(gid)).unwrap();
        }
        let data = server.data();
        let data = data.to_str().unwrap();
        server
            .tool("initdb", &["-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]);
        server.up();
        server
    }

    /// Starts it again.
    pub fn up(&self) {
        let log = self.dir.path().join("log");
        let settings: String = self.settings.iter().map(|setting| format!(" -c {setting}")).collect();
        let options = format!("-k {} -h '' -c max_connections=200{settings}", self.dir.path().display());
        let (data, log) = (self.data(), log.to_str().unwrap().to_owned());
        self.tool("pg_ctl", &["-D", data.to_str().unwrap(), "-l", &log, "-w", "-o", &options, "start"]);
    }

    /// Kills it, as a crash would.
    pub fn down(&self) {
        self.tool("pg_ctl", &["-D", self.data().to_str().unwrap(), "-m", "immediate", "-w", "stop"]);
    }

    /// The address of database `name` on this server.
    pub fn url(&self, name: &str) -> String {
        format!("postgres://postgres@localhost/{name}?host={}", self.dir.path().display())
    }

    /// A database that begins as a copy of `template`; `template1` is empty.
    pub fn create(&self, name: &str, template: &str) {
        let socket = self.dir.path().to_str().unwrap();
        self.tool("createdb", &["-h", socket, "-U", "postgres", "-T", template, name]);
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn tool(&self, name: &str, arguments: &[&str]) {
        let mut command = Command::new(self.bin.join(name));
        command.args(arguments).current_dir(self.dir.path()).env_remove("PGHOST").env_remove("PGPORT");
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        // To a file: the server keeps what it inherits, and a pipe would never end.
        let output = self.dir.path().join(format!("{name}.out"));
        let file = fs::File::create(&output).unwrap();
        let status = command.stdout(file.try_clone().unwrap()).stderr(file).status();
        match status {
            Ok(status) if status.success() => {}
            status => {
                panic!("{name} {arguments:?}: {status:?}\n{}", fs::read_to_string(output).unwrap_or_default())
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.data().join("postmaster.pid").exists() {
            self.down();
        }
    }
}

fn root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

fn id(which: &str) -> u32 {
    let output = Command::new("id").args([which, "postgres"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.trim()
        .parse()
        .unwrap_or_else(|_| panic!("there is no user postgres; run: apt-get install postgresql"))
}

/// `$POSTGRES_BIN`, or the newest that Debian has installed.
fn binaries() -> PathBuf {
    if let Some(bin) = env::var_os("POSTGRES_BIN") {
        return bin.into();
    }
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions
        .map(|entry| entry.path())
        .filter(|path| path.join("bin/initdb").exists())
        .max_by_key(|path| version(path));
    newest
        .expect("no Postgres under /usr/lib/postgresql; run scripts/test, or: apt-get install postgresql (or set POSTGRES_BIN)")
        .join("bin")
}
