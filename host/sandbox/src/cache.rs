//! Native code on disk, so that a component is compiled once a machine and not once a start.
//!
//! Owns: the directory (mode 0700), its key (mode 0600), names, MACs and the bound on its size. A file that is
//! truncated, changed, renamed or made with another key is ignored and reported, and the component is compiled again:
//! the cache is never the truth. Must not know: how code is compiled or run.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use hmac::{Hmac, KeyInit, Mac};
use relive_core::Digest;
use sha2::Sha256;

use crate::engine::SandboxEngine;
use crate::instrument::INSTRUMENTATION;
use crate::native::TrustedCode;

/// The cache's size on disk; the files unused for longest go first. A JavaScript guest takes about 40 MB.
pub const MAX_CACHE_BYTES: u64 = 4 << 30;

/// Native code of the largest upload allowed is well below this; a longer file is not ours.
pub const MAX_NATIVE_BYTES: u64 = 1 << 30;

/// From this age on, an unfinished file has no writer any more.
const LEFTOVER_AGE: Duration = Duration::from_secs(3_600);

const MAGIC: &[u8; 8] = b"RLVNAT\x00\x01";
const MAC_BYTES: usize = 32;
const KEY_BYTES: usize = 32;
const KEY_FILE: &str = "key";
const SUFFIX: &str = ".native";

/// Why the cache cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("{action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("use {} as the cache of native code: {reason}", path.display())]
    Unsafe { path: PathBuf, reason: &'static str },
    #[error("draw a key for the cache of native code: {0}")]
    Entropy(String),
}

/// What a look into the cache found.
pub(crate) enum Lookup {
    Hit(TrustedCode),
    Miss,
    /// There was a file, and it is not what this host wrote.
    Rejected(&'static str),
}

/// An open cache.
pub struct NativeCache {
    dir: PathBuf,
    key: [u8; KEY_BYTES],
    temp: AtomicU64,
}

impl NativeCache {
    /// Opens the directory, making it and its key where they are missing.
    pub fn open(dir: &Path) -> Result<Self, CacheError> {
        let io = |action| move |source| CacheError::Io { action, path: dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io("create directory"))?;
        let meta = std::fs::metadata(dir).map_err(io("look at directory"))?;
        let reject = |reason| Err(CacheError::Unsafe { path: dir.to_owned(), reason });
        if !meta.is_dir() {
            return reject("it is not a directory");
        }
        if meta.uid() != rustix::process::geteuid().as_raw() {
            return reject("it belongs to another user, who could plant code in it");
        }
        if meta.mode() & 0o077 != 0 {
            let private = std::fs::Permissions::from_mode(0o700);
            std::fs::set_permissions(dir, private).map_err(io("restrict the permissions of directory"))?;
        }
        remove_leftovers(dir);
        let key = load_or_make_key(&dir.join(KEY_FILE))?;
        Ok(Self { dir: dir.to_owned(), key, temp: AtomicU64::new(0) })
    }

    /// The file that holds, or would hold, the native code of a component.
    pub fn path_of(&self, engine: &SandboxEngine, digest: &Digest) -> PathBuf {
        self.dir.join(name_of(engine, digest))
    }

    pub(crate) fn look_up(&self, engine: &SandboxEngine, digest: &Digest) -> Lookup {
        let name = name_of(engine, digest);
        let path = self.dir.join(&name);
        let Ok(mut file) = File::open(&path) else {
            return Lookup::Miss;
        };
        let mut header = [0; MAGIC.len() + MAC_BYTES];
        if file.metadata().is_ok_and(|m| m.len() > MAX_NATIVE_BYTES) {
            return Lookup::Rejected("it is larger than any native code");
        }
        if file.read_exact(&mut header).is_err() {
            return Lookup::Rejected("it is truncated");
        }
        let (magic, mac) = header.split_at(MAGIC.len());
        if magic != MAGIC {
            return Lookup::Rejected("it is of another format");
        }
        let mut code = Vec::new();
        if file.take(MAX_NATIVE_BYTES).read_to_end(&mut code).is_err() {
            return Lookup::Rejected("it cannot be read");
        }
        // Compares in constant time.
        match self.mac(&name, &code).map(|m| m.verify_slice(mac)) {
            Some(Ok(())) => {}
            _ => {
                return Lookup::Rejected("its authentication code does not match: changed, cut, or another host's");
            }
        }
        // The time of use is what eviction goes by; a failure only makes it less exact.
        let _ = File::open(&path).and_then(|f| f.set_modified(SystemTime::now()));
        Lookup::Hit(TrustedCode::authenticated(code))
    }

    /// Stores native code. Durable and complete, or not there at all, when this returns.
    pub(crate) fn store(&self, engine: &SandboxEngine, digest: &Digest, code: &TrustedCode) -> Result<(), CacheError> {
        let name = name_of(engine, digest);
        let Some(mac) = self.mac(&name, code.bytes()) else {
            return Err(CacheError::Entropy("the key has a length that HMAC refuses".into()));
        };
        let path = self.dir.join(&name);
        let (pid, number) = (std::process::id(), self.temp.fetch_add(1, Ordering::Relaxed));
        let temp = self.dir.join(format!(".{name}.{pid}-{number}.tmp"));
        // A leftover of a dead process with our number.
        let _ = std::fs::remove_file(&temp);
        let written = write_new(&temp, &[MAGIC, mac.finalize().into_bytes().as_slice(), code.bytes()])
            .and_then(|()| std::fs::rename(&temp, &path))
            .and_then(|()| File::open(&self.dir)?.sync_all());
        if let Err(source) = written {
            let _ = std::fs::remove_file(&temp);
            return Err(CacheError::Io { action: "store native code in", path, source });
        }
        self.evict(&path);
        Ok(())
    }

    fn mac(&self, name: &str, code: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).ok()?;
        // Lengths first, so that no two pairs of name and content are the same bytes.
        mac.update(&(name.len() as u64).to_le_bytes());
        mac.update(name.as_bytes());
        mac.update(code);
        Some(mac)
    }

    /// Removes what was unused for longest until the cache is within its size, the newest entry excepted.
    fn evict(&self, keep: &Path) {
        let Ok(entries) = std::fs::read_dir(&self.dir) else {
            return;
        };
        let mut files: Vec<(SystemTime, u64, PathBuf)> = entries
            .flatten()
            .filter(|e| e.file_name().to_string_lossy().ends_with(SUFFIX))
            .filter_map(|e| e.metadata().ok().and_then(|m| Some((m.modified().ok()?, m.len(), e.path()))))
            .collect();
        files.sort();
        let mut total: u64 = files.iter().map(|(_, len, _)| len).sum();
        for (_, len, path) in files {
            if total <= MAX_CACHE_BYTES {
                return;
            }
            if path != keep && std::fs::remove_file(&path).is_ok() {
                total -= len;
            }
        }
    }
}

impl std::fmt::Debug for NativeCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NativeCache").field("dir", &self.dir).finish_non_exhaustive()
    }
}

fn name_of(engine: &SandboxEngine, digest: &Digest) -> String {
    let kind = engine.kind().as_str();
    // 128 bits of the fingerprint keep the name within what file systems allow.
    let fingerprint = engine.fingerprint().get(..32).unwrap_or_default();
    format!("{digest}-{fingerprint}-{kind}-i{INSTRUMENTATION}{SUFFIX}")
}

/// Removes what a host left that died while it wrote. A living one needs seconds for a file.
fn remove_leftovers(dir: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten().filter(|e| e.file_name().to_string_lossy().ends_with(".tmp")) {
        let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age > LEFTOVER_AGE) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn write_new(path: &Path, parts: &[&[u8]]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()
}

fn load_or_make_key(path: &Path) -> Result<[u8; KEY_BYTES], CacheError> {
    let io = |action| move |source| CacheError::Io { action, path: path.to_owned(), source };
    let reject = |reason| Err(CacheError::Unsafe { path: path.to_owned(), reason });
    if !path.exists() {
        let mut key = [0; KEY_BYTES];
        getrandom::fill(&mut key).map_err(|e| CacheError::Entropy(e.to_string()))?;
        // Written aside and linked into place: two hosts that start at once agree on one whole key.
        let temp = path.with_extension(format!("{}.tmp", std::process::id()));
        write_new(&temp, &[&key]).map_err(io("write the key"))?;
        let linked = std::fs::hard_link(&temp, path);
        let _ = std::fs::remove_file(&temp);
        match linked {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(io("write the key")(e));
            }
            _ => {}
        }
    }
    let file = File::open(path).map_err(io("open the key"))?;
    let meta = file.metadata().map_err(io("look at the key"))?;
    if meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & 0o077 != 0 {
        return reject("its key can be read or written by other users; remove the key to have a new one made");
    }
    let mut key = Vec::new();
    file.take(KEY_BYTES as u64 + 1).read_to_end(&mut key).map_err(io("read the key"))?;
    match key.try_into() {
        Ok(key) => Ok(key),
        Err(_) => reject("its key has the wrong length; remove the key to have a new one made"),
    }
}
