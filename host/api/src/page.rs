//! Pages of lists: `?limit=` and `?cursor=` of a request, `next_cursor` of an answer. A cursor is opaque to clients: it
//! names the last item that they have, by a key that stays, so what is added or removed meanwhile moves nothing. Its
//! text is a version, the list that it belongs to, and that key in hexadecimal digits.

use std::str;

use relive_core::{RunId, RunKey};
use uuid::Uuid;

use crate::problem::Problem;

/// Another version means that older cursors are refused, and their clients begin again.
const VERSION: char = '1';
/// A page is built in memory; rows, events and lines have around half a kilobyte, payloads aside.
pub const MAX_LIMIT: usize = 1_000;
/// A position is a name or a few numbers.
const MAX_CURSOR_BYTES: usize = 1_024;

/// Which list a cursor belongs to. Its letter is part of the cursor's text.
#[derive(Clone, Copy)]
pub enum List {
    Executions,
    History,
    Logs,
    Queries,
    Workflows,
    Activities,
    Pending,
    Workers,
    TaskQueues,
    FailedTasks,
    /// Changes of the list of executions.
    Changes,
}

impl List {
    fn letter(self) -> char {
        match self {
            Self::Executions => 'e',
            Self::History => 'h',
            Self::Logs => 'l',
            Self::Queries => 'q',
            Self::Workflows => 'w',
            Self::Activities => 'a',
            Self::Pending => 'p',
            Self::Workers => 'k',
            Self::TaskQueues => 't',
            Self::FailedTasks => 'f',
            Self::Changes => 'c',
        }
    }
}

/// What every list's query holds.
pub struct Paging {
    limit: Option<usize>,
    cursor: Option<String>,
}

impl Paging {
    pub fn new(limit: Option<usize>, cursor: Option<String>) -> Self {
        Self { limit, cursor }
    }

    pub fn limit(&self, default: usize) -> usize {
        self.limit.unwrap_or(default).clamp(1, MAX_LIMIT)
    }

    /// Where the page before ended.
    pub fn position<P: Position>(&self, list: List) -> Result<Option<P>, Problem> {
        self.cursor.as_deref().map(|text| decode(list, text)).transpose()
    }
}

/// What a cursor holds.
pub trait Position: Sized {
    fn write(&self) -> Vec<u8>;
    fn read(bytes: &[u8]) -> Option<Self>;
}

impl Position for RunKey {
    fn write(&self) -> Vec<u8> {
        self.0.to_be_bytes().to_vec()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(u64::from_be_bytes).map(Self)
    }
}

/// A place in one run: an event's id, or a line's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InRun {
    pub run: RunId,
    pub number: u64,
}

impl Position for InRun {
    fn write(&self) -> Vec<u8> {
        [self.run.0.as_bytes().as_slice(), &self.number.to_be_bytes()].concat()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (run, number) = bytes.split_at_checked(16)?;
        let number = u64::from_be_bytes(number.try_into().ok()?);
        Some(Self { run: RunId(Uuid::from_slice(run).ok()?), number })
    }
}

impl Position for String {
    fn write(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        str::from_utf8(bytes).ok().map(str::to_owned)
    }
}

/// A host's epoch, and the number of a change in it.
impl Position for (u64, u64) {
    fn write(&self) -> Vec<u8> {
        [self.0.to_be_bytes(), self.1.to_be_bytes()].concat()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (epoch, number) = bytes.split_at_checked(8)?;
        Some((u64::from_be_bytes(epoch.try_into().ok()?), u64::from_be_bytes(number.try_into().ok()?)))
    }
}

/// A name and a number under it.
impl Position for (String, u32) {
    fn write(&self) -> Vec<u8> {
        [self.1.to_be_bytes().as_slice(), self.0.as_bytes()].concat()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (number, name) = bytes.split_at_checked(4)?;
        Some((String::read(name)?, u32::from_be_bytes(number.try_into().ok()?)))
    }
}

/// The cursor's text.
pub fn encode(list: List, position: &impl Position) -> String {
    let digits = position.write().into_iter().map(|byte| format!("{byte:02x}"));
    [VERSION.to_string(), list.letter().to_string()].into_iter().chain(digits).collect()
}

/// What the text says, if it is a cursor of this list.
pub fn decode<P: Position>(list: List, text: &str) -> Result<P, Problem> {
    let read = || {
        let digits = text.strip_prefix(VERSION)?.strip_prefix(list.letter())?.as_bytes();
        if digits.len() > 2 * MAX_CURSOR_BYTES || !digits.len().is_multiple_of(2) {
            return None;
        }
        let byte = |pair: &[u8]| {
            let digits = pair.iter().all(u8::is_ascii_hexdigit);
            u8::from_str_radix(str::from_utf8(pair).ok().filter(|_| digits)?, 16).ok()
        };
        P::read(&digits.chunks(2).map(byte).collect::<Option<Vec<u8>>>()?)
    };
    read().ok_or_else(|| {
        Problem::invalid("invalid-cursor", "the cursor is none that this list gave; begin again without a cursor")
    })
}

/// A page of a list that is small enough to be read as a whole. Sorted by `key`, which is unique.
pub fn cut<T, P: Position + Ord>(
    items: Vec<T>,
    paging: &Paging,
    list: List,
    key: impl Fn(&T) -> P,
) -> Result<(Vec<T>, Option<String>), Problem> {
    let after = paging.position::<P>(list)?;
    let limit = paging.limit(MAX_LIMIT);
    let mut rest: Vec<T> = items.into_iter().filter(|item| after.as_ref().is_none_or(|a| key(item) > *a)).collect();
    let more = rest.len() > limit;
    rest.truncate(limit);
    let next = rest.last().filter(|_| more).map(|last| encode(list, &key(last)));
    Ok((rest, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_says_what_it_was_made_of() {
        let place = InRun { run: RunId(Uuid::from_u128(7)), number: 300 };
        let text = encode(List::History, &place);
        assert!(text.starts_with("1h"), "{text}");
        assert_eq!(decode::<InRun>(List::History, &text).ok(), Some(place));
        let version = ("größe".to_owned(), 3);
        assert_eq!(decode(List::Workflows, &encode(List::Workflows, &version)).ok(), Some(version));
        assert_eq!(decode(List::Executions, &encode(List::Executions, &RunKey(9))).ok(), Some(RunKey(9)));
    }

    #[test]
    fn what_is_no_cursor_of_the_list_is_refused() {
        let good = encode(List::Executions, &RunKey(9));
        for bad in [
            "",
            "1",
            "1e",
            "9",
            "2e0000000000000009",
            "1h0000000000000009",
            "1e00",
            "1e0000000000000g09",
            "1e+000000000000009",
        ] {
            assert!(decode::<RunKey>(List::Executions, bad).is_err(), "{bad:?}");
        }
        assert!(decode::<RunKey>(List::Executions, &format!("{good}0")).is_err());
        assert!(decode::<RunKey>(List::Executions, &format!("{good}é")).is_err());
        assert!(decode::<String>(List::Queries, &format!("1q{}", "61".repeat(MAX_CURSOR_BYTES + 1))).is_err());
    }

    #[test]
    fn pages_of_a_small_list_hold_each_item_once() {
        let items = || (0..7).map(|n| format!("k{n}")).collect::<Vec<_>>();
        let mut paging = Paging { limit: Some(3), cursor: None };
        let mut seen = Vec::new();
        loop {
            let (page, next) = cut(items(), &paging, List::Queries, String::clone).unwrap_or_default();
            seen.extend(page);
            paging.cursor = next;
            if paging.cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, items());
    }
}
