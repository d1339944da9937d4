//! Calls that take no command number: information, time, randomness, versions, logs, published values.

use super::{Call, CallError, Cursor, LogLevel, LogLine, Mode, Stop};
use crate::{
    event::{EventBody, VersionRecorded},
    ids::check_id,
    limits::{
        HELD_TEXT_BYTES, MAX_LOG_BYTES, MAX_LOGS_PER_TURN, MAX_PUBLISHES_PER_TURN, MAX_RANDOM_BYTES, MAX_VERSIONS,
    },
    time::Timestamp,
};

impl Cursor {
    /// `durable.now`: zero before the start.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Events applied and commands issued so far; what `durable.info` shows as the history's length.
    #[must_use]
    pub fn history_length(&self) -> u64 {
        self.applied_events + self.issued
    }

    /// Whether continue-as-new is advised.
    #[must_use]
    pub fn continue_as_new_advised(&self) -> bool {
        self.history_length() >= self.run.limits.advise_after()
    }

    /// `durable.random-u64`. During instantiation the stream answers zeros, so that two fresh instances are equal.
    pub fn random_u64(&mut self) -> u64 {
        if self.mode == Mode::Dormant { 0 } else { self.durable.next_u64() }
    }

    /// `durable.random-bytes`.
    pub fn random_bytes(&mut self, length: u32) -> Result<Vec<u8>, Stop> {
        if length > MAX_RANDOM_BYTES {
            return Err(Stop::Contract(format!(
                "random-bytes was asked for {length} bytes; at most {MAX_RANDOM_BYTES} are given"
            )));
        }
        Ok(if self.mode == Mode::Dormant { vec![0; length as usize] } else { self.durable.bytes(length as usize) })
    }

    /// `durable.uuid`.
    pub fn uuid(&mut self) -> String {
        if self.mode == Mode::Dormant { uuid::Uuid::nil().to_string() } else { self.durable.uuid().to_string() }
    }

    /// `durable.version`.
    pub fn version(&mut self, change_id: &str, min: u32, max: u32) -> Result<u32, Stop> {
        self.awake("version")?;
        if min > max {
            return Err(Stop::Contract(format!("version({change_id:?}) was asked with min {min} above max {max}")));
        }
        check_id(change_id, "change id").map_err(|e| Stop::Contract(e.to_string()))?;
        let held = self.versions.get(change_id).or_else(|| self.recorded_versions.get(change_id)).copied();
        if let Some(version) = held {
            self.versions.insert(change_id.to_owned(), version);
            if version < min || version > max {
                return Err(self.diverge_version(change_id, version, min, max));
            }
            return Ok(version);
        }
        if self.versions.len() >= MAX_VERSIONS {
            return Err(Stop::Contract(format!("a run asks for at most {MAX_VERSIONS} change ids")));
        }
        let live = self.mode == Mode::Live || (self.mode == Mode::Lenient && self.recorded.is_empty());
        let version = if live { max } else { min };
        self.versions.insert(change_id.to_owned(), version);
        if live {
            self.turn.commands.push(EventBody::new(None, VersionRecorded { change_id: change_id.to_owned(), version }));
        }
        Ok(version)
    }

    /// `durable.log`: cut to the limit, dropped beyond the turn's number, silent while replaying.
    pub fn log(&mut self, level: LogLevel, message: &str, fields: Vec<(String, String)>) -> Call<()> {
        self.awake("log")?;
        let field = |(name, value): &(String, String)| name.len() + value.len() + 2 * HELD_TEXT_BYTES;
        let size = fields.iter().map(field).sum::<usize>() + message.len();
        if let Err(error) = self.spend(size) {
            return Ok(Err(error));
        }
        let mut checked = Vec::with_capacity(fields.len());
        for (name, value) in fields {
            match self.checked_json(&value, &name) {
                Ok(json) => checked.push((name, json)),
                Err(error) => return Ok(Err(error)),
            }
        }
        if self.effects_taken() && self.turn.logs.len() < MAX_LOGS_PER_TURN {
            let cut =
                (0..=MAX_LOG_BYTES.min(message.len())).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
            self.turn.logs.push(LogLine { at: self.now, level, message: message[..cut].to_owned(), fields: checked });
        }
        Ok(Ok(()))
    }

    /// `durable.publish`: committed with the turn; silent while replaying.
    pub fn publish(&mut self, key: &str, value: &str) -> Call<()> {
        self.awake("publish")?;
        if let Err(error) = check_id(key, "key") {
            return Ok(Err(CallError::InvalidArgument(error.to_string())));
        }
        let value = match self.checked_json(value, "value") {
            Ok(json) => json,
            Err(error) => return Ok(Err(error)),
        };
        if self.publishes_this_turn >= MAX_PUBLISHES_PER_TURN {
            return Ok(Err(CallError::LimitExceeded(format!(
                "a turn publishes at most {MAX_PUBLISHES_PER_TURN} values"
            ))));
        }
        self.publishes_this_turn += 1;
        if let Err(error) = self.spend(value.len()) {
            return Ok(Err(error));
        }
        if self.effects_taken() {
            self.turn.published.insert(key.to_owned(), value);
        }
        Ok(Ok(()))
    }
}
