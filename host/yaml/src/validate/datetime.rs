//! Dates and times as the original accepts and prints them.

use jiff::SignedDuration;
use jiff::civil::{Date, Time};
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
    time.map(|time| print_time(time).into())
        .ok_or_else(|| Error::new("Expected a valid time in the format HH:MM:SS[.FFFFFF]"))
}

pub(super) fn datetime(value: &Value) -> Checked {
    let text = value.as_str().and_then(parse_datetime);
    text.map(Value::from).ok_or_else(|| {
        Error::new("Expected a valid date/time in the format YYYY-MM-DDTHH:MM:SS[.FFFFFF][+-HH:MM]")
    })
}

fn digits<N: std::str::FromStr>(text: &str, len: usize) -> Option<N> {
    let ok = text.len() == len && text.bytes().all(|b| b.is_ascii_digit());
    if ok { text.parse().ok() } else { None }
}

fn parse_date(text: &str) -> Option<Date> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let date = Date::new(digits(year, 4)?, digits(month, 2)?, digits(day, 2)?).ok()?;
    (date.year() >= 1 && parts.next().is_none()).then_some(date)
}

fn parse_time(text: &str) -> Option<Time> {
    let (clock, fraction) = match text.split_once('.') {
        Some((clock, fraction)) => (clock, Some(fraction)),
        None => (text, None),
    };
    let mut parts = clock.split(':');
    let (hour, minute, second) = (parts.next()?, parts.next()?, parts.next()?);
    let nanos = match fraction {
        None => 0,
        Some(f) if (1..=6).contains(&f.len()) => {
            digits::<i32>(f, f.len())? * 10_i32.pow(9 - u32::try_from(f.len()).ok()?)
        }
        Some(_) => return None,
    };
    let time = Time::new(digits(hour, 2)?, digits(minute, 2)?, digits(second, 2)?, nanos).ok()?;
    parts.next().is_none().then_some(time)
}

fn print_time(time: Time) -> String {
    let clock = format!("{:02}:{:02}:{:02}", time.hour(), time.minute(), time.second());
    match time.subsec_nanosecond() / 1000 {
        0 => clock,
        micros => format!("{clock}.{micros:06}"),
    }
}

/// The text before the zone and how far that is east of UTC.
fn split_zone(text: &str) -> Option<(&str, SignedDuration)> {
    if let Some(rest) = text.strip_suffix(['Z', 'z']) {
        return Some((rest, SignedDuration::ZERO));
    }
    let Some(at) = text.rfind(['+', '-']) else { return Some((text, SignedDuration::ZERO)) };
    let sign = if text[at..].starts_with('-') { -1 } else { 1 };
    let zone = text[at + 1..].replace(':', "");
    let (hours, minutes): (i64, i64) = (digits(zone.get(..2)?, 2)?, digits(zone.get(2..)?, 2)?);
    let east = SignedDuration::from_mins(sign * (hours * 60 + minutes));
    (hours < 24 && minutes < 60).then_some((&text[..at], east))
}

/// The moment in UTC, as `YYYY-MM-DDTHH:MM:SS[.FFFFFF]`.
fn parse_datetime(text: &str) -> Option<String> {
    let date = parse_date(text.get(..10)?)?;
    let rest = &text[10..];
    if rest.is_empty() {
        return Some(format!("{date}T00:00:00"));
    }
    let rest = rest.strip_prefix(['T', ' '])?;
    let (clock, east) = split_zone(rest)?;
    // The first and last day of the calendar can fall off it with their zone.
    let moment = date.to_datetime(parse_time(clock.trim_end())?).checked_sub(east).ok()?;
    let moment = (moment.year() >= 1).then_some(moment)?;
    Some(format!("{}T{}", moment.date(), print_time(moment.time())))
}
