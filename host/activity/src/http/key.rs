//! The host's signing key: Ed25519, made at the first start, kept in the data directory, shown as a JWK set together with
//! those that it is exchanged with.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use relive_core::json::Json;
use ring::digest;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair, Signature};

/// The key's file in the data directory (PKCS #8, DER).
const FILE_NAME: &str = "http-signing-key";
/// Keys that are shown and do not sign: the one that signs next, and the one that signed before.
const BESIDE: [&str; 2] = ["http-signing-key.next", "http-signing-key.previous"];
/// A PKCS #8 document of this key has 83 bytes.
const MAX_KEY_BYTES: u64 = 4 << 10;
/// Its owner reads and writes it; nobody else.
const MODE: u32 = 0o600;

/// Why there is no key. Fits "failed to {..}".
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("{what} the signing key {}: {source}", path.display())]
    File { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("read the signing key {}: {reason}; restore it, or move it away to have a new one made", path.display())]
    Form { path: PathBuf, reason: String },
    #[error("make a signing key: the system gives no randomness")]
    Randomness,
}

/// A key that signs requests.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    kid: String,
    /// Public keys that receivers shall know, too.
    beside: Vec<Vec<u8>>,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SigningKey").field(&self.kid).finish()
    }
}

impl SigningKey {
    /// A key that lives as long as it is held.
    pub fn generate() -> Result<Self, KeyError> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyError::Randomness)?;
        Self::from_pkcs8(document.as_ref(), Path::new(FILE_NAME))
    }

    /// The key of a data directory, made if there is none. When it returns, the key is on the disk. Whoever calls it
    /// holds the directory's lock. Blocks.
    pub fn of_directory(directory: &Path) -> Result<Self, KeyError> {
        let path = directory.join(FILE_NAME);
        let mut key = match read(&path)? {
            Some(document) => Self::from_pkcs8(&document, &path)?,
            None => {
                let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
                let document = document.map_err(|_| KeyError::Randomness)?;
                write(directory, &path, document.as_ref())?;
                Self::from_pkcs8(document.as_ref(), &path)?
            }
        };
        for path in BESIDE.map(|name| directory.join(name)) {
            if let Some(document) = read(&path)? {
                key.beside.push(Self::from_pkcs8(&document, &path)?.public().to_vec());
            }
        }
        Ok(key)
    }

    fn from_pkcs8(document: &[u8], path: &Path) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(document)
            .map_err(|e| KeyError::Form { path: path.to_owned(), reason: e.to_string() })?;
        let kid = thumbprint(pair.public_key().as_ref());
        Ok(Self { pair, kid, beside: Vec::new() })
    }

    /// The key's name: its thumbprint (RFC 7638).
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The 32 bytes of the public key.
    #[must_use]
    pub fn public(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// The public keys as a JWK set (RFC 7517, RFC 8037): the one that signs, then those beside it.
    #[must_use]
    pub fn jwks(&self) -> Json {
        let keys = std::iter::once(self.public()).chain(self.beside.iter().map(Vec::as_slice));
        let keys: Vec<String> = keys
            .map(|public| {
                let (x, kid) = (URL_SAFE_NO_PAD.encode(public), thumbprint(public));
                format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}","kid":"{kid}","alg":"EdDSA","use":"sig"}}"#)
            })
            .collect();
        let text = format!(r#"{{"keys":[{}]}}"#, keys.join(","));
        // Base64 needs no escapes, so this is JSON.
        Json::parse(&text).unwrap_or_else(|_| Json::null())
    }

    pub(super) fn sign(&self, message: &[u8]) -> Signature {
        self.pair.sign(message)
    }
}

/// SHA-256 over the required members in alphabetical order, without space (RFC 7638, RFC 8037 appendix A.3).
fn thumbprint(public: &[u8]) -> String {
    let text = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, URL_SAFE_NO_PAD.encode(public));
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, text.as_bytes()))
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> KeyError {
    let path = path.to_owned();
    move |source| KeyError::File { what, path, source }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, KeyError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed("open", path))?,
    };
    let permissions = file.metadata().map_err(failed("open", path))?.permissions();
    if permissions.mode() & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "the signing key could be read by others; it no longer can");
        file.set_permissions(std::fs::Permissions::from_mode(MODE)).map_err(failed("protect", path))?;
    }
    let mut document = Vec::new();
    file.take(MAX_KEY_BYTES).read_to_end(&mut document).map_err(failed("read", path))?;
    Ok(Some(document))
}

/// Puts the key there whole or not at all: written beside its place, synced, moved, and the directory synced.
fn write(directory: &Path, path: &Path, document: &[u8]) -> Result<(), KeyError> {
    let fresh = path.with_extension("new");
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed("write", &fresh)(error)),
        _ => {}
    }
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(MODE).open(&fresh).map_err(failed("write", &fresh))?;
    file.write_all(document).and_then(|()| file.sync_all()).map_err(failed("write", &fresh))?;
    std::fs::rename(&fresh, path).map_err(failed("write", path))?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thumbprint_is_that_of_the_standard() {
        // RFC 8037, appendix A.3.
        let public = URL_SAFE_NO_PAD.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").expect("base64");
        assert_eq!(thumbprint(&public), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn keys_are_exchanged_without_one_that_nobody_knows() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = |name: &str| directory.path().join(name);
        let shown = || {
            let key = SigningKey::of_directory(directory.path()).expect("a key");
            let set: serde_json::Value = serde_json::from_str(key.jwks().as_str()).expect("JSON");
            let kids =
                set["keys"].as_array().expect("keys").iter().map(|k| k["kid"].as_str().expect("a kid").to_owned());
            (key.kid().to_owned(), kids.collect::<Vec<_>>())
        };
        let (first, kids) = shown();
        assert_eq!(kids, std::slice::from_ref(&first));
        // PKCS #8 as `openssl genpkey` writes it: version 1, without the public key.
        let head = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        std::fs::write(file("http-signing-key.next"), [head.as_slice(), &[7; 32]].concat()).expect("written");
        let (signs, kids) = shown();
        assert_eq!((signs, kids.len(), &kids[0]), (first.clone(), 2, &first));
        let second = kids[1].clone();
        std::fs::rename(file("http-signing-key"), file("http-signing-key.previous")).expect("moved");
        std::fs::rename(file("http-signing-key.next"), file("http-signing-key")).expect("moved");
        assert_eq!(shown(), (second.clone(), vec![second, first]));
    }

    #[test]
    fn a_key_is_made_once_and_belongs_to_its_owner() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(FILE_NAME);
        std::fs::write(path.with_extension("new"), b"half a key").expect("left by a crash");
        let first = SigningKey::of_directory(directory.path()).expect("a key");
        let mode = || std::fs::metadata(&path).expect("a file").permissions().mode() & 0o777;
        assert_eq!(mode(), MODE);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("opened to all");
        let second = SigningKey::of_directory(directory.path()).expect("the key");
        assert_eq!((first.kid(), mode()), (second.kid(), MODE));
        let set: serde_json::Value = serde_json::from_str(second.jwks().as_str()).expect("JSON");
        assert_eq!((&set["keys"][0]["kid"], &set["keys"][0]["kty"]), (&first.kid().into(), &"OKP".into()));
        std::fs::write(&path, b"no key").expect("written");
        assert!(SigningKey::of_directory(directory.path()).expect_err("broken").to_string().contains("restore it"));
    }
}
