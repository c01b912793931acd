//! Moments as marts tell them: the time of day here, without a zone.

use jiff::Zoned;
use jiff::civil::DateTime;

/// Now, to the microsecond.
pub(crate) fn now() -> DateTime {
    let now = Zoned::now().datetime();
    let micros = now.subsec_nanosecond() / 1000 * 1000;
    now.with().subsec_nanosecond(micros).build().unwrap_or(now)
}

/// Now as `YYYY-MM-DD HH:MM:SS.ffffff `: what lines of a log that is read begin with.
pub fn stamp() -> String {
    let now = now();
    format!("{}.{:06} ", now.strftime("%Y-%m-%d %H:%M:%S"), now.subsec_nanosecond() / 1000)
}

/// `YYYY-MM-DD HH:MM:SS.ffffff`, without the fraction where it is 0.
pub(crate) fn shown(moment: DateTime) -> String {
    let whole = moment.strftime("%Y-%m-%d %H:%M:%S").to_string();
    whole + &fraction(i64::from(moment.subsec_nanosecond() / 1000))
}

/// `YYYYMMDDhhmmss`.
pub(crate) fn compact(moment: DateTime) -> String {
    moment.strftime("%Y%m%d%H%M%S").to_string()
}

fn fraction(micros: i64) -> String {
    if micros == 0 { String::new() } else { format!(".{micros:06}") }
}

/// `H:MM:SS.ffffff`, without the fraction where it is 0.
pub(crate) fn between(from: DateTime, to: DateTime) -> String {
    let micros = to.duration_since(from).as_micros();
    let micros = i64::try_from(micros).unwrap_or(i64::MAX).max(0);
    let seconds = micros / 1_000_000;
    let days = match seconds / 86_400 {
        0 => String::new(),
        1 => "1 day, ".to_owned(),
        days => format!("{days} days, "),
    };
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{days}{hours}:{minutes:02}:{:02}{}", seconds % 60, fraction(micros % 1_000_000))
}

/// A moment that a database told.
pub(crate) fn read(text: &str) -> Option<DateTime> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_durations_as_python_shows_them() {
        let at = |text: &str| read(text).unwrap();
        let moment = at("2026-11-21 22:27:45.000123");
        assert_eq!(shown(moment), "2026-11-21 22:27:45.000123");
        assert_eq!(shown(at("2026-11-21 02:07:05")), "2026-11-21 02:07:05");
        assert_eq!(compact(moment), "20261121222745");
        assert_eq!(between(moment, at("2026-11-21 22:27:46.000123")), "0:00:01");
        assert_eq!(between(moment, at("2026-11-22 23:27:45.500123")), "1 day, 1:00:00.500000");
    }
}
