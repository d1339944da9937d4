//! Durations and sizes, for people to read and to type.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use relive_core::Timestamp;

/// `812 us`, `12.3 ms`, `4.56 s`, `3 m 12 s`, `2 h 5 m`, `3 d 4 h`.
#[must_use]
pub fn duration(nanos: u64) -> String {
    let (micros, secs) = (nanos / 1_000, nanos / 1_000_000_000);
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let scaled = |unit: f64| nanos as f64 / unit;
    match secs {
        0 if micros < 1_000 => format!("{micros} us"),
        0 => format!("{:.1} ms", scaled(1e6)),
        1..60 => format!("{:.2} s", scaled(1e9)),
        60..3_600 => format!("{} m {} s", secs / 60, secs % 60),
        3_600..86_400 => format!("{} h {} m", secs / 3_600, secs / 60 % 60),
        _ => format!("{} d {} h", secs / 86_400, secs / 3_600 % 24),
    }
}

/// How long ago `at` was by this machine's clock.
#[must_use]
pub fn ago(at: Timestamp) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let past = u64::try_from(now).unwrap_or(u64::MAX).saturating_sub(at.0);
    format!("{} ago", duration(past / 1_000_000_000 * 1_000_000_000).replace("0 us", "0 s").replace(".00 s", " s"))
}

/// How long until `at` by this machine's clock; `now` if it has come.
#[must_use]
pub fn until(at: Timestamp) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    match at.0.saturating_sub(u64::try_from(now).unwrap_or(u64::MAX)) {
        0 => "now".to_owned(),
        left => format!("in {}", duration(left)),
    }
}

/// `812 B`, `12.3 KiB`, `4.5 MiB`, `1.2 GiB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let scaled = |shift: u32| count as f64 / (1u64 << shift) as f64;
    match count {
        0..1_024 => format!("{count} B"),
        1_024..1_048_576 => format!("{:.1} KiB", scaled(10)),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", scaled(20)),
        _ => format!("{:.1} GiB", scaled(30)),
    }
}

/// Reads `500ms`, `30s`, `5m`, `2h`, `1d`, or plain seconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let wrong = || format!("{text:?} is not a duration; write 500ms, 30s, 5m, 2h or 1d");
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let millis = match unit {
        "ms" => Some(number),
        "" | "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        "d" => number.checked_mul(86_400_000),
        _ => return Err(wrong()),
    };
    millis.map(Duration::from_millis).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        let cases = [
            (999, "0 us"),
            (812_000, "812 us"),
            (12_300_000, "12.3 ms"),
            (4_560_000_000, "4.56 s"),
            (192_000_000_000, "3 m 12 s"),
            (7_500_000_000_000, "2 h 5 m"),
            (273_600_000_000_000, "3 d 4 h"),
        ];
        for (nanos, text) in cases {
            assert_eq!(duration(nanos), text);
        }
    }

    #[test]
    fn typed_durations() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("30"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7_200)));
        for bad in ["", "s", "-1s", "1.5s", "1y", "99999999999999999999", "18446744073709551615d"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
