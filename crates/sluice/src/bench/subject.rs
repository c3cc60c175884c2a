//! A server that is measured, from outside.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        atomic::{AtomicU32, Ordering::Relaxed},
        mpsc::{Receiver, sync_channel},
    },
    thread,
    time::Duration,
};

use sandbox::swarm::{Protocol, Swarm, SwarmConfig};
use tokio::task::block_in_place;

use super::{
    job::Jobs,
    role::{ADDRESS, BLOCK, FIND, LISTENING},
    usage::Usage,
};
use crate::failure::Failure;

/// How long a server may take to start, or to find a block.
const PATIENCE: Duration = Duration::from_secs(90);

/// A server in a process of its own, which ends when this is dropped.
pub struct Subject {
    /// What it is called.
    pub name: &'static str,
    protocol: Protocol,
    process: Child,
    said: Receiver<String>,
    address: String,
    kind: Kind,
}

enum Kind {
    Floor(Box<Jobs>),
    Pool { _dir: Dir },
}

impl Subject {
    /// The least server.
    pub async fn floor(protocol: Protocol) -> Result<Self, Failure> {
        Self::start_floor(protocol, &[]).await
    }

    /// The least server of those that sign a certificate for each connection.
    pub async fn signing_floor() -> Result<Self, Failure> {
        Self::start_floor(Protocol::V2, &["--signs"]).await
    }

    async fn start_floor(protocol: Protocol, options: &[&str]) -> Result<Self, Failure> {
        let mut jobs = Jobs::new(protocol).await?;
        let first = jobs.next();
        let mut command = command("floor", protocol)?;
        command.args(options);
        let mut subject = Self::start("floor", protocol, command, Kind::Floor(Box::new(jobs)))?;
        subject.order(&hex::encode(first))?;
        subject.listening()
    }

    /// Sluice, with its ledger, in a directory that goes with it.
    pub async fn pool(protocol: Protocol) -> Result<Self, Failure> {
        let dir = Dir::new()?;
        let mut command = command("pool", protocol)?;
        command.arg("--dir").arg(&dir.0);
        Self::start("sluice", protocol, command, Kind::Pool { _dir: dir })?.listening()
    }

    fn start(
        name: &'static str,
        protocol: Protocol,
        mut command: Command,
        kind: Kind,
    ) -> Result<Self, Failure> {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| Failure::unavailable(format!("cannot start {name}: {error}")))?;
        let (say, said) = sync_channel(16);
        if let Some(out) = process.stdout.take() {
            // Ends with the process, or when nobody listens any more.
            thread::spawn(move || {
                BufReader::new(out).lines().map_while(Result::ok).try_for_each(|line| say.send(line))
            });
        }
        Ok(Self { name, protocol, process, said, address: String::new(), kind })
    }

    fn listening(mut self) -> Result<Self, Failure> {
        self.address = self.hear(LISTENING)?;
        Ok(self)
    }

    /// Clients for it, not connected yet.
    pub fn swarm(&self) -> Swarm {
        let (connect, user) = (self.address.clone(), ADDRESS.to_owned());
        Swarm::new(SwarmConfig { protocol: self.protocol, connect, user, password: "x".into() })
    }

    /// What it has used so far.
    pub fn usage(&self) -> Result<Usage, Failure> {
        let what = |error| Failure::unavailable(format!("cannot measure {}: {error}", self.name));
        Usage::of(self.process.id()).map_err(what)
    }

    /// Makes ready for a new block.
    pub fn find_block(&mut self) -> Result<(), Failure> {
        if let Kind::Pool { .. } = self.kind {
            self.order(FIND)?;
            self.hear(FIND)?;
        }
        Ok(())
    }

    /// Has all connections sent a new block's job.
    pub fn block(&mut self) -> Result<(), Failure> {
        let order = match &mut self.kind {
            Kind::Floor(jobs) => hex::encode(jobs.next()),
            Kind::Pool { .. } => BLOCK.to_owned(),
        };
        self.order(&order)
    }

    fn order(&mut self, line: &str) -> Result<(), Failure> {
        let written = self.process.stdin.as_mut().map(|stdin| writeln!(stdin, "{line}"));
        match written {
            Some(Ok(())) => Ok(()),
            _ => Err(Failure::unavailable(format!("{} has ended", self.name))),
        }
    }

    /// What stands behind `word` in the next line that begins with it.
    fn hear(&mut self, word: &str) -> Result<String, Failure> {
        loop {
            let line = block_in_place(|| self.said.recv_timeout(PATIENCE))
                .map_err(|_| Failure::unavailable(format!("{} does not say \"{word}\"", self.name)))?;
            if let Some(rest) = line.strip_prefix(word) {
                return Ok(rest.to_owned());
            }
        }
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn command(role: &str, protocol: Protocol) -> Result<Command, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::unavailable(format!("this program cannot be found: {error}")))?;
    let mut command = Command::new(program);
    command.args(["bench", role]);
    if protocol == Protocol::V2 {
        command.arg("--v2");
    }
    Ok(command)
}

/// A directory that is removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Result<Self, Failure> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("sluice-bench-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        let cannot = |path: &Path, error| format!("cannot create {}: {error}", path.display());
        std::fs::create_dir(&path).map_err(|error| Failure::unavailable(cannot(&path, error)))?;
        Ok(Self(path))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, dir = %self.0.display(), "could not be removed");
        }
    }
}
