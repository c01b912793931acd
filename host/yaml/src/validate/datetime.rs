//! Dates and times as the original accepts and prints them.

use serde_json::Value;

use crate::Error;

type Checked = Result<Value, Error>;

pub(super) fn date(value: &Value) -> Checked {
    let text = value.as_str().filter(|text| text.is_ascii()).and_then(|text| {
        let date = text.get(..10)?;
        let rest = &text[10..];
        // A date with time counts as its date.
        let ok = rest.is_empty() || parse_datetime(text).is_some();
        (ok && parse_date(date).is_some()).then(|| date.into())
    });
    text.ok_or_else(|| Error::new("Expected a valid date in the format YYYY-MM-DD"))
}

pub(super) fn time(value: &Value) -> Checked {
    let time = value.as_str().and_then(parse_time);
    time.map(|time| time.to_string().into())
        .ok_or_else(|| Error::new("Expected a valid time in the format HH:MM:SS[.FFFFFF]"))
}

pub(super) fn datetime(value: &Value) -> Checked {
    let text = value.as_str().and_then(parse_datetime);
    text.map(Value::from).ok_or_else(|| {
        Error::new("Expected a valid date/time in the format YYYY-MM-DDTHH:MM:SS[.FFFFFF][+-HH:MM]")
    })
}

/// A time of day.
struct Time {
    seconds: i64,
    micros: u32,
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (hour, minute, second) =
            (self.seconds / 3600, self.seconds / 60 % 60, self.seconds % 60);
        write!(f, "{hour:02}:{minute:02}:{second:02}")?;
        match self.micros {
            0 => Ok(()),
            micros => write!(f, ".{micros:06}"),
        }
    }
}

fn digits(text: &str, len: usize) -> Option<i64> {
    let ok = text.len() == len && text.bytes().all(|b| b.is_ascii_digit());
    if ok { text.parse().ok() } else { None }
}

/// Days since 0000-03-01 in the proleptic Gregorian calendar.
fn parse_date(text: &str) -> Option<i64> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let (year, month, day) = (digits(year, 4)?, digits(month, 2)?, digits(day, 2)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if year < 1 || !(1..=length).contains(&day) || parts.next().is_some() {
        return None;
    }
    // Years start in March, so that the leap day is the last of its year.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    Some(y * 365 + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1)
}

fn print_date(days: i64) -> String {
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let m = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * m + 2) / 5 + 1;
    let month = if m < 10 { m + 3 } else { m - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

fn parse_time(text: &str) -> Option<Time> {
    let (clock, fraction) = match text.split_once('.') {
        Some((clock, fraction)) => (clock, Some(fraction)),
        None => (text, None),
    };
    let mut parts = clock.split(':');
    let (hour, minute, second) = (parts.next()?, parts.next()?, parts.next()?);
    let (hour, minute, second) = (digits(hour, 2)?, digits(minute, 2)?, digits(second, 2)?);
    if hour > 23 || minute > 59 || second > 59 || parts.next().is_some() {
        return None;
    }
    let micros = match fraction {
        None => 0,
        Some(f) if (1..=6).contains(&f.len()) => {
            let scale = 10_u32.pow(6 - u32::try_from(f.len()).ok()?);
            u32::try_from(digits(f, f.len())?).ok()? * scale
        }
        Some(_) => return None,
    };
    Some(Time { seconds: hour * 3600 + minute * 60 + second, micros })
}

/// Seconds east of UTC and the text before the zone.
fn split_zone(text: &str) -> Option<(&str, i64)> {
    if let Some(rest) = text.strip_suffix(['Z', 'z']) {
        return Some((rest, 0));
    }
    let Some(at) = text.rfind(['+', '-']) else { return Some((text, 0)) };
    let sign = if text[at..].starts_with('-') { -1 } else { 1 };
    let zone = text[at + 1..].replace(':', "");
    let (hours, minutes) = (digits(zone.get(..2)?, 2)?, digits(zone.get(2..)?, 2)?);
    (hours < 24 && minutes < 60).then(|| (&text[..at], sign * (hours * 3600 + minutes * 60)))
}

/// The moment in UTC, as `YYYY-MM-DDTHH:MM:SS[.FFFFFF]`.
fn parse_datetime(text: &str) -> Option<String> {
    let days = parse_date(text.get(..10)?)?;
    let rest = &text[10..];
    if rest.is_empty() {
        return Some(format!("{}T00:00:00", print_date(days)));
    }
    let rest = rest.strip_prefix(['T', ' '])?;
    let (clock, east) = split_zone(rest)?;
    let Time { seconds, micros } = parse_time(clock.trim_end())?;
    let seconds = days * 86_400 + seconds - east;
    let time = Time { seconds: seconds.rem_euclid(86_400), micros };
    let date = print_date(seconds.div_euclid(86_400));
    // The first and last day of the calendar can fall off it with their zone.
    (date.len() == 10 && date.as_str() >= "0001").then(|| format!("{date}T{time}"))
}
