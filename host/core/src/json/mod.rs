//! JSON as the guest contract has it: text that is kept as it came, and a canonical form that it is compared by.

mod canonical;
mod number;
mod parse;

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use parse::JsonError;

/// JSON text that was checked: well-formed, no duplicate keys, no lone surrogates, depth within the limit, no space
/// around it. Cheap to clone. Equality is that of the text; [`Json::same_value`] compares by value.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Json(Arc<str>);

impl Json {
    /// Checks and keeps the text. Space around the value is dropped, everything inside is kept.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        parse::parse(text)?;
        Ok(Self(text.trim_matches([' ', '\t', '\n', '\r']).into()))
    }

    /// The JSON of a value that the host itself made.
    pub fn of<T: Serialize>(value: &T) -> Result<Self, JsonError> {
        let text = serde_json::to_string(value).map_err(|e| JsonError { at: 0, what: e.to_string() })?;
        Self::parse(&text)
    }

    /// `null`, what timers resolve with.
    #[must_use]
    pub fn null() -> Self {
        Self("null".into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Length of the text in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The canonical bytes: sorted keys, numbers by exact decimal value, minimal escapes, no space.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        canonical::canonical(&self.0)
    }

    /// Whether both mean the same value: `{"a":1,"b":2}` and `{"b":2e0, "a":1.0}` do.
    #[must_use]
    pub fn same_value(&self, other: &str) -> bool {
        *self.0 == *other || self.canonical() == canonical::canonical(other)
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Json {
    /// Embedded as it is in text formats, a string in binary ones.
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() {
            let raw: &serde_json::value::RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
            raw.serialize(s)
        } else {
            self.0.serialize(s)
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    /// From text formats the value is checked; from binary ones (our own stored bytes, under a hash) it is trusted.
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            let raw = Box::<serde_json::value::RawValue>::deserialize(d)?;
            Self::parse(raw.get()).map_err(serde::de::Error::custom)
        } else {
            Ok(Self(Arc::<str>::deserialize(d)?))
        }
    }
}
