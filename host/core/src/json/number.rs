//! Numbers by exact decimal value: 1 = 1.0 = 1e0 = 10e-1, and -0 = 0. No floating point is involved.

use std::borrow::Cow;

/// `digits * 10^exponent`; digits without leading or trailing zeros, empty for zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decimal<'a> {
    negative: bool,
    digits: Cow<'a, str>,
    exponent: i64,
}

impl<'a> Decimal<'a> {
    pub fn new(negative: bool, whole: &'a str, fraction: &'a str, exponent: i64) -> Self {
        let mut digits =
            if fraction.is_empty() { Cow::Borrowed(whole) } else { Cow::Owned([whole, fraction].concat()) };
        let mut exponent = exponent - fraction.len() as i64;
        let leading = digits.len() - digits.trim_start_matches('0').len();
        let kept = digits.trim_end_matches('0').len().max(leading);
        exponent += (digits.len() - kept) as i64;
        if leading > 0 || kept < digits.len() {
            digits = match digits {
                Cow::Borrowed(text) => Cow::Borrowed(&text[leading..kept]),
                Cow::Owned(text) => Cow::Owned(text[leading..kept].to_owned()),
            };
        }
        if digits.is_empty() {
            return Self { negative: false, digits, exponent: 0 };
        }
        Self { negative, digits, exponent }
    }

    /// The canonical text, itself a JSON number: `0`, `-12`, `15e-1`.
    pub fn write(&self, out: &mut Vec<u8>) {
        if self.negative {
            out.push(b'-');
        }
        out.extend_from_slice(if self.digits.is_empty() { b"0" } else { self.digits.as_bytes() });
        if self.exponent != 0 {
            out.push(b'e');
            out.extend_from_slice(self.exponent.to_string().as_bytes());
        }
    }
}
