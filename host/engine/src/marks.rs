//! The "running now" marks: a small file with a slot a worker thread, holding the run whose guest is on that thread and
//! the component that it runs. Written without syncing: it must survive the process, not the machine. After an unclean
//! end the next host counts a crash for each run that it finds there, and suspects its component: a start whose first
//! turn took the host down left no run that could be counted.

use std::{
    collections::HashSet,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

use relive_core::{Digest, RunKey};

/// Slots of the file; threads beyond share the last.
const SLOTS: u64 = 256;
/// Bytes of a slot: the run's key (0: none), and the beginning of the component's digest.
const SLOT_BYTES: usize = 16;

/// Which component ran, as far as a slot holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Code([u8; 8]);

impl Code {
    fn of(digest: &Digest) -> Self {
        let mut head = [0; 8];
        head.copy_from_slice(&digest.0[..8]);
        Self(head)
    }
}

/// What an older host left behind.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// Runs that were on a thread, each once.
    pub running: Vec<RunKey>,
    pub suspects: Suspects,
}

/// Components that were on a thread when the host before died. Their starts are committed before their first turns, so
/// that a crash is counted, and not repeated by every client that tries again.
#[derive(Debug, Default)]
pub(crate) struct Suspects(HashSet<Code>);

impl Suspects {
    pub fn contains(&self, digest: &Digest) -> bool {
        !self.0.is_empty() && self.0.contains(&Code::of(digest))
    }
}

impl Left {
    fn read(bytes: &[u8]) -> Self {
        let mut left = Self::default();
        for slot in bytes.chunks_exact(SLOT_BYTES) {
            let (mut key, mut code) = ([0; 8], [0; 8]);
            key.copy_from_slice(&slot[..8]);
            code.copy_from_slice(&slot[8..]);
            let key = u64::from_le_bytes(key);
            if key != 0 {
                left.running.push(RunKey(key));
                left.suspects.0.insert(Code(code));
            }
        }
        left.running.sort_unstable();
        left.running.dedup();
        left
    }
}

pub(crate) struct Marks {
    file: Option<File>,
}

impl Marks {
    /// Opens the file and gives what it names; then clears it.
    pub fn open(path: Option<&Path>) -> io::Result<(Self, Left)> {
        let Some(path) = path else {
            return Ok((Self { file: None }, Left::default()));
        };
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let size = SLOTS * SLOT_BYTES as u64;
        let mut bytes = vec![0; size as usize];
        let read = file.read_at(&mut bytes, 0)?;
        let left = Left::read(&bytes[..read]);
        file.set_len(0)?;
        file.set_len(size)?;
        Ok((Self { file: Some(file) }, left))
    }

    /// Marks a run of `digest` as being on the thread of `slot`, until the guard is dropped.
    pub fn enter(&self, slot: usize, run: RunKey, digest: &Digest) -> Mark<'_> {
        let offset = (slot as u64).min(SLOTS - 1) * SLOT_BYTES as u64;
        let mut bytes = [0; SLOT_BYTES];
        bytes[..8].copy_from_slice(&run.0.to_le_bytes());
        bytes[8..].copy_from_slice(&Code::of(digest).0);
        self.write(offset, &bytes);
        Mark { marks: self, offset }
    }

    fn write(&self, offset: u64, bytes: &[u8]) {
        if let Some(file) = &self.file
            && let Err(error) = file.write_all_at(bytes, offset)
        {
            tracing::warn!(%error, "failed to write the running mark");
        }
    }
}

pub(crate) struct Mark<'a> {
    marks: &'a Marks,
    offset: u64,
}

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        self.marks.write(self.offset, &0_u64.to_le_bytes());
    }
}
