//! Times as people and machines read them.

use std::time::{Duration, SystemTime};

use rex_transport::Timestamp;

/// `2026-11-21T23:56:54.123456Z`.
pub fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| "never".to_owned(), written)
}

/// As [`rfc3339`], of a transport's time.
pub fn timestamp(time: Timestamp) -> String {
    jiff::Timestamp::from_microsecond(time.0).map_or_else(|_| "never".to_owned(), written)
}

/// A span as people write it: seconds, or a number with `s`, `m`, `h` or `d`.
///
/// # Errors
/// What was expected.
pub fn span(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h', 'd']) {
        Some(number) => (number, text.as_bytes()[number.len()]),
        None => (text, b's'),
    };
    let unit = match unit {
        b'm' => 60.0,
        b'h' => 3600.0,
        b'd' => 86_400.0,
        _ => 1.0,
    };
    let seconds = number.trim().parse::<f64>().ok().map(|number| number * unit);
    seconds
        .filter(|seconds| (0.0..=1e10).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| {
            "expected seconds, or a number with s, m, h or d, such as 90 or 1.5h".to_owned()
        })
}

/// A moment as people write it: RFC 3339, or a local date and time without zone.
///
/// # Errors
/// What was expected.
pub fn moment(text: &str) -> Result<Timestamp, String> {
    let local = || {
        let local = text.parse::<jiff::civil::DateTime>().ok()?;
        Some(local.to_zoned(jiff::tz::TimeZone::system()).ok()?.timestamp())
    };
    text.parse::<jiff::Timestamp>()
        .ok()
        .or_else(local)
        .map(|time| Timestamp(time.as_microsecond()))
        .ok_or_else(|| {
            "expected a time such as 2026-11-22T18:30:00+01:00, or without zone for local time"
                .to_owned()
        })
}

/// The machine's clock.
pub fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_microsecond())
}

fn written(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// `4 s`, `3 min`, `5 h`, `2 d`: one unit is enough for an age.
pub fn age(duration: Duration) -> String {
    match duration.as_secs() {
        s @ 0..=119 => format!("{s} s"),
        s @ 120..=7199 => format!("{} min", s / 60),
        s @ 7200..=172_799 => format!("{} h", s / 3600),
        s => format!("{} d", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::{moment, span, timestamp};
    use rex_transport::Timestamp;

    #[test]
    fn spans_and_moments() {
        let seconds = |text| span(text).map(|span| span.as_secs_f64());
        for (text, expected) in [("90", 90.0), ("1.5h", 5400.0), ("2d", 172_800.0), ("0", 0.0)] {
            assert_eq!(seconds(text), Ok(expected));
        }
        for wrong in ["", "h", "-1", "1w", "NaN", "inf", "1e99"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
        assert_eq!(moment("1970-01-01T01:00:00+01:00"), Ok(Timestamp(0)));
        assert!(moment("2026-11-22 18:30").is_ok() && moment("tomorrow").is_err());
    }

    #[test]
    fn known_dates() {
        for (micros, expected) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (1_795_305_414_500_000, "2026-11-21T23:56:54.500000Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(timestamp(Timestamp(micros)), expected);
        }
    }
}
