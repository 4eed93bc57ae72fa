//! Starting this program again in another role, and never leaving it behind.

use crate::Work;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::{env, fs, process, thread};

/// Connects to a process on this machine.
pub(crate) fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Accepts one connection.
pub(crate) fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let (stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The life of a child: listen, say where, do the work; end with the parent, however that ends.
pub(crate) fn child(work: impl FnOnce(TcpListener) -> io::Result<()>) -> io::Result<()> {
    // The parent holds the other end of our input and never writes: it closes when the parent is gone, even if killed.
    thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        process::exit(0);
    });
    match work(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?) {
        Err(error) if is_farewell(error.kind()) => Ok(()),
        result => result,
    }
}

/// Whether somebody closed a connection: at the end of a run all do, in any order.
fn is_farewell(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof)
}

/// Tells the parent that this child is ready and where it listens.
pub(crate) fn announce(listener: &TcpListener) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{}", listener.local_addr()?.port())?;
    output.flush()
}

/// The three nodes. Dropping it ends them.
pub(crate) struct Trio {
    nodes: Vec<Node>,
}

struct Node {
    child: Child,
    port: u16,
    _lifeline: Option<ChildStdin>,
}

impl Trio {
    /// Starts the three; when this returns their logs are ready.
    pub(crate) fn start(directory: &Path, connections: usize, work: Work) -> io::Result<Self> {
        let follower = |number| Node::start(&["follower".into(), log_of(directory, number)], work);
        let (first, second) = (follower(1)?, follower(2)?);
        let ports = [first.port.to_string(), second.port.to_string()];
        let mut role = vec!["leader".to_owned(), log_of(directory, 0), connections.to_string()];
        role.extend(ports);
        let leader = Node::start(&role, work)?;
        Ok(Self { nodes: vec![leader, first, second] })
    }

    /// Where the leader listens.
    pub(crate) fn leader_port(&self) -> u16 {
        self.nodes[0].port
    }

    /// Processor time of all three so far, in seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        self.nodes.iter().filter_map(|node| cpu_seconds(node.child.id())).sum()
    }
}

/// Processor time of a process so far, in seconds: fields 14 and 15 of its `stat`, in hundredths.
pub(crate) fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let behind_name = stat.rsplit_once(')')?.1;
    let ticks = behind_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
    Some(ticks.sum::<u64>() as f64 / 100.0)
}

fn log_of(directory: &Path, number: usize) -> String {
    directory.join(format!("node-{number}.log")).display().to_string()
}

impl Node {
    fn start(role: &[String], work: Work) -> io::Result<Self> {
        let flags = [("--threaded", work.threaded), ("--nosync", work.nosync), ("--read", work.read)];
        let mut child = Command::new(env::current_exe()?)
            .args(role)
            .args(["--value", &work.value.to_string()])
            .args(flags.iter().filter(|(_, set)| *set).map(|(flag, _)| flag))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let lifeline = child.stdin.take();
        let output = child.stdout.take();
        let mut node = Self { child, port: 0, _lifeline: lifeline };
        let mut line = String::new();
        output.map_or(Ok(0), |output| BufReader::new(output).read_line(&mut line))?;
        node.port = line.trim().parse().map_err(|_| io::Error::other("a node ended before it was ready"))?;
        Ok(node)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
