//! Finding the example guests that `scripts/guests` has built.

use std::path::PathBuf;

/// The folder that the guests are in: `RELIVE_GUESTS`, else the target folder's `guests/out`.
#[must_use]
pub fn folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("RELIVE_GUESTS") {
        return folder.into();
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
    target.join("guests/out")
}

/// The workspace's root.
#[must_use]
pub fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The bytes of a guest, such as `order/order_workflow.wasm`.
///
/// # Panics
/// If the guests are not built: a test without its guest must fail, not pass.
#[must_use]
pub fn bytes(name: &str) -> Vec<u8> {
    let path = folder().join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}; build the guests with scripts/guests", path.display()))
}
