//! How domain values are numbered in databases, the same for every adapter: row keys, statuses, levels, flags.
//!
//! Knows no database. `check` keeps what it is given in range.

use relive_core::{RunKey, Timestamp, cursor::LogLevel, limits::MAX_EVENT_ID, ports::Status};

use crate::check::MAX_RUN_KEY;

/// The lower bits of a row key; the upper ones are the run.
pub(crate) const NUMBER_BITS: u32 = 24;
const NUMBER_MASK: u64 = (1 << NUMBER_BITS) - 1;

const _: () = assert!(MAX_EVENT_ID == NUMBER_MASK && MAX_RUN_KEY == (1 << 39) - 1, "row keys are (run << 24) | number");

/// Bits of a task's `flags`.
pub(crate) const CANCEL_REQUESTED: i64 = 1;
pub(crate) const PAUSED: i64 = 2;

pub(crate) const LEVELS: [LogLevel; 5] =
    [LogLevel::Trace, LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error];

/// The row key of a run's event, task, timer or log line.
pub(crate) fn row_key(run: RunKey, number: u64) -> i64 {
    ((run.0 << NUMBER_BITS) | number.min(NUMBER_MASK)).cast_signed()
}

/// The last row key that a run can have.
pub(crate) fn last_row_key(run: RunKey) -> i64 {
    row_key(run, NUMBER_MASK)
}

pub(crate) fn split_key(key: i64) -> (RunKey, u64) {
    (RunKey(key.cast_unsigned() >> NUMBER_BITS), key.cast_unsigned() & NUMBER_MASK)
}

pub(crate) fn status_code(status: Status) -> i64 {
    Status::ALL.iter().position(|s| *s == status).map_or(-1, |n| n as i64)
}

pub(crate) fn status_of(code: i64) -> Option<Status> {
    usize::try_from(code).ok().and_then(|n| Status::ALL.get(n)).copied()
}

pub(crate) fn level_code(level: LogLevel) -> i64 {
    LEVELS.iter().position(|l| *l == level).map_or(-1, |n| n as i64)
}

/// Times at the end of the range are held there: they mean "any time".
pub(crate) fn time(at: Timestamp) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}
