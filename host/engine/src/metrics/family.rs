//! Metrics on their way to whoever shows them: definitions, and what they come to now. Knows no format.

use super::cells::{Counter, Histogram, Snapshot};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    /// As Prometheus calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    /// What it counts, in which unit.
    pub meaning: &'static str,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Number(f64),
    Histogram(Snapshot),
}

/// A value with those of the definition's labels, in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub labels: Vec<String>,
    pub value: Value,
}

/// A metric and what it comes to now.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    pub definition: &'static Definition,
    pub samples: Vec<Sample>,
}

impl Family {
    #[must_use]
    pub fn new(definition: &'static Definition) -> Self {
        Self { definition, samples: Vec::new() }
    }

    /// One number without labels.
    #[must_use]
    pub fn number(definition: &'static Definition, value: f64) -> Self {
        Self::new(definition).with(&[], value)
    }

    #[must_use]
    pub fn counter(definition: &'static Definition, counter: &Counter) -> Self {
        Self::number(definition, counter.get() as f64)
    }

    #[must_use]
    pub fn histogram(definition: &'static Definition, histogram: &Histogram) -> Self {
        Self::new(definition).with_value(&[], Value::Histogram(histogram.snapshot()))
    }

    /// The same with one more number.
    #[must_use]
    pub fn with(self, labels: &[&str], value: f64) -> Self {
        self.with_value(labels, Value::Number(value))
    }

    #[must_use]
    pub fn with_value(mut self, labels: &[&str], value: Value) -> Self {
        debug_assert_eq!(labels.len(), self.definition.labels.len(), "{}", self.definition.name);
        self.samples.push(Sample { labels: labels.iter().map(|l| (*l).to_owned()).collect(), value });
        self
    }
}
