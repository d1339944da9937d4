//! The "running now" marks: a small file with a slot a worker thread, holding the run whose guest is on that thread.
//! Written without syncing: it must survive the process, not the machine. After an unclean end the next host counts
//! a crash for each run that it finds there.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

use relive_core::RunKey;

/// Slots of the file; threads beyond share the last.
const SLOTS: u64 = 256;

pub(crate) struct Marks {
    file: Option<File>,
}

impl Marks {
    /// Opens the file and gives the runs that it names; then clears it.
    pub fn open(path: Option<&Path>) -> io::Result<(Self, Vec<RunKey>)> {
        let Some(path) = path else {
            return Ok((Self { file: None }, Vec::new()));
        };
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut bytes = vec![0; (SLOTS * 8) as usize];
        let read = file.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
        let keys = bytes.chunks_exact(8).filter_map(|c| c.try_into().ok().map(u64::from_le_bytes));
        let mut running: Vec<RunKey> = keys.filter(|key| *key != 0).map(RunKey).collect();
        running.sort_unstable();
        running.dedup();
        file.set_len(0)?;
        file.set_len(SLOTS * 8)?;
        Ok((Self { file: Some(file) }, running))
    }

    /// Marks a run as being on the thread of `slot`, until the guard is dropped.
    pub fn enter(&self, slot: usize, run: RunKey) -> Mark<'_> {
        let offset = (slot as u64).min(SLOTS - 1) * 8;
        self.write(offset, run.0);
        Mark { marks: self, offset }
    }

    fn write(&self, offset: u64, value: u64) {
        if let Some(file) = &self.file
            && let Err(error) = file.write_all_at(&value.to_le_bytes(), offset)
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
        self.marks.write(self.offset, 0);
    }
}
