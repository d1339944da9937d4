//! `relive.pid` and `address` in the data directory: how scripts find a running host.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use crate::exit::{Exit, Failure};

const PID: &str = "relive.pid";
const ADDRESS: &str = "address";

/// The files; removed when it is dropped. After a kill they stay: the next host overwrites them.
pub struct RunFiles {
    paths: [PathBuf; 2],
}

impl RunFiles {
    /// Writes both, the address last and at once: whoever finds it can connect.
    pub fn write(dir: &Path, address: SocketAddr) -> Result<Self, Failure> {
        let paths = [dir.join(PID), dir.join(ADDRESS)];
        put(&paths[0], &std::process::id().to_string())?;
        put(&paths[1], &format!("http://{address}"))?;
        Ok(Self { paths })
    }
}

fn put(path: &Path, text: &str) -> Result<(), Failure> {
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, format!("{text}\n")).and_then(|()| std::fs::rename(&fresh, path)).map_err(|e| {
        Failure::new(Exit::Failed, "data-dir-unusable", format!("failed to write {}: {e}", path.display()))
    })
}

impl Drop for RunFiles {
    fn drop(&mut self) {
        for path in &self.paths {
            let _ = std::fs::remove_file(path);
        }
    }
}
