//! Two floors of the machine itself.

use crate::load::histogram;
use crate::log::Log;
use crate::process;
use hdrhistogram::Histogram;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

const LONGEST: Duration = Duration::from_secs(2);
const MOST: u64 = 10_000;
const BLOCK: usize = 4096;
const MESSAGE: usize = 64;

/// Syncs of 4 KiB each, one after the other, in a file whose blocks were all written before.
pub(crate) fn sync(directory: &Path) -> io::Result<Histogram<u64>> {
    let mut log = Log::open(&directory.join("node-0.log"), true)?;
    let block = [7; BLOCK];
    repeat(|| log.append(&block))
}

/// A message there and back between two blocking threads.
pub(crate) fn round_trip() -> io::Result<Histogram<u64>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut here = process::connect(listener.local_addr()?.port())?;
    let mut there = process::accept(&listener)?;
    let echo = thread::spawn(move || {
        let mut message = [0; MESSAGE];
        while there.read_exact(&mut message).is_ok() && there.write_all(&message).is_ok() {}
    });
    let mut message = [7; MESSAGE];
    let result = repeat(|| here.write_all(&message).and_then(|()| here.read_exact(&mut message)));
    drop(here); // ends the echo
    let _ = echo.join();
    result
}

fn repeat(mut action: impl FnMut() -> io::Result<()>) -> io::Result<Histogram<u64>> {
    let mut latency = histogram();
    let start = Instant::now();
    while start.elapsed() < LONGEST && latency.len() < MOST {
        let before = Instant::now();
        action()?;
        latency.saturating_record(before.elapsed().as_nanos() as u64);
    }
    Ok(latency)
}
