//! The nodes as processes, as the one who started them sees them.

use crate::Options;
use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    address: String,
}

/// What a node says of itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Status {
    pub(crate) leads: bool,
    pub(crate) applied: u64,
    pub(crate) last: u64,
    /// Of the snapshot that is being fetched.
    pub(crate) done: u64,
    /// Bytes of chunks that came in since the process began.
    pub(crate) received: u64,
    /// Snapshots installed since the process began.
    pub(crate) installed: u64,
    /// Bytes of chunks sent since the process began.
    pub(crate) served: u64,
    pub(crate) memory: u64,
}

/// The processes that run. Dropping it ends them and removes their files.
pub(crate) struct Cluster {
    options: Options,
    dir: PathBuf,
    founders: String,
    running: BTreeMap<u64, Process>,
}

impl Cluster {
    /// Three nodes, whose state has the bytes that are asked for.
    pub(crate) fn start(options: &Options) -> Result<Self> {
        let dir = match &options.dir {
            Some(dir) => dir.clone(),
            None => PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("snapshots-{}", std::process::id())),
        };
        fs::create_dir_all(&dir)?;
        let (founders, running) = ("1,2,3".to_owned(), BTreeMap::new());
        let mut cluster = Self { options: options.clone(), dir, founders, running };
        for id in 1..=3 {
            cluster.run(id)?;
        }
        for number in 0..options.bytes.div_ceil(options.file) {
            let bytes = options.file.min(options.bytes - number * options.file);
            cluster.ask_leader(&format!("file {number} {bytes}"))?;
        }
        Ok(cluster)
    }

    /// Starts a process on what there is of it.
    pub(crate) fn run(&mut self, id: u64) -> Result<()> {
        let founders = if id <= 3 { self.founders.as_str() } else { "" };
        let mut command = Command::new(env::current_exe()?);
        command.args(["node", &id.to_string()]).arg(&self.dir).arg(self.options.rate.to_string());
        if !founders.is_empty() {
            command.arg(founders);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (input, output) = (child.stdin.take().ok_or("no input")?, child.stdout.take().ok_or("no output")?);
        let mut process = Process { child, input, output: BufReader::new(output), address: String::new() };
        process.address = process.line()?;
        for (other, known) in &mut self.running {
            known.ask(&format!("peer {id} {}", process.address))?;
            process.ask(&format!("peer {other} {}", known.address))?;
        }
        self.running.insert(id, process);
        Ok(())
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, id: u64) -> Result<()> {
        let mut process = self.running.remove(&id).ok_or("it does not run")?;
        process.child.kill()?;
        process.child.wait()?;
        Ok(())
    }

    pub(crate) fn ids(&self) -> Vec<u64> {
        self.running.keys().copied().collect()
    }

    pub(crate) fn ask(&mut self, id: u64, line: &str) -> Result<String> {
        self.running.get_mut(&id).ok_or("it does not run")?.ask(line)
    }

    pub(crate) fn status(&mut self, id: u64) -> Result<Status> {
        let line = self.ask(id, "status")?;
        let numbers: Vec<u64> = line.split(' ').map(str::parse).collect::<std::result::Result<_, _>>()?;
        let [leads, _, applied, last, done, _, received, installed, served, memory] = numbers[..] else {
            return Err(line.into());
        };
        Ok(Status { leads: leads == 1, applied, last, done, received, installed, served, memory })
    }

    pub(crate) fn leader(&mut self) -> Result<u64> {
        self.wait("a leader", |cluster| {
            for id in cluster.ids() {
                if cluster.status(id)?.leads {
                    return Ok(Some(id));
                }
            }
            Ok(None)
        })
    }

    /// Asks whoever leads until it is done.
    pub(crate) fn ask_leader(&mut self, line: &str) -> Result<String> {
        self.wait(line, |cluster| {
            let leader = cluster.leader()?;
            let answer = cluster.ask(leader, line)?;
            Ok((!answer.starts_with("error")).then_some(answer))
        })
    }

    /// Looks again and again.
    pub(crate) fn wait<T>(&mut self, what: &str, mut look: impl FnMut(&mut Self) -> Result<Option<T>>) -> Result<T> {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            if let Some(found) = look(self)? {
                return Ok(found);
            }
            thread::sleep(Duration::from_millis(5));
        }
        Err(format!("waited too long for {what}").into())
    }

    /// All nodes have applied the same, and have the same state.
    pub(crate) fn compare(&mut self) -> Result<()> {
        let leader = self.leader()?;
        let last = self.status(leader)?.last;
        let mut digests = Vec::new();
        for id in self.ids() {
            self.wait("everything applied", |cluster| Ok((cluster.status(id)?.applied >= last).then_some(())))?;
            digests.push(self.ask(id, "digest")?);
        }
        if digests.windows(2).any(|pair| pair[0] != pair[1]) {
            return Err(format!("the states differ: {digests:?}").into());
        }
        Ok(())
    }
}

impl Process {
    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        if line.is_empty() { Err("a node ended".into()) } else { Ok(line.trim_end().to_owned()) }
    }

    fn ask(&mut self, line: &str) -> Result<String> {
        writeln!(self.input, "{line}")?;
        self.line()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for process in self.running.values_mut() {
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}
