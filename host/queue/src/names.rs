//! Names on the broker: subjects, streams and consumers of a prefix. Every name of Relive becomes one token of a
//! subject, and two different names never become the same token.

use relive_core::{Digest, Namespace, Shard, ports::QueueName};

/// A prefix is part of names of streams, subjects and files.
const MAX_PREFIX_BYTES: usize = 32;
/// nats-server refuses consumers' names over 255 bytes, and keeps a folder of that name.
const MAX_CONSUMER_BYTES: usize = 200;

/// Why a prefix was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the prefix {found:?} cannot be part of a subject; use 1 to 32 letters, digits, '-' and '_'")]
pub struct PrefixError {
    found: String,
}

/// What a host calls things on the broker. A prefix belongs to one store: messages name runs by that store's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    prefix: String,
}

impl Names {
    /// Checks and keeps the prefix, `relive` as a rule.
    pub fn new(prefix: &str) -> Result<Self, PrefixError> {
        let good = (1..=MAX_PREFIX_BYTES).contains(&prefix.len()) && prefix.bytes().all(is_plain);
        if good { Ok(Self { prefix: prefix.to_owned() }) } else { Err(PrefixError { found: prefix.to_owned() }) }
    }

    #[must_use]
    pub fn task_stream(&self) -> String {
        format!("{}-tasks", self.prefix)
    }

    #[must_use]
    pub fn all_tasks(&self) -> String {
        format!("{}.tasks.*.*", self.prefix)
    }

    #[must_use]
    pub fn task(&self, queue: &QueueName) -> String {
        format!("{}.tasks.{}.{}", self.prefix, token(queue.namespace.as_str()), token(&queue.queue))
    }

    /// The consumer of a queue: its two tokens, or a hash of them if they are too long. In a token, `=` is followed by a
    /// digit or letter, so `==` stands between tokens alone.
    #[must_use]
    pub fn consumer(&self, queue: &QueueName) -> String {
        let name = format!("{}=={}", token(queue.namespace.as_str()), token(&queue.queue));
        if name.len() <= MAX_CONSUMER_BYTES { name } else { format!("=={}", Digest::of(name.as_bytes())) }
    }

    #[must_use]
    pub fn signal(&self, shard: Shard) -> String {
        format!("{}.signals.{shard}", self.prefix)
    }

    #[must_use]
    pub fn all_signals(&self) -> String {
        format!("{}.signals.*", self.prefix)
    }

    #[must_use]
    pub fn event_stream(&self) -> String {
        format!("{}-events", self.prefix)
    }

    #[must_use]
    pub fn all_events(&self) -> String {
        format!("{}.events.*.*.*", self.prefix)
    }

    #[must_use]
    pub fn event(&self, namespace: &Namespace, workflow: &str, event_type: &str) -> String {
        format!("{}.events.{}.{}.{}", self.prefix, token(namespace.as_str()), token(workflow), token(event_type))
    }

    #[must_use]
    pub fn all_workers(&self) -> String {
        format!("{}.workers.*.*", self.prefix)
    }

    /// A subject that nobody answers: the broker's word that nobody does is a round trip.
    pub(crate) fn nobody(&self) -> String {
        format!("{}.nobody", self.prefix)
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// One token of a subject: letters, digits, `-` and `_` as they are, every other byte as `=` and two hexadecimal digits.
fn token(text: &str) -> String {
    escape(text, '=', is_plain)
}

/// `text` with every byte that is not to be kept as `mark` and two hexadecimal digits.
pub(crate) fn escape(text: &str, mark: char, keep: fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if keep(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("{mark}{byte:02X}"));
        }
    }
    out
}

/// What [`escape`] was given, or `None` for text that it cannot have made.
pub(crate) fn unescape(text: &str, mark: char) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if char::from(byte) == mark {
            let digits = [rest.next()?, rest.next()?].map(|digit| char::from(digit).to_digit(16));
            bytes.push(u8::try_from(digits[0]? * 16 + digits[1]?).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(namespace: &str, queue: &str) -> QueueName {
        QueueName { namespace: Namespace::new(namespace).unwrap(), queue: queue.into() }
    }

    #[test]
    fn every_name_is_one_token() {
        let names = Names::new("relive").unwrap();
        assert_eq!(names.task(&queue("default", "mail")), "relive.tasks.default.mail");
        assert_eq!(names.task(&queue("a.b", "c_d-e")), "relive.tasks.a=2Eb.c_d-e");
        assert_eq!(names.task(&queue("a", ".")), "relive.tasks.a.=2E");
        assert_eq!(names.signal(Shard(7)), "relive.signals.7");
        let event = names.event(&Namespace::default(), "order.v2", "task*>\u{e9} =");
        assert_eq!(event, "relive.events.default.order=2Ev2.task=2A=3E=C3=A9=20=3D");
    }

    #[test]
    fn different_queues_have_different_consumers() {
        let names = Names::new("relive").unwrap();
        assert_eq!(names.consumer(&queue("default", "mail")), "default==mail");
        assert_ne!(names.consumer(&queue("a.b", "c")), names.consumer(&queue("a", "b.c")));
        let (long, dots) = ("x".repeat(128), ".".repeat(128));
        let consumers = [(&long, &long), (&long, &dots), (&dots, &long)].map(|(a, b)| names.consumer(&queue(a, b)));
        assert!(consumers.iter().all(|name| name.len() <= MAX_CONSUMER_BYTES), "{consumers:?}");
        assert_ne!(consumers[0], consumers[1]);
        assert_ne!(consumers[1], consumers[2]);
    }

    #[test]
    fn prefixes_that_are_no_token_are_refused() {
        for bad in ["", "a.b", "a b", "a*", ">", "\u{e9}", &"x".repeat(33)] {
            let error = Names::new(bad).unwrap_err();
            assert!(error.to_string().contains("cannot be part of a subject"), "{error}");
        }
        assert!(Names::new("relive-2_x").is_ok());
    }

    #[test]
    fn what_was_escaped_comes_back() {
        for text in ["", "plain", "with space, 100 %", "\u{e9}\n\r", "%41"] {
            let there = escape(text, '%', |byte| byte.is_ascii_graphic() && byte != b'%');
            assert!(there.bytes().all(|byte| byte.is_ascii_graphic()), "{there:?}");
            assert_eq!(unescape(&there, '%').as_deref(), Some(text));
        }
        for bad in ["%", "%4", "%zz", "%FF"] {
            assert_eq!(unescape(bad, '%'), None, "{bad:?}");
        }
    }
}
