//! A follower: read, check, append, sync, acknowledge.

use crate::format::{is_intact, record_bytes};
use crate::log::Log;
use crate::{Work, process};
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::path::Path;

const BUFFER: usize = 8 << 20;

pub(crate) fn run(listener: &TcpListener, log: &Path, work: Work) -> io::Result<()> {
    let mut log = Log::open(log, !work.nosync)?;
    process::announce(listener)?;
    let mut leader = process::accept(listener)?;
    let record = record_bytes(work.value);
    let mut buffer = vec![0; BUFFER];
    let (mut filled, mut records) = (0, 0_u64);
    loop {
        let read = leader.read(&mut buffer[filled..])?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let whole = filled - filled % record;
        if whole == 0 {
            continue;
        }
        if !buffer[..whole].chunks_exact(record).all(is_intact) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a record arrived damaged"));
        }
        log.append(&buffer[..whole])?;
        records += (whole / record) as u64;
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
        leader.write_all(&records.to_le_bytes())?;
    }
}
