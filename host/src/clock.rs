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
    use super::timestamp;
    use rex_transport::Timestamp;

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
