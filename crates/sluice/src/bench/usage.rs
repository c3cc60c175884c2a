//! What a process uses, as the kernel counts it.

use std::{collections::BTreeMap, fs, io, time::Duration};

use super::apart::THREAD;

/// What a process has used so far.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// Processor time by thread, but for those of the chain, in nanoseconds.
    threads: BTreeMap<u32, u64>,
    /// Memory in use, in bytes.
    pub resident: u64,
}

impl Usage {
    /// Of the process `pid`, now.
    pub fn of(pid: u32) -> io::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let resident = resident(&status).ok_or_else(|| strange("status"))?;
        let mut threads = BTreeMap::new();
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let (path, name) = { thread.map(|thread| (thread.path(), thread.file_name()))? };
            let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            // A thread may end while it is looked at; what it used up to then is lost to the sum.
            let Ok(comm) = fs::read_to_string(path.join("comm")) else { continue };
            let Ok(schedstat) = fs::read_to_string(path.join("schedstat")) else { continue };
            if comm.trim_end() != THREAD {
                threads.insert(id, running(&schedstat).ok_or_else(|| strange("schedstat"))?);
            }
        }
        if threads.is_empty() {
            return Err(strange("task: no schedstat (a kernel without scheduler statistics?)"));
        }
        Ok(Self { threads, resident })
    }

    /// Processor time since `before`.
    pub fn since(&self, before: &Self) -> Duration {
        let nanos =
            |(id, nanos): (&u32, &u64)| nanos.saturating_sub(before.threads.get(id).copied().unwrap_or(0));
        Duration::from_nanos(self.threads.iter().map(nanos).sum())
    }

    /// Bytes of memory more than `before`.
    pub fn growth(&self, before: &Self) -> f64 {
        self.resident as f64 - before.resident as f64
    }
}

/// Time on a processor, in nanoseconds: the first number of schedstat.
fn running(schedstat: &str) -> Option<u64> {
    schedstat.split_ascii_whitespace().next()?.parse().ok()
}

/// VmRSS, which is in kB, in bytes.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()?.checked_mul(1024)
}

fn strange(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("/proc/PID/{what} is not as expected"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes() {
        let check = |text: &str, expect: Option<u64>| assert_eq!(running(text), expect, "{text:?}");
        check("1204252 3229097 4\n", Some(1_204_252));
        check("", None);
        check("x 1 2", None);
        let check = |text: &str, expect: Option<u64>| assert_eq!(resident(text), expect, "{text:?}");
        check("Name:\tx\nVmRSS:\t    5120 kB\nRssAnon:\t 1 kB\n", Some(5_242_880));
        check("VmRSS:\t99999999999999999999 kB", None);
        check("VmRSS:\t5120", None);
        check("Name:\tx\n", None);
    }

    #[test]
    fn this_process() {
        let before = Usage::of(std::process::id()).unwrap();
        let mut sum = 0u64;
        let mut now = before.clone();
        for _ in 0..1000 {
            sum = (0..1_000_000u64).fold(sum, |sum, i| sum.rotate_left(5) ^ i);
            now = Usage::of(std::process::id()).unwrap();
            if now.since(&before) > Duration::from_millis(20) {
                break;
            }
        }
        assert!(now.since(&before) > Duration::from_millis(20), "{sum}");
        assert_eq!(before.since(&before), Duration::ZERO);
        assert!(before.resident > 100_000);
    }

    #[test]
    fn threads_come_and_go() {
        let usage =
            |threads: &[(u32, u64)]| Usage { threads: threads.iter().copied().collect(), resident: 0 };
        let before = usage(&[(1, 100), (2, 50)]);
        assert_eq!(usage(&[(1, 130), (3, 7)]).since(&before), Duration::from_nanos(37));
    }
}
