//! Named abort points for crash tests: `RELIVE_ABORT_AT=name:n` kills the process, as by `kill -9`, when the point is
//! passed for the n-th time. Only in builds with debug assertions; release builds have none of it.

/// Passes the point `name`.
#[cfg(debug_assertions)]
pub(crate) fn point(name: &str) {
    use std::sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    };
    static ARMED: OnceLock<Option<(String, AtomicU64)>> = OnceLock::new();
    let armed = ARMED.get_or_init(|| {
        let text = std::env::var("RELIVE_ABORT_AT").ok()?;
        let (name, n) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_owned(), AtomicU64::new(n.parse().unwrap_or(1))))
    });
    let Some((at, left)) = armed else { return };
    if at != name || left.fetch_sub(1, Ordering::Relaxed) != 1 {
        return;
    }
    if let Ok(log) = std::env::var("RELIVE_ABORT_LOG") {
        let _ = std::fs::write(log, name);
    }
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
}

#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn point(_name: &str) {}
