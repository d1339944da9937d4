//! Metrics as Prometheus reads them (text format 0.0.4). Must not know: what any of them means.

use std::fmt::Write;

use relive_engine::metrics::{Family, Sample, Value};

/// The type that goes with [`text`].
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All families, each with its help and type, also those without a value.
pub fn text(families: &[Family]) -> String {
    let mut out = String::with_capacity(16 << 10);
    for family in families {
        // Writing into a string cannot fail.
        let _ = write(&mut out, family);
    }
    out
}

fn write(out: &mut String, family: &Family) -> std::fmt::Result {
    let definition = family.definition;
    let name = definition.name;
    writeln!(out, "# HELP {name} {}", definition.meaning.replace('\\', "\\\\").replace('\n', "\\n"))?;
    writeln!(out, "# TYPE {name} {}", definition.kind.name())?;
    for sample in &family.samples {
        let labels = labels(definition.labels, sample);
        match &sample.value {
            Value::Number(number) => writeln!(out, "{name}{} {number}", braced(&labels))?,
            Value::Histogram(histogram) => {
                let comma = if labels.is_empty() { "" } else { "," };
                for (bound, count) in &histogram.buckets {
                    writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}")?;
                }
                writeln!(out, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {}", histogram.count)?;
                writeln!(out, "{name}_sum{} {}", braced(&labels), histogram.sum)?;
                writeln!(out, "{name}_count{} {}", braced(&labels), histogram.count)?;
            }
        }
    }
    Ok(())
}

fn labels(names: &[&str], sample: &Sample) -> String {
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs = names.iter().zip(&sample.labels).map(|(name, value)| format!("{name}=\"{}\"", escaped(value)));
    pairs.collect::<Vec<_>>().join(",")
}

fn braced(labels: &str) -> String {
    if labels.is_empty() { String::new() } else { format!("{{{labels}}}") }
}

#[cfg(test)]
mod tests {
    use relive_engine::metrics::{Definition, Histogram, Kind};

    use super::*;

    static COUNT: Definition =
        Definition { name: "count", kind: Kind::Counter, labels: &["of"], meaning: "Things\nof a \\ kind." };
    static TIME: Definition = Definition { name: "time", kind: Kind::Histogram, labels: &[], meaning: "Seconds." };

    #[test]
    fn the_format_is_prometheus_own() {
        let count = Family::new(&COUNT).with(&["a \"b\"\n\\"], 3.0).with(&["c"], 0.5);
        let histogram = Histogram::sizes();
        histogram.record(600);
        let shown = text(&[count, Family::histogram(&TIME, &histogram)]);
        let head = "# HELP count Things\\nof a \\\\ kind.\n# TYPE count counter\n\
                    count{of=\"a \\\"b\\\"\\n\\\\\"} 3\ncount{of=\"c\"} 0.5\n\
                    # HELP time Seconds.\n# TYPE time histogram\ntime_bucket{le=\"1\"} 0\n";
        assert!(shown.starts_with(head), "{shown}");
        assert!(shown.ends_with("time_bucket{le=\"+Inf\"} 1\ntime_sum 600\ntime_count 1\n"), "{shown}");
    }
}
