//! What people and programs see: stdout for results, stderr for everything else.

mod json;
mod table;
mod time;

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Write},
};

use serde_json::value::RawValue;

pub use json::{Indented, compact};
pub use table::Table;
pub use time::{ago, bytes, duration, parse_duration, until};

use crate::{
    Context,
    exit::{Exit, Failure},
};

/// Writes text and a newline to stdout. A reader that has seen enough (`| head`) is not a failure.
pub fn line(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.write_all(b"\n")).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Failed, "output", format!("failed to write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// A list for programs: an object with one member, its items as the host sent them.
pub fn items(name: &str, items: &[Box<RawValue>]) -> Result<(), Failure> {
    let whole = serde_json::to_string(&BTreeMap::from([(name, items)]));
    line(&whole.map_err(|e| Failure::new(Exit::Failed, "output", e.to_string()))?)
}

/// A remark for people, which programs do not get.
pub fn note(context: &Context, text: &str) {
    if !context.global.json {
        complain(text);
    }
}

/// A line on stderr.
pub fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", plain(text));
}

/// A verb's failure: one line and what to do, or the problem as JSON.
pub fn failure(failure: &Failure, json: bool) {
    if json {
        let _ = writeln!(std::io::stderr().lock(), "{}", failure.to_document());
        return;
    }
    complain(&format!("error: {} ({})", failure.message, failure.code));
    if let Some(hint) = &failure.hint {
        complain(&format!("what to do: {hint}"));
    }
}

/// Text from elsewhere, with what a terminal would obey made visible: guests write logs, and may be hostile.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        assert_eq!(super::plain("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\nc");
    }
}
