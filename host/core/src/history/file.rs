//! A history as a file: what other code is checked against where there is no host, and what is kept of every format that
//! was ever released.
//!
//! A line of JSON each: first what the run's row says, then the events as they are stored, `data` in base64. Whoever reads
//! one checks its chain, so that a file that was cut off or edited says so.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use super::{Violation, decode_all};
use crate::{
    canonical_hash::GENESIS,
    codec::StoredEvent,
    event::HistoryEvent,
    ids::{Digest, ExecutionKey},
    ports::{ExecutionRow, Status},
    time::Timestamp,
};

/// The format's number; it grows when a reader of before could not read it.
pub const FORMAT: u32 = 1;
/// Files with a history end like this.
pub const SUFFIX: &str = ".history.jsonl";

/// The first line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    pub relive_history: u32,
    #[serde(flatten)]
    pub execution: ExecutionKey,
    pub workflow: String,
    /// The component that the run is on.
    pub digest: Digest,
    pub status: Status,
    /// Inbound events up to this one were applied,
    pub applied_through: u64,
    /// and so many commands issued.
    pub commands: u64,
    pub events: u64,
    /// SHA-256 over this line without it, and the last event's hash.
    pub seal: Digest,
}

impl Head {
    fn sealed(mut self, last: &[u8; 32]) -> Self {
        self.seal = Digest([0; 32]);
        let mut text = serde_json::to_vec(&self).unwrap_or_default();
        text.extend_from_slice(last);
        self.seal = Digest::of(&text);
        self
    }
}

/// Each line behind it.
#[derive(Serialize, Deserialize)]
struct Line {
    event_id: u64,
    timestamp: Timestamp,
    event_type: u16,
    codec: u8,
    event_version: u16,
    data: String,
    hash: Digest,
}

/// A history that was read from a file, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryFile {
    pub head: Head,
    pub events: Vec<HistoryEvent>,
}

/// Why a file is no history. Lines count from 1.
#[derive(Debug, thiserror::Error)]
pub enum HistoryFileError {
    #[error("line {line} is not what a history's file holds there: {error}")]
    Line { line: usize, error: serde_json::Error },
    #[error("it is of format {found}; this program reads {FORMAT}: use one that is newer")]
    Format { found: u32 },
    #[error("line {line} holds data that is no base64: {error}")]
    Data { line: usize, error: base64::DecodeError },
    #[error("it holds {found} events of {expected}: it was cut off")]
    CutOff { found: u64, expected: u64 },
    #[error("it was changed since it was written: {0}")]
    Changed(#[from] Violation),
    #[error("its first line was changed since it was written")]
    Head,
    #[error("it is empty")]
    Empty,
}

fn line(out: &mut String, value: &impl Serialize) {
    // Names, numbers and text: there is nothing in it that JSON lacks.
    out.push_str(&serde_json::to_string(value).unwrap_or_default());
    out.push('\n');
}

/// The file of a run whose events up to the row's last are these.
#[must_use]
pub fn write(row: &ExecutionRow, events: &[StoredEvent]) -> String {
    let mut out = String::new();
    let head = Head {
        relive_history: FORMAT,
        execution: row.execution.clone(),
        workflow: row.workflow.to_string(),
        digest: row.digest,
        status: row.status,
        applied_through: row.applied_through,
        commands: row.command_count,
        events: events.len() as u64,
        seal: Digest([0; 32]),
    };
    line(&mut out, &head.sealed(&events.last().map_or(GENESIS, |last| last.hash)));
    for event in events {
        let stored = Line {
            event_id: event.event_id,
            timestamp: event.timestamp,
            event_type: event.event_type,
            codec: event.codec,
            event_version: event.event_version,
            data: STANDARD.encode(&event.bytes),
            hash: Digest(event.hash),
        };
        line(&mut out, &stored);
    }
    out
}

/// Reads a file, and checks that it is whole and as it was written.
pub fn read(text: &str) -> Result<HistoryFile, HistoryFileError> {
    let mut lines = text.lines().enumerate();
    let Some((_, first)) = lines.next() else { return Err(HistoryFileError::Empty) };
    #[derive(Deserialize)]
    struct Format {
        relive_history: u32,
    }
    let bad = |line: usize| move |error| HistoryFileError::Line { line, error };
    // Before the rest, which a newer format may have other.
    let format: Format = serde_json::from_str(first).map_err(bad(1))?;
    if format.relive_history != FORMAT {
        return Err(HistoryFileError::Format { found: format.relive_history });
    }
    let head: Head = serde_json::from_str(first).map_err(bad(1))?;
    let mut stored = Vec::new();
    for (at, text) in lines {
        if text.is_empty() {
            continue;
        }
        let line = at + 1;
        let event: Line = serde_json::from_str(text).map_err(bad(line))?;
        let bytes = STANDARD.decode(&event.data).map_err(|error| HistoryFileError::Data { line, error })?;
        stored.push(StoredEvent {
            event_id: event.event_id,
            timestamp: event.timestamp,
            event_type: event.event_type,
            codec: event.codec,
            event_version: event.event_version,
            bytes: bytes.into(),
            hash: event.hash.0,
        });
    }
    let found = stored.len() as u64;
    if found != head.events {
        return Err(HistoryFileError::CutOff { found, expected: head.events });
    }
    let events = decode_all(&stored)?;
    if head.clone().sealed(&stored.last().map_or(GENESIS, |last| last.hash)) != head {
        return Err(HistoryFileError::Head);
    }
    Ok(HistoryFile { events, head })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Namespace, RunId, RunKey, WorkflowId,
        codec::{Codec, CodecId, current_version},
        event::{CancelRequested, EventBody},
        ports::NewExecution,
    };

    fn history(codec: CodecId) -> (ExecutionRow, Vec<StoredEvent>) {
        let execution = ExecutionKey {
            namespace: Namespace::default(),
            workflow_id: WorkflowId::new("order/17 \u{e4}").expect("an id"),
            run_id: RunId(uuid::Uuid::from_bytes([7; 16])),
        };
        let new = NewExecution {
            execution,
            workflow: "order".into(),
            digest: Digest::of(b"code"),
            started_at: Timestamp(5),
            correlation_id: None,
        };
        let mut events = Vec::new();
        let mut hash = GENESIS;
        for id in 1..=3 {
            let body = EventBody::new(None, CancelRequested { reason: format!("the {id}.") });
            let mut bytes = Vec::new();
            codec.encode(&body, &mut bytes).expect("encodable");
            let ty = body.event_type();
            let mut event = StoredEvent {
                event_id: id,
                timestamp: Timestamp(5 + id),
                event_type: ty.code(),
                codec: codec.codec_id(),
                event_version: current_version(ty),
                bytes: bytes.into(),
                hash: [0; 32],
            };
            event.hash = event.expected_hash(&hash);
            hash = event.hash;
            events.push(event);
        }
        let row = ExecutionRow { applied_through: 2, command_count: 9, ..ExecutionRow::new(RunKey(1), &new, 1) };
        (row, events)
    }

    #[test]
    fn what_is_written_is_read() {
        for codec in [CodecId::Json, CodecId::Postcard] {
            let (row, events) = history(codec);
            let file = read(&write(&row, &events)).expect("readable");
            assert_eq!(file.head.execution, row.execution);
            assert_eq!((file.head.applied_through, file.head.commands, file.head.events), (2, 9, 3));
            assert_eq!(file.events, decode_all(&events).expect("a history"));
        }
    }

    #[test]
    fn what_was_cut_off_or_changed_says_so() {
        let (row, events) = history(CodecId::Json);
        let whole = write(&row, &events);
        let said = |text: &str| read(text).expect_err("no history").to_string();
        let lines: Vec<&str> = whole.lines().collect();
        assert_eq!(said(&lines[..3].join("\n")), "it holds 2 events of 3: it was cut off");
        assert!(said(&whole[..whole.len() - 9]).starts_with("line 4 is not what"));
        assert!(said(&whole.replace("\"timestamp\":7", "\"timestamp\":6")).starts_with("it was changed"));
        assert!(said(&whole.replacen("history\":1", "history\":2", 1)).contains("format 2"));
        assert!(said(&whole.replacen("\"commands\":9", "\"commands\":8", 1)).starts_with("its first line"));
        assert!(said("{}").starts_with("line 1"));
        assert_eq!(said(""), "it is empty");
    }
}
