//! One host a data directory: an advisory lock on a file, which the kernel lets go of however the process ends.

use std::{
    fs::File,
    io::{Read, Write},
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

/// The lock, held until dropped.
pub(super) struct DirLock {
    _file: File,
}

/// Why the directory was not locked.
pub(super) enum LockError {
    /// Another host holds it; its process id, if it has written it.
    Held(Option<u32>),
    Io(std::io::Error),
}

impl DirLock {
    /// Locks the directory through its file `lock`, which names the holder for people.
    pub(super) fn take(dir: &Path) -> Result<Self, LockError> {
        let path = dir.join("lock");
        let options = std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = options.map_err(LockError::Io)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                let _ = (&file).take(32).read_to_string(&mut text);
                return Err(LockError::Held(text.trim().parse().ok()));
            }
            Err(errno) => return Err(LockError::Io(errno.into())),
        }
        let write = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        write.map_err(LockError::Io)?;
        Ok(Self { _file: file })
    }
}
