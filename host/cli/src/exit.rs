//! How the program ends: exit codes, and the failure that a verb returns.

use std::process::ExitCode;

use serde::{Deserialize, Serialize};

/// The exit codes of every verb. They are part of the command line's contract: scripts branch on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Ok,
    /// The request failed for a reason that has no code of its own.
    Failed,
    /// The command line, or JSON on it, is wrong.
    Usage,
    NotFound,
    /// Already started, closed, locked, address in use.
    Conflict,
    /// The execution failed, was canceled or terminated, or stands blocked.
    Unsuccessful,
    /// A replay that does not agree, or a history that does not check out.
    Findings,
    Unreachable,
    Timeout,
}

impl Exit {
    pub const ALL: [Self; 9] = [
        Self::Ok,
        Self::Failed,
        Self::Usage,
        Self::NotFound,
        Self::Conflict,
        Self::Unsuccessful,
        Self::Findings,
        Self::Unreachable,
        Self::Timeout,
    ];

    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Conflict => 4,
            Self::Unsuccessful => 5,
            Self::Findings => 6,
            Self::Unreachable => 7,
            Self::Timeout => 8,
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "done",
            Self::Failed => "the request failed",
            Self::Usage => "the command line or the JSON on it is wrong",
            Self::NotFound => "no such workflow, execution, key ...",
            Self::Conflict => "already started, closed, data directory locked, address in use",
            Self::Unsuccessful => "the execution failed, was canceled or terminated, or is blocked",
            Self::Findings => "replay disagrees, or verify found something",
            Self::Unreachable => "no host answers at the address",
            Self::Timeout => "not finished in the time given",
        }
    }

    /// The exit code for an HTTP status.
    #[must_use]
    pub fn of_status(status: u16) -> Self {
        match status {
            404 => Self::NotFound,
            409 => Self::Conflict,
            408 | 504 => Self::Timeout,
            _ => Self::Failed,
        }
    }

    /// The table that `relive --help` shows.
    #[must_use]
    pub fn table() -> String {
        let lines = Self::ALL.map(|exit| format!("  {}  {}\n", exit.code(), exit.meaning()));
        format!("Exit codes:\n{}", lines.concat())
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// What a host answered instead of a result (RFC 9457), as far as it is used here.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Problem {
    #[serde(default)]
    pub status: u16,
    #[serde(default)]
    pub code: String,
    #[serde(default)]
    pub detail: String,
}

/// Why a verb did not do what it was asked to.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub code: String,
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The host's own document, exactly as it came.
    pub document: Option<String>,
}

impl Failure {
    #[must_use]
    pub fn new(exit: Exit, code: &str, message: impl Into<String>) -> Self {
        Self { exit, code: code.to_owned(), message: message.into(), hint: None, document: None }
    }

    /// The command line is wrong.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A host's answer of an error status.
    #[must_use]
    pub fn of_answer(status: u16, body: String) -> Self {
        match serde_json::from_str::<Problem>(&body) {
            Ok(problem) if !problem.code.is_empty() => Self {
                exit: Exit::of_status(status),
                // A sentence that names a command says what to do already.
                hint: hint_for(&problem.code).filter(|_| !problem.detail.contains("`relive ")).map(str::to_owned),
                code: problem.code,
                message: problem.detail,
                document: Some(body),
            },
            _ => {
                let message = format!("the server answered {status}, and not as a relive host does");
                Self::new(Exit::Failed, "not-a-host", message).hint("check the address in --server or RELIVE_SERVER")
            }
        }
    }

    /// The failure as a problem document, for `--json`.
    #[must_use]
    pub fn to_document(&self) -> String {
        self.document.clone().unwrap_or_else(|| {
            let problem = Problem { status: 0, code: self.code.clone(), detail: self.message.clone() };
            serde_json::to_string(&problem).unwrap_or_default()
        })
    }
}

/// What to type, for codes where the host's sentence cannot know it.
fn hint_for(code: &str) -> Option<&'static str> {
    Some(match code {
        "unknown-workflow" => "`relive workflows` lists what is deployed; `relive deploy FILE` deploys",
        "unknown-execution" => "`relive list` lists executions; --namespace names another namespace",
        "unknown-key" => "`relive query ID` lists the keys that the execution published",
        "already-started" => "`relive show ID` shows it; take another --id, or none",
        "id-reuse-refused" => "`relive result ID` tells how it ended; take another --id, or another --reuse",
        "idempotency-mismatch" => "take a fresh --request-id for another request",
        "closed" => "`relive result ID` tells how it ended; start it again under the same --id if that is wanted",
        "blocked" => "`relive show ID` tells why; `relive unblock ID` lets it try again",
        "schema-mismatch" => "`relive inspect FILE` shows the schema of the input",
        "history-full" => "the workflow should continue as new; `relive terminate ID` ends it",
        "no-space" => "free some space on the disk of the data directory; `relive doctor` shows how much there is",
        "read-only" | "store-unavailable" => "`relive doctor --data DIR` checks the data directory",
        "not-wasm" | "truncated" => "name the .wasm file that the build made",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_what_is_documented() {
        let codes: Vec<u8> = Exit::ALL.iter().map(|e| e.code()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        let table = Exit::table();
        for exit in Exit::ALL {
            assert!(table.contains(&format!("  {}  {}", exit.code(), exit.meaning())), "{exit:?}");
        }
    }

    #[test]
    fn statuses_become_exit_codes() {
        for (status, code) in [
            (400, 1),
            (404, 3),
            (408, 8),
            (409, 4),
            (413, 1),
            (422, 1),
            (429, 1),
            (500, 1),
            (503, 1),
            (504, 8),
            (507, 1),
        ] {
            assert_eq!(Exit::of_status(status).code(), code, "{status}");
        }
    }

    #[test]
    fn a_problem_keeps_its_document() {
        let body = r#"{"type":"urn:x","status":404,"code":"unknown-workflow","detail":"no such","context":{}}"#;
        let failure = Failure::of_answer(404, body.to_owned());
        assert_eq!((failure.exit, failure.code.as_str()), (Exit::NotFound, "unknown-workflow"));
        assert_eq!(failure.to_document(), body);
        assert!(failure.hint.is_some());
    }

    #[test]
    fn an_answer_that_is_no_problem_is_not_taken_for_one() {
        assert_eq!(Failure::of_answer(404, "<html>".to_owned()).code, "not-a-host");
    }
}
