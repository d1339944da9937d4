//! Log lines of the execution: `log::info!("reserved {id}"; order = order_id, cents = 1299)`.
//!
//! A line is a format string with its arguments, then, after a semicolon, fields: names and values that serialise to
//! JSON. Lines are kept with the execution, and silent while history is relived. One that the host refuses is lost.

use crate::bindings::durable;
use crate::host;
use serde::Serialize;

#[doc(hidden)]
pub use crate::bindings::durable::LogLevel;

#[doc(inline)]
pub use crate::{__debug as debug, __error as error, __info as info, __trace as trace, __warn as warn};

/// One field. A value that does not serialise becomes null.
#[doc(hidden)]
pub fn field(name: &str, value: &(impl Serialize + ?Sized)) -> durable::LogField {
    durable::LogField {
        name: name.to_owned(),
        value: serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned()),
    }
}

#[doc(hidden)]
pub fn line(level: LogLevel, message: &str, fields: &[durable::LogField]) {
    let _ = host::log(level, message, fields);
}

/// Expands to one log call; the level's own macros are what people use.
#[doc(hidden)]
#[macro_export]
macro_rules! __log {
    ($level:ident, $format:literal $(, $argument:expr)* $(,)? $(; $($name:ident = $value:expr),+ $(,)?)?) => {
        $crate::log::line(
            $crate::log::LogLevel::$level,
            &::std::format!($format $(, $argument)*),
            &[$($($crate::log::field(::std::stringify!($name), &$value)),+)?],
        )
    };
}

/// Log at level trace.
#[doc(hidden)]
#[macro_export]
macro_rules! __trace { ($($line:tt)+) => { $crate::__log!(Trace, $($line)+) }; }
/// Log at level debug.
#[doc(hidden)]
#[macro_export]
macro_rules! __debug { ($($line:tt)+) => { $crate::__log!(Debug, $($line)+) }; }
/// Log at level info.
#[doc(hidden)]
#[macro_export]
macro_rules! __info { ($($line:tt)+) => { $crate::__log!(Info, $($line)+) }; }
/// Log at level warn.
#[doc(hidden)]
#[macro_export]
macro_rules! __warn { ($($line:tt)+) => { $crate::__log!(Warn, $($line)+) }; }
/// Log at level error.
#[doc(hidden)]
#[macro_export]
macro_rules! __error { ($($line:tt)+) => { $crate::__log!(Error, $($line)+) }; }
