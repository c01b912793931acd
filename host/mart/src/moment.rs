//! Moments as marts tell them: the time of day here, without a zone.

use jiff::civil::DateTime;
use jiff::{ToSpan, Zoned};

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

/// A second later.
pub(crate) fn later(moment: DateTime) -> DateTime {
    moment.saturating_add(1.second())
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
mod tests;
