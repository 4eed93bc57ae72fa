//! The state: files that never change once they are written, and a count of the other commands.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Cursor, Read as _, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tenure::state_machine::{
    ApplyError, Command, SnapshotFiles, SnapshotSource, SourceContent, SourceFile, StateMachine,
};

/// The file of a snapshot that holds the count.
const COUNT: &str = "count";

/// A command that writes file `number`.
pub(crate) fn write_file(number: u64, bytes: u64) -> Bytes {
    let mut command = BytesMut::new();
    command.put_u64_le(number);
    command.put_u64_le(bytes);
    command.freeze()
}

/// A command that is only counted.
pub(crate) fn count(nonce: u64) -> Bytes {
    let mut command = BytesMut::zeroed(128);
    command[..8].copy_from_slice(&nonce.to_le_bytes());
    command.freeze()
}

/// What a machine's state can be compared by.
#[derive(Default)]
pub(crate) struct State {
    /// How many commands were counted, and a checksum over them.
    count: (u64, u32),
    /// The files by name, with their checksums.
    files: BTreeMap<String, u32>,
}

impl State {
    pub(crate) fn digest(&self) -> String {
        let files = self.files.iter().fold(0, |sum, (name, crc)| {
            crc32c::crc32c_append(crc32c::crc32c_append(sum, name.as_bytes()), &crc.to_le_bytes())
        });
        format!("{}-{:08x}-{}-{files:08x}", self.count.0, self.count.1, self.files.len())
    }
}

pub(crate) struct Files {
    dir: PathBuf,
    pub(crate) state: Arc<Mutex<State>>,
}

impl Files {
    /// Begins with nothing: what is in `dir` is of a process before this one.
    pub(crate) fn new(dir: PathBuf) -> io::Result<Self> {
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir)?;
        Ok(Self { dir, state: Arc::default() })
    }

    fn write(&self, number: u64, bytes: u64) -> io::Result<(String, u32)> {
        let name = format!("{number:06}");
        let mut file = File::create(self.dir.join(&name))?;
        let (mut random, mut crc, mut left) = (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, 0, bytes);
        let mut block = vec![0; 1 << 16];
        while left > 0 {
            for word in block.chunks_exact_mut(8) {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                word.copy_from_slice(&random.to_le_bytes());
            }
            let some = &block[..block.len().min(left as usize)];
            file.write_all(some)?;
            crc = crc32c::crc32c_append(crc, some);
            left -= some.len() as u64;
        }
        // What is measured later should not wait for this.
        file.sync_data()?;
        Ok((name, crc))
    }

    fn take(&self, snapshot: &SnapshotFiles) -> io::Result<State> {
        for old in fs::read_dir(&self.dir)? {
            fs::remove_file(old?.path())?;
        }
        let mut state = State::default();
        for file in snapshot.files() {
            if file.name() == COUNT {
                let mut bytes = Vec::new();
                file.open()?.read_to_end(&mut bytes)?;
                state.count = ((&bytes[..]).get_u64_le(), (&bytes[8..]).get_u32_le());
                continue;
            }
            let (mut content, mut crc, mut block) = (file.open()?, 0, vec![0; 1 << 18]);
            loop {
                match content.read(&mut block)? {
                    0 => break,
                    some => crc = crc32c::crc32c_append(crc, &block[..some]),
                }
            }
            fs::hard_link(file.path(), self.dir.join(file.name()))?;
            state.files.insert(file.name().to_owned(), crc);
        }
        Ok(state)
    }
}

impl StateMachine for Files {
    type Output = ();

    fn apply(&mut self, commands: &[Command]) -> Result<Vec<()>, ApplyError> {
        for Command { data, .. } in commands {
            if data.len() > 16 {
                let mut state = self.state.lock().map_err(|_| ApplyError("poisoned".to_owned()))?;
                state.count = (state.count.0 + 1, crc32c::crc32c_append(state.count.1, data));
            } else {
                let (mut number, mut bytes) = (&data[..8], &data[8..]);
                let written = self.write(number.get_u64_le(), bytes.get_u64_le());
                let (name, crc) = written.map_err(|error| ApplyError(error.to_string()))?;
                self.state.lock().map_err(|_| ApplyError("poisoned".to_owned()))?.files.insert(name, crc);
            }
        }
        Ok(vec![(); commands.len()])
    }

    fn snapshot(&mut self) -> Result<Option<SnapshotSource>, ApplyError> {
        let state = self.state.lock().map_err(|_| ApplyError("poisoned".to_owned()))?;
        let mut count = Vec::new();
        count.put_u64_le(state.count.0);
        count.put_u32_le(state.count.1);
        let count = SourceFile { name: COUNT.to_owned(), content: SourceContent::Stream(Box::new(Cursor::new(count))) };
        let file = |name: &String| {
            let content = SourceContent::Immutable(self.dir.join(name));
            SourceFile { name: name.clone(), content }
        };
        let files = state.files.keys().map(file).chain([count]).collect();
        Ok(Some(SnapshotSource::Files { files, guard: None }))
    }

    fn restore(&mut self, snapshot: &SnapshotFiles) -> Result<(), ApplyError> {
        let state = self.take(snapshot).map_err(|error| ApplyError(error.to_string()))?;
        *self.state.lock().map_err(|_| ApplyError("poisoned".to_owned()))? = state;
        Ok(())
    }
}
