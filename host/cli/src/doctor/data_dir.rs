//! The data directory, or the place where it would be made: writable, with room, on a disk that syncs.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    time::Instant,
};

use super::Check;
use crate::output::{bytes, duration};

/// A commit is a few pages.
const COMMIT_BYTES: usize = 4_096;
/// Enough for a median.
const SYNCS: usize = 20;
/// A step waits for a commit or two; beyond this it shows.
const SLOW_SYNC_NANOS: u64 = 10_000_000;
/// No disk is so fast; memory is.
const UNBELIEVABLE_SYNC_NANOS: u64 = 5_000;
/// A busy host writes this in some minutes.
const LOW_SPACE: u64 = 1 << 30;
/// The database cannot even checkpoint safely below this.
const NO_SPACE: u64 = 64 << 20;

/// The directory itself, or the nearest one above that is there.
fn existing(data: &Path) -> PathBuf {
    let absolute = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
    absolute.ancestors().find(|dir| dir.is_dir()).map_or_else(|| PathBuf::from("/"), Path::to_owned)
}

/// A file that goes when it is dropped.
struct Probe(PathBuf, File);

impl Probe {
    fn new(data: &Path) -> std::io::Result<Self> {
        let path = existing(data).join(format!(".relive-doctor-{}", std::process::id()));
        let file = File::create_new(&path)?;
        Ok(Self(path, file))
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

pub fn writable(data: &Path) -> Check {
    const NAME: &str = "data directory";
    if data.exists() && !data.is_dir() {
        return Check::fail(NAME, format!("{} is not a directory", data.display()), "name another place with --data");
    }
    match Probe::new(data) {
        Ok(_) if data.is_dir() => Check::ok(NAME, format!("{} is writable", data.display())),
        Ok(_) => Check::ok(NAME, format!("{} will be made", data.display())),
        Err(e) => Check::fail(
            NAME,
            format!("{}: {e}", data.display()),
            "check its permissions and that its file system is not mounted read-only",
        ),
    }
}

pub fn free_space(data: &Path) -> Check {
    const NAME: &str = "free space";
    match rustix::fs::statvfs(existing(data)) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let found = bytes(free);
            match free {
                0..NO_SPACE => Check::fail(NAME, found, format!("free at least {}", bytes(LOW_SPACE))),
                NO_SPACE..LOW_SPACE => Check::warn(NAME, found, format!("free at least {}", bytes(LOW_SPACE))),
                _ => Check::ok(NAME, found),
            }
        }
        Err(e) => Check::warn(NAME, format!("not known: {e}"), "check that the directory is on a local disk"),
    }
}

pub fn sync_latency(data: &Path) -> Check {
    const NAME: &str = "sync";
    match median_sync(data) {
        Ok(nanos) => {
            let found = format!("a synced write takes {}", duration(nanos));
            match nanos {
                0..UNBELIEVABLE_SYNC_NANOS => Check::warn(
                    NAME,
                    found,
                    "this is memory, not a disk: what is acknowledged will not survive the loss of power",
                ),
                UNBELIEVABLE_SYNC_NANOS..SLOW_SYNC_NANOS => Check::ok(NAME, found),
                _ => Check::warn(
                    NAME,
                    found,
                    "each step waits for it; put the data directory on a faster disk (an SSD, not a network share)",
                ),
            }
        }
        Err(e) => Check::fail(NAME, format!("failed to sync a file: {e}"), "put the data directory on a local disk"),
    }
}

fn median_sync(data: &Path) -> std::io::Result<u64> {
    let Probe(_, file) = &mut Probe::new(data)?;
    let mut took = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let began = Instant::now();
        file.write_all(&[1; COMMIT_BYTES])?;
        file.sync_data()?;
        took.push(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    took.sort_unstable();
    Ok(took.get(SYNCS / 2).copied().unwrap_or_default())
}
