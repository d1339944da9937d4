//! Task tokens: what a worker shows to answer for an attempt. They name the attempt and carry the claim's secret, so
//! whoever has one may answer, and nobody can make one up.

use std::{fmt, str::FromStr};

use relive_core::RunKey;

use super::TaskRef;

/// The right to answer for one attempt. Its text is opaque to users: `run-command-attempt-secret` in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TaskToken {
    pub(crate) task: TaskRef,
    pub(crate) secret: u64,
}

/// Not a token's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no task token; use the one that came with the task")]
pub struct NoToken;

impl fmt::Display for TaskToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TaskRef { run, command_no, attempt } = self.task;
        write!(f, "{:x}-{command_no:x}-{attempt:x}-{:016x}", run.0, self.secret)
    }
}

/// Without the secret, so that logs do not give it away.
impl fmt::Debug for TaskToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskToken({:?})", self.task)
    }
}

impl TaskToken {
    /// The run that a token or a task's id names: the part that is no secret.
    pub(crate) fn run_of(text: &str) -> Option<RunKey> {
        let run =
            text.split('-').next().filter(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_hexdigit()))?;
        u64::from_str_radix(run, 16).ok().map(RunKey)
    }
}

impl FromStr for TaskToken {
    type Err = NoToken;

    fn from_str(text: &str) -> Result<Self, NoToken> {
        let mut parts = text.split('-').map(|part| {
            let hex = !part.is_empty() && part.bytes().all(|b| b.is_ascii_hexdigit());
            hex.then(|| u64::from_str_radix(part, 16).ok()).flatten().ok_or(NoToken)
        });
        let mut next = || parts.next().ok_or(NoToken)?;
        let (run, command_no, attempt, secret) = (next()?, next()?, next()?, next()?);
        let attempt = u32::try_from(attempt).map_err(|_| NoToken)?;
        match parts.next() {
            None => Ok(Self { task: TaskRef { run: RunKey(run), command_no, attempt }, secret }),
            Some(_) => Err(NoToken),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written() {
        let task = TaskRef { run: RunKey(77), command_no: 3, attempt: 2 };
        let token = TaskToken { task, secret: u64::MAX - 5 };
        assert_eq!(token.to_string().parse(), Ok(token));
        assert!(!format!("{token:?}").contains("fffffffa"), "no secret in logs");
    }

    #[test]
    fn other_text_is_no_token() {
        for text in [
            "",
            "-",
            "1-2-3",
            "1-2-3-4-5",
            "1-2-100000000-4",
            "x-2-3-4",
            "+1-2-3-4",
            "1-2-3-",
            "1-2-3-11112222333344445",
        ] {
            assert_eq!(text.parse::<TaskToken>(), Err(NoToken), "{text:?}");
        }
    }
}
