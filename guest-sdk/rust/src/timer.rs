//! Durable timers.

use crate::host;
use crate::promise::Pending;
use crate::runtime::{self, OnCancel};
use crate::Failure;
use std::future::IntoFuture;
use std::time::Duration;

/// A timer that is not started yet. Made by [`timer`]; `.await` starts it and waits.
#[must_use = "a timer does nothing unless started or awaited"]
#[derive(Debug, Clone, Copy)]
pub struct Timer {
    duration: Duration,
}

/// A timer that fires `duration` after [`now`](crate::now), even if the host is down in between. Durations beyond
/// 584 years count as 584 years.
pub fn timer(duration: Duration) -> Timer {
    Timer { duration }
}

impl Timer {
    /// Start it now, to be awaited later.
    pub fn start(self) -> Pending<()> {
        let started = runtime::with(|runtime| {
            runtime.flush();
            host::start_timer(nanos(self.duration))
        });
        match started {
            Ok(promise) => Pending::issued(promise, OnCancel::Spent, fired),
            Err(refused) => Pending::refused(refused.into(), fired),
        }
    }
}

impl IntoFuture for Timer {
    type Output = Result<(), Failure>;
    type IntoFuture = Pending<()>;

    fn into_future(self) -> Self::IntoFuture {
        self.start()
    }
}

fn fired(_: String) -> Result<(), Failure> {
    Ok(())
}

/// As the contract counts durations.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
