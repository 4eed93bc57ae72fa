//! Disks that fail: the syncs of a running process, through strace, and a file system without space.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::nodes::LIMIT;
use super::{succeeds, system};

/// What becomes of `fdatasync`.
pub(crate) enum SyncFault {
    /// Every one returns EIO, and nothing is synced.
    Error,
    /// Every one takes so much longer.
    Slow(Duration),
}

/// Tampers with a process until it is dropped.
pub(crate) struct Tampering {
    strace: Child,
    log: PathBuf,
}

impl Tampering {
    pub(crate) fn is_possible() -> bool {
        succeeds("strace --version")
    }

    /// With the syncs of a process, from when this returns.
    pub(crate) fn start(process: Pid, fault: &SyncFault, log: &Path) -> Self {
        let inject = match fault {
            SyncFault::Error => "inject=fdatasync:error=EIO".to_owned(),
            SyncFault::Slow(delay) => format!("inject=fdatasync:delay_enter={}", delay.as_micros()),
        };
        let errors = log.with_extension("attached");
        let mut command = Command::new("strace");
        command.args(["-f", "-e", "trace=fdatasync", "-e", &inject, "-o"]).arg(log);
        command.args(["-p", &process.as_raw_nonzero().to_string()]);
        let strace = command.stdin(Stdio::null()).stderr(File::create(&errors).unwrap()).spawn().unwrap();
        let began = Instant::now();
        while !std::fs::read_to_string(&errors).unwrap().contains("attached") {
            assert!(began.elapsed() < LIMIT, "strace does not attach: {}", std::fs::read_to_string(&errors).unwrap());
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { strace, log: log.to_owned() }
    }

    /// How many syncs it tampered with.
    pub(crate) fn injected(&self) -> usize {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.matches("(INJECTED)").count() + log.matches("(DELAYED)").count()
    }
}

impl Drop for Tampering {
    fn drop(&mut self) {
        // In order, so that it lets go of the process.
        let _ = kill_process(Pid::from_child(&self.strace), Signal::TERM);
        let _ = self.strace.wait();
    }
}

/// Leaves a mounted tmpfs only so many bytes.
pub(crate) fn shrink(dir: &Path, left: u64) {
    let used = system(&format!("df -B1 --output=used {}", dir.display()));
    let used: u64 = used.lines().last().unwrap().trim().parse().unwrap();
    resize(dir, used + left);
}

pub(crate) fn resize(dir: &Path, bytes: u64) {
    system(&format!("mount -o remount,size={bytes} {}", dir.display()));
}
