//! A strict JSON parser (RFC 8259) that refuses what would make two readers disagree: duplicate keys, lone
//! surrogates, and nesting or exponents beyond the limits. Recursion is bounded by [`MAX_JSON_DEPTH`].

use std::{borrow::Cow, collections::BTreeMap};

use super::number::Decimal;
use crate::limits::MAX_JSON_DEPTH;

/// Why a text is not acceptable JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid JSON at byte {at}: {what}")]
pub struct JsonError {
    /// Byte offset of the offence.
    pub at: usize,
    pub what: String,
}

/// A parsed value; borrows what it can.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Node<'a> {
    Null,
    Bool(bool),
    Number(Decimal<'a>),
    String(Cow<'a, str>),
    Array(Vec<Node<'a>>),
    Object(BTreeMap<Cow<'a, str>, Node<'a>>),
}

pub(super) fn parse(text: &str) -> Result<Node<'_>, JsonError> {
    let mut parser = Parser { text, bytes: text.as_bytes(), at: 0 };
    parser.space();
    let node = parser.value(0)?;
    parser.space();
    if parser.at < text.len() {
        return Err(parser.error("something follows the value"));
    }
    Ok(node)
}

struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Parser<'a> {
    fn error(&self, what: impl Into<String>) -> JsonError {
        JsonError { at: self.at, what: what.into() }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn byte(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.peek() != Some(byte) {
            return Err(self.error(format!("expected {:?}", char::from(byte))));
        }
        self.at += 1;
        Ok(())
    }

    fn word(&mut self, word: &str, node: Node<'a>) -> Result<Node<'a>, JsonError> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(self.error(format!("expected {word}")));
        }
        self.at += word.len();
        Ok(node)
    }

    fn value(&mut self, depth: usize) -> Result<Node<'a>, JsonError> {
        if depth > MAX_JSON_DEPTH {
            return Err(self.error(format!("nested deeper than {MAX_JSON_DEPTH} levels")));
        }
        match self.peek() {
            None => Err(self.error("expected a value, found the end")),
            Some(b'n') => self.word("null", Node::Null),
            Some(b't') => self.word("true", Node::Bool(true)),
            Some(b'f') => self.word("false", Node::Bool(false)),
            Some(b'"') => Ok(Node::String(self.string()?)),
            Some(b'[') => self.array(depth),
            Some(b'{') => self.object(depth),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => Err(self.error("expected a value")),
        }
    }

    fn array(&mut self, depth: usize) -> Result<Node<'a>, JsonError> {
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Node::Array(items));
        }
        loop {
            self.space();
            items.push(self.value(depth + 1)?);
            self.space();
            if self.peek() == Some(b',') {
                self.at += 1;
            } else {
                self.byte(b']')?;
                return Ok(Node::Array(items));
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Node<'a>, JsonError> {
        self.at += 1;
        let mut members = BTreeMap::new();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Node::Object(members));
        }
        loop {
            self.space();
            let start = self.at;
            let key = self.string()?;
            self.space();
            self.byte(b':')?;
            self.space();
            let value = self.value(depth + 1)?;
            if members.contains_key(&key) {
                return Err(JsonError { at: start, what: format!("the key {key:?} is given twice") });
            }
            members.insert(key, value);
            self.space();
            if self.peek() == Some(b',') {
                self.at += 1;
            } else {
                self.byte(b'}')?;
                return Ok(Node::Object(members));
            }
        }
    }

    fn digits(&mut self) -> Result<&'a str, JsonError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if start == self.at { Err(self.error("expected a digit")) } else { Ok(&self.text[start..self.at]) }
    }

    fn number(&mut self) -> Result<Node<'a>, JsonError> {
        let start = self.at;
        let negative = self.peek() == Some(b'-');
        self.at += usize::from(negative);
        let whole = self.digits()?;
        if whole.len() > 1 && whole.starts_with('0') {
            return Err(JsonError { at: start, what: "a number begins with a needless 0".into() });
        }
        let mut fraction = "";
        if self.peek() == Some(b'.') {
            self.at += 1;
            fraction = self.digits()?;
        }
        let mut exponent = 0i64;
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            let minus = self.peek() == Some(b'-');
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            let digits = self.digits()?.trim_start_matches('0');
            let value: i32 = if digits.is_empty() { 0 } else { digits.parse().unwrap_or(i32::MAX) };
            if value == i32::MAX {
                return Err(JsonError { at: start, what: "a number's exponent is out of range".into() });
            }
            exponent = if minus { -i64::from(value) } else { i64::from(value) };
        }
        Ok(Node::Number(Decimal::new(negative, whole, fraction, exponent)))
    }

    fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        self.byte(b'"')?;
        let start = self.at;
        loop {
            match self.peek() {
                None => return Err(self.error("a string does not end")),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Borrowed(&self.text[start..self.at - 1]));
                }
                Some(b'\\') => return self.escaped(start).map(Cow::Owned),
                Some(0..=0x1f) => {
                    return Err(self.error("a string holds a control character; escape it"));
                }
                Some(_) => self.at += 1,
            }
        }
    }

    fn escaped(&mut self, start: usize) -> Result<String, JsonError> {
        let mut out = self.text[start..self.at].to_owned();
        loop {
            let from = self.at;
            while matches!(self.peek(), Some(b) if b != b'"' && b != b'\\' && b > 0x1f) {
                self.at += 1;
            }
            out.push_str(&self.text[from..self.at]);
            match self.peek() {
                None => return Err(self.error("a string does not end")),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escape()?),
                Some(_) => return Err(self.error("a string holds a control character; escape it")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        self.at += 1;
        let byte = self.peek();
        self.at += 1;
        Ok(match byte {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => {
                self.at -= 1;
                return Err(self.error("unknown escape"));
            }
        })
    }

    fn unicode(&mut self) -> Result<char, JsonError> {
        let start = self.at - 2;
        let lone = || JsonError { at: start, what: "a lone surrogate is no character".into() };
        let first = self.hex4()?;
        if !(0xd800..0xe000).contains(&first) {
            return char::from_u32(first).ok_or_else(lone);
        }
        if first >= 0xdc00 || !self.bytes[self.at..].starts_with(b"\\u") {
            return Err(lone());
        }
        self.at += 2;
        let second = self.hex4()?;
        if !(0xdc00..0xe000).contains(&second) {
            return Err(lone());
        }
        char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)).ok_or_else(lone)
    }

    fn hex4(&mut self) -> Result<u32, JsonError> {
        let digits = self.bytes.get(self.at..self.at + 4).filter(|d| d.iter().all(u8::is_ascii_hexdigit));
        let Some(digits) = digits else {
            return Err(self.error("expected four hexadecimal digits"));
        };
        self.at += 4;
        Ok(digits.iter().fold(0, |n, d| n * 16 + char::from(*d).to_digit(16).unwrap_or(0)))
    }
}
