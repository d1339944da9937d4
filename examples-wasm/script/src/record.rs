//! What a program saw, in the order in which it saw it: the workflow's result, by which runs are compared.

use relive_sdk::Failure;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

/// One thing seen.
#[derive(Serialize, JsonSchema)]
pub struct Seen {
    /// The step's kind, such as `activity`.
    pub step: &'static str,
    /// The activity's name, the channel, the handle, the change id or the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// What came of it, if it succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ok: Option<Value>,
    /// The failure, if it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub err: Option<SeenFailure>,
}

/// The part of a failure that programs branch on.
#[derive(Serialize, JsonSchema)]
pub struct SeenFailure {
    pub kind: Value,
    pub code: String,
    pub message: String,
}

/// The workflow's result.
#[derive(Default, Serialize, JsonSchema)]
pub struct Record {
    /// How many things were seen.
    pub count: u64,
    /// FNV-1a (64 bits, hexadecimal) over each entry's JSON and a line feed.
    pub digest: String,
    /// The entries; none if the script is quiet.
    pub seen: Vec<Seen>,
    #[serde(skip)]
    hash: Fnv,
}

struct Fnv(u64);

impl Default for Fnv {
    /// The offset basis of the published algorithm.
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl Record {
    pub fn add(&mut self, seen: Seen, keep: bool) {
        self.count += 1;
        if let Ok(text) = serde_json::to_string(&seen) {
            self.hash.write(text.as_bytes());
            self.hash.write(b"\n");
        }
        if keep {
            self.seen.push(seen);
        }
    }

    pub fn finish(mut self) -> Self {
        self.digest = format!("{:016x}", self.hash.0);
        self
    }
}

impl From<&Failure> for SeenFailure {
    fn from(failure: &Failure) -> Self {
        Self {
            kind: serde_json::to_value(failure.kind).unwrap_or_default(),
            code: failure.code.clone(),
            message: failure.message.clone(),
        }
    }
}
