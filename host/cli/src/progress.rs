//! A line on stderr for what takes longer than a second, so that nobody wonders.

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    time::Duration,
};

/// Shorter than this nobody wonders.
const PATIENCE: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_secs(10);

/// Runs `work`, and says `what` if it takes longer than a second, again every ten.
pub fn while_doing<T>(what: &str, quiet: bool, work: impl FnOnce() -> T) -> T {
    if quiet {
        return work();
    }
    std::thread::scope(|scope| {
        let (done, told) = mpsc::channel::<()>();
        scope.spawn(move || {
            let mut waited = PATIENCE;
            let mut pause = PATIENCE;
            while told.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{what} ({} s) ...", waited.as_secs());
                pause = AGAIN;
                waited += AGAIN;
            }
        });
        let result = work();
        drop(done);
        result
    })
}
