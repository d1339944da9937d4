//! Traces: the ids by which other systems follow a workflow (W3C Trace Context). They are not drawn but derived, so that
//! every host, before and after a restart, gives the same id to the same thing and nothing has to be kept for it: the
//! spans of a workflow and of its attempts follow from the run, and the trace of a run that nobody traced is the run's id.

use std::{fmt, str::FromStr};

use crate::ids::RunId;

/// A trace: what belongs together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(u128);

/// One thing of a trace that took its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanId(u64);

/// What is handed on to who works for a span (the header `traceparent`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    pub trace: TraceId,
    /// The span that asks.
    pub span: SpanId,
    /// Whether anybody keeps the trace.
    pub sampled: bool,
}

/// The text is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent (W3C Trace Context): 00-<32 hex digits>-<16 hex digits>-<2 hex digits>")]
pub struct NoTraceParent;

impl TraceId {
    /// The trace of a run that was started without one.
    #[must_use]
    pub fn of_run(run: RunId) -> Self {
        Self(run.0.as_u128().max(1))
    }

    /// One that somebody drew.
    #[must_use]
    pub fn drawn(random: u128) -> Self {
        Self(random.max(1))
    }

    #[must_use]
    pub fn number(self) -> u128 {
        self.0
    }
}

impl SpanId {
    /// The span of a run, from its start to its end.
    #[must_use]
    pub fn of_run(run: RunId) -> Self {
        Self::derived(run, 1)
    }

    /// The span of the request that started a run.
    #[must_use]
    pub fn of_start(run: RunId) -> Self {
        Self::derived(run, 2)
    }

    /// The span of an attempt of an activity.
    #[must_use]
    pub fn of_attempt(run: RunId, command_no: u64, attempt: u32) -> Self {
        Self::derived(run, mix(command_no.wrapping_add(3)) ^ u64::from(attempt))
    }

    /// One that somebody drew.
    #[must_use]
    pub fn drawn(random: u64) -> Self {
        Self(random.max(1))
    }

    fn derived(run: RunId, what: u64) -> Self {
        let (high, low) = run.0.as_u64_pair();
        Self(mix(mix(high ^ mix(what)) ^ low).max(1))
    }

    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }
}

/// The finalizer of splitmix64 (Steele, Lea, Flood 2014): every bit of the input is in every bit of the output.
fn mix(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl TraceParent {
    /// What an attempt of an activity is given. `trace` is what the history says; without it nobody keeps the trace.
    #[must_use]
    pub fn of_attempt(trace: Option<&str>, run: RunId, command_no: u64, attempt: u32) -> Self {
        let given = trace.and_then(|text| text.parse().ok());
        Self {
            trace: given.unwrap_or_else(|| TraceId::of_run(run)),
            span: SpanId::of_attempt(run, command_no, attempt),
            sampled: given.is_some(),
        }
    }
}

/// Exactly `digits` lower-case hexadecimal digits.
fn hex(text: &str, digits: usize) -> Result<u128, NoTraceParent> {
    let good = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if good { u128::from_str_radix(text, 16).map_err(|_| NoTraceParent) } else { Err(NoTraceParent) }
}

impl FromStr for TraceId {
    type Err = NoTraceParent;

    fn from_str(text: &str) -> Result<Self, NoTraceParent> {
        hex(text, 32).and_then(|n| if n == 0 { Err(NoTraceParent) } else { Ok(Self(n)) })
    }
}

impl FromStr for SpanId {
    type Err = NoTraceParent;

    fn from_str(text: &str) -> Result<Self, NoTraceParent> {
        let number = u64::try_from(hex(text, 16)?).map_err(|_| NoTraceParent)?;
        if number == 0 { Err(NoTraceParent) } else { Ok(Self(number)) }
    }
}

impl FromStr for TraceParent {
    type Err = NoTraceParent;

    /// Later versions may have more behind the flags; what this one knows of them stays the same.
    fn from_str(text: &str) -> Result<Self, NoTraceParent> {
        let mut parts = text.splitn(5, '-');
        let mut next = || parts.next().ok_or(NoTraceParent);
        let version = hex(next()?, 2)?;
        let (trace, span, flags) = (next()?.parse()?, next()?.parse()?, hex(next()?, 2)?);
        if version == 0xff || (version == 0 && parts.next().is_some()) {
            return Err(NoTraceParent);
        }
        Ok(Self { trace, span, sampled: flags & 1 == 1 })
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use uuid::Uuid;

    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_and_written() {
        let parent: TraceParent = GOOD.parse().expect("good");
        assert!(parent.sampled);
        assert_eq!(parent.to_string(), GOOD);
        let later = GOOD.replacen("00", "cc", 1) + "-more";
        assert_eq!(later.parse(), Ok(parent));
        let unsampled = GOOD.replace("b7-01", "b7-02");
        assert!(!unsampled.parse::<TraceParent>().expect("good").sampled);
    }

    #[test]
    fn what_is_none_is_refused() {
        let zeros = |what: &str| GOOD.replace(what, &"0".repeat(what.len()));
        for bad in [
            "",
            "00",
            &GOOD.to_uppercase(),
            &GOOD[..54],
            &format!("{GOOD}-more"),
            &GOOD.replacen("00", "ff", 1),
            &zeros("4bf92f3577b34da6a3ce929d0e0e4736"),
            &zeros("00f067aa0ba902b7"),
            &GOOD.replace("-01", "-+1"),
        ] {
            assert_eq!(bad.parse::<TraceParent>(), Err(NoTraceParent), "{bad}");
        }
    }

    #[test]
    fn derived_spans_are_different_and_the_same_again() {
        let mut spans = HashSet::new();
        for run in [Uuid::nil(), Uuid::from_u128(1), Uuid::from_u128(1 << 64)].map(RunId) {
            assert!(spans.insert(SpanId::of_run(run)) && spans.insert(SpanId::of_start(run)));
            for (command_no, attempt) in (0..50).flat_map(|no| (1..50).map(move |attempt| (no, attempt))) {
                let span = SpanId::of_attempt(run, command_no, attempt);
                assert!(spans.insert(span), "{command_no} {attempt}");
                assert_eq!(SpanId::of_attempt(run, command_no, attempt), span);
            }
        }
    }

    #[test]
    fn an_attempt_is_of_the_trace_that_the_history_names() {
        let run = RunId(Uuid::from_u128(7));
        let of = |trace| TraceParent::of_attempt(trace, run, 3, 1);
        assert_eq!((of(None).trace, of(None).sampled), (TraceId::of_run(run), false));
        let given = of(Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        assert_eq!(given.to_string(), format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", given.span));
    }
}
