//! What a node's directory says of its beginning, beside the engine's identity: durable before the node is founded.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

/// Makes a directory and those above it, durably for the last two levels.
pub(crate) fn make_dir(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let above = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    sync_dir(above.unwrap_or(Path::new(".")))
}

/// Writes a note, durably. The directory is made if there is none.
pub(crate) fn write(dir: &Path, name: &str, text: &[u8]) -> io::Result<()> {
    make_dir(dir)?;
    let mut file = File::create(dir.join(name))?;
    file.write_all(text)?;
    file.sync_all()?;
    sync_dir(dir)
}

/// What a note says, if there is one.
pub(crate) fn read(dir: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    match fs::read(dir.join(name)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes it durable which files are in a directory.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
