//! Literals: the text of a value of each domain, read and written.
//!
//! `parse` gives the value an untyped literal has in a domain, `dump` the form in which a value is
//! quoted in error messages, `identity_text` the text of an identity.

use crate::domain::Domain;
use crate::name::is_word;
use crate::value::{Date, DateTime, Time, Value};

/// Digits a decimal literal may have when written without an exponent.
const MAX_DECIMAL_DIGITS: i64 = 20_000;

/// Reads a literal of a domain.
///
/// # Errors
/// The original's message, such as `invalid integer literal: …`.
pub fn parse(domain: &Domain, text: &str) -> Result<Value, String> {
    match domain {
        Domain::Text | Domain::Untyped | Domain::Opaque(_) => Ok(Value::Text(text.to_string())),
        Domain::Boolean => match text {
            "true" => Ok(Value::Boolean(true)),
            "false" => Ok(Value::Boolean(false)),
            _ => Err(format!(
                "invalid Boolean literal: expected 'true' or 'false'; got {}",
                quote(text)
            )),
        },
        Domain::Integer => parse_integer(text),
        Domain::Decimal => plain_decimal(text.trim())
            .map(Value::Decimal)
            .ok_or_else(|| format!("invalid decimal literal: {text}")),
        Domain::Float => match text.trim().parse::<f64>() {
            Ok(x) if x.is_finite() => Ok(Value::Float(x)),
            _ => Err(format!("invalid float literal: {text}")),
        },
        Domain::Enum(ty) => {
            if ty.labels.iter().any(|label| label == text) {
                Ok(Value::Text(text.to_string()))
            } else {
                let labels: Vec<String> = ty.labels.iter().map(|l| quote(l)).collect();
                Err(format!(
                    "invalid enum literal: expected one of {}; got {}",
                    labels.join(", "),
                    quote(text)
                ))
            }
        }
        Domain::Date => parse_date(text).map(Value::Date),
        Domain::Time => parse_time(text).map(Value::Time),
        Domain::DateTime => parse_datetime(text).map(Value::DateTime),
        Domain::Json => serde_json::from_str::<serde::de::IgnoredAny>(text)
            .map(|_valid| Value::Json(text.to_string()))
            .map_err(|error| format!("invalid JSON literal: {error}")),
        Domain::Identity(labels) => parse_identity(labels, text),
        Domain::Void | Domain::Entity | Domain::Record(_) | Domain::List(_) => {
            Err(format!("invalid {} literal: {text}", domain.family()))
        }
    }
}

fn parse_integer(text: &str) -> Result<Value, String> {
    let digits = text.trim();
    let unsigned = digits.strip_prefix(['+', '-']).unwrap_or(digits);
    if unsigned.is_empty() || !unsigned.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!(
            "invalid integer literal: expected an integer in a decimal format; got {}",
            quote(text)
        ));
    }
    let value = digits.strip_prefix('+').unwrap_or(digits).parse();
    value.map(Value::Integer).map_err(|_| OUT_OF_RANGE.to_string())
}

/// The message for an integer that int8 cannot hold.
pub(crate) const OUT_OF_RANGE: &str = "Found integer value is out of range";

/// Decimal text without an exponent, as PostgreSQL prints a numeric; `None` when it is not a
/// finite decimal number.
pub fn plain_decimal(text: &str) -> Option<String> {
    let (sign, rest) = match text.as_bytes().first()? {
        b'-' => ("-", &text[1..]),
        b'+' => ("", &text[1..]),
        _ => ("", text),
    };
    let (mantissa, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], rest[at + 1..].parse::<i64>().ok()?),
        None => (rest, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let length = i64::try_from(digits.len()).ok()?;
    let point = i64::try_from(whole.len()).ok()?.checked_add(exponent)?;
    if point.abs() > MAX_DECIMAL_DIGITS || length > MAX_DECIMAL_DIGITS {
        return None;
    }
    let (whole, fraction) = if point <= 0 {
        let zeros = "0".repeat(usize::try_from(-point).ok()?);
        (String::new(), format!("{zeros}{digits}"))
    } else if point >= length {
        let zeros = "0".repeat(usize::try_from(point - length).ok()?);
        (format!("{digits}{zeros}"), String::new())
    } else {
        let at = usize::try_from(point).ok()?;
        (digits[..at].to_string(), digits[at..].to_string())
    };
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let sign = if whole == "0" && fraction.bytes().all(|b| b == b'0') { "" } else { sign };
    if fraction.is_empty() {
        Some(format!("{sign}{whole}"))
    } else {
        Some(format!("{sign}{whole}.{fraction}"))
    }
}

/// Reads a run of `min..=max` ASCII digits.
fn number(rest: &mut &str, min: usize, max: usize) -> Option<u32> {
    let count = rest.bytes().take(max).take_while(u8::is_ascii_digit).count();
    if count < min {
        return None;
    }
    let value = rest[..count].parse().ok()?;
    *rest = &rest[count..];
    Some(value)
}

fn eat(rest: &mut &str, c: char) -> Option<()> {
    *rest = rest.strip_prefix(c)?;
    Some(())
}

fn scan_date(rest: &mut &str) -> Option<(u32, u32, u32)> {
    let year = number(rest, 4, 4)?;
    eat(rest, '-')?;
    let month = number(rest, 2, 2)?;
    eat(rest, '-')?;
    let day = number(rest, 2, 2)?;
    Some((year, month, day))
}

/// Hour, minute, second and microsecond; digits of a second after the sixth are dropped.
fn scan_time(rest: &mut &str) -> Option<(u32, u32, u32, u32)> {
    let hour = number(rest, 1, 2)?;
    eat(rest, ':')?;
    let minute = number(rest, 2, 2)?;
    let (mut second, mut micro) = (0, 0);
    if eat(rest, ':').is_some() {
        second = number(rest, 2, 2)?;
        if eat(rest, '.').is_some() {
            let count = rest.bytes().take_while(u8::is_ascii_digit).count();
            if count == 0 {
                return None;
            }
            let digits: String = rest[..count].chars().chain("000000".chars()).take(6).collect();
            micro = digits.parse().ok()?;
            *rest = &rest[count..];
        }
    }
    Some((hour, minute, second, micro))
}

fn make_date((year, month, day): (u32, u32, u32)) -> Result<Date, &'static str> {
    let year = i32::try_from(year).unwrap_or(0);
    if year == 0 {
        return Err("year 0 is out of range");
    }
    if !(1..=12).contains(&month) {
        return Err("month must be in 1..12");
    }
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if !(1..=days).contains(&day) {
        return Err("day is out of range for month");
    }
    let (month, day) = (u8::try_from(month).unwrap_or(1), u8::try_from(day).unwrap_or(1));
    Ok(Date { year, month, day })
}

fn make_time((hour, minute, second, micro): (u32, u32, u32, u32)) -> Result<Time, &'static str> {
    if hour > 23 {
        return Err("hour must be in 0..23");
    }
    if minute > 59 {
        return Err("minute must be in 0..59");
    }
    if second > 59 {
        return Err("second must be in 0..59");
    }
    let narrow = |n: u32| u8::try_from(n).unwrap_or(0);
    Ok(Time {
        hour: narrow(hour),
        minute: narrow(minute),
        second: narrow(second),
        microsecond: micro,
    })
}

fn parse_date(text: &str) -> Result<Date, String> {
    let mut rest = text.trim();
    match scan_date(&mut rest) {
        Some(parts) if rest.is_empty() => {
            make_date(parts).map_err(|reason| format!("invalid date literal: {reason}"))
        }
        _ => Err(format!(
            "invalid date literal: expected a valid date in a 'YYYY-MM-DD' format; got {}",
            quote(text)
        )),
    }
}

fn parse_time(text: &str) -> Result<Time, String> {
    let mut rest = text.trim();
    match scan_time(&mut rest) {
        Some(parts) if rest.is_empty() => {
            make_time(parts).map_err(|reason| format!("invalid time literal: {reason}"))
        }
        _ => Err(format!(
            "invalid time literal: expected a valid time in a 'HH:SS:MM.SSSSSS' format; got {}",
            quote(text)
        )),
    }
}

fn parse_datetime(text: &str) -> Result<DateTime, String> {
    let Some((date, time, offset)) = scan_datetime(text.trim()) else {
        return Err(format!(
            "invalid datetime literal: expected a valid date/time in a \
             'YYYY-MM-DD HH:SS:MM.SSSSSS' format; got {}",
            quote(text)
        ));
    };
    let invalid = |reason| format!("invalid datetime literal: {reason}");
    let date = make_date(date).map_err(invalid)?;
    let time = make_time(time).map_err(invalid)?;
    Ok(DateTime { date, time, offset })
}

type DateTimeParts = ((u32, u32, u32), (u32, u32, u32, u32), Option<i32>);

fn scan_datetime(mut rest: &str) -> Option<DateTimeParts> {
    let date = scan_date(&mut rest)?;
    let mut time = (0, 0, 0, 0);
    let gap = rest.trim_start();
    let mut ahead =
        if gap.len() < rest.len() { gap } else { rest.strip_prefix(['t', 'T']).unwrap_or("") };
    if ahead.bytes().next().is_some_and(|b| b.is_ascii_digit()) {
        time = scan_time(&mut ahead)?;
        rest = ahead;
    }
    rest = rest.trim_start();
    let offset = if eat(&mut rest, 'Z').is_some() {
        Some(0)
    } else if let Some(sign) =
        rest.strip_prefix('+').map(|_| 1).or(rest.strip_prefix('-').map(|_| -1))
    {
        rest = &rest[1..];
        let hours = number(&mut rest, 1, 2)?;
        let minutes = if eat(&mut rest, ':').is_some() {
            number(&mut rest, 2, 2)?
        } else {
            number(&mut rest, 2, 2).unwrap_or(0)
        };
        Some(sign * i32::try_from(hours * 60 + minutes).ok()?)
    } else {
        None
    };
    rest.is_empty().then_some((date, time, offset))
}

/// A label of an identity literal as written.
enum RawLabel {
    Leaf(String),
    Group(Vec<RawLabel>),
}

/// Groups deeper than this are refused.
const MAX_IDENTITY_DEPTH: usize = 64;

fn parse_identity(labels: &[Domain], text: &str) -> Result<Value, String> {
    let ill_formed = || format!("ill-formed identity literal: {text}");
    let mut rest = text.trim();
    let raw = raw_labels(&mut rest, 0).ok_or_else(ill_formed)?;
    if !rest.trim().is_empty() {
        return Err(ill_formed());
    }
    align(labels, raw, text)
}

fn raw_labels(rest: &mut &str, depth: usize) -> Option<Vec<RawLabel>> {
    if depth > MAX_IDENTITY_DEPTH {
        return None;
    }
    let mut labels = Vec::new();
    loop {
        *rest = rest.trim_start();
        let first = rest.chars().next()?;
        if first == '(' || first == '[' {
            *rest = &rest[1..];
            let group = raw_labels(rest, depth + 1)?;
            *rest = rest.trim_start();
            eat(rest, if first == '(' { ')' } else { ']' })?;
            labels.push(RawLabel::Group(group));
        } else if first == '\'' {
            *rest = &rest[1..];
            let mut label = String::new();
            loop {
                let end = rest.find('\'')?;
                label.push_str(&rest[..end]);
                *rest = &rest[end + 1..];
                if eat(rest, '\'').is_none() {
                    break;
                }
                label.push('\'');
            }
            labels.push(RawLabel::Leaf(label));
        } else {
            let end = rest.find(|c| !is_label_char(c)).unwrap_or(rest.len());
            if end == 0 {
                return None;
            }
            labels.push(RawLabel::Leaf(rest[..end].to_string()));
            *rest = &rest[end..];
        }
        *rest = rest.trim_start();
        if eat(rest, '.').is_none() {
            return Some(labels);
        }
    }
}

/// Whether a character may stand in an unquoted label.
pub(crate) fn is_label_char(c: char) -> bool {
    is_word(c) || c == '-'
}

fn align(labels: &[Domain], raw: Vec<RawLabel>, text: &str) -> Result<Value, String> {
    let expected: usize = labels.iter().map(Domain::width).sum();
    let got = count_leaves(&raw);
    if got > expected {
        return Err(format!("too many labels: expected {expected}, got {got}"));
    }
    if got < expected {
        return Err(format!("not enough labels: expected {expected}, got {got}"));
    }
    let misshapen = || format!("misshapen identity literal: {text}");
    let mut raw = raw.into_iter().peekable();
    let value = take_labels(labels, &mut raw, text)?;
    if raw.next().is_some() { Err(misshapen()) } else { Ok(value) }
}

fn count_leaves(raw: &[RawLabel]) -> usize {
    raw.iter()
        .map(|label| match label {
            RawLabel::Leaf(_) => 1,
            RawLabel::Group(group) => count_leaves(group),
        })
        .sum()
}

fn take_labels(
    labels: &[Domain],
    raw: &mut std::iter::Peekable<std::vec::IntoIter<RawLabel>>,
    text: &str,
) -> Result<Value, String> {
    let mut values = Vec::with_capacity(labels.len());
    for label in labels {
        let value = match (label, raw.peek()) {
            (Domain::Identity(inner), Some(RawLabel::Leaf(_))) => take_labels(inner, raw, text)?,
            (Domain::Identity(inner), Some(RawLabel::Group(_))) => match raw.next() {
                Some(RawLabel::Group(group)) => align(inner, group, text)?,
                _ => return Err(format!("misshapen identity literal: {text}")),
            },
            (leaf, Some(RawLabel::Leaf(_))) => match raw.next() {
                Some(RawLabel::Leaf(label)) => parse(leaf, &label)?,
                _ => return Err(format!("misshapen identity literal: {text}")),
            },
            _ => return Err(format!("misshapen identity literal: {text}")),
        };
        values.push(value);
    }
    Ok(Value::Identity(values))
}

/// A quoted string with quotes doubled.
pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The text of a scalar or identity value, as a cast to text gives it; `None` for NULL (and for an
/// identity with a NULL label).
pub fn plain_text(domain: &Domain, value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::Boolean(b) => b.to_string(),
        Value::Integer(i) => i.to_string(),
        Value::Decimal(d) => d.clone(),
        Value::Float(x) => float_text(*x),
        Value::Text(text) => text.clone(),
        Value::Date(date) => date.to_string(),
        Value::Time(time) => time.to_string(),
        Value::DateTime(stamp) => stamp.to_string(),
        Value::Json(document) => crate::json::compact(document),
        Value::Identity(labels) => match domain {
            Domain::Identity(domains) => return identity_text(domains, labels),
            _ => return None,
        },
        Value::Record(_) | Value::List(_) => dump(domain, value),
    })
}

/// A float as Python prints it: the shortest text that reads back, with a point or an exponent.
fn float_text(x: f64) -> String {
    let magnitude = x.abs();
    if !x.is_finite() {
        x.to_string().to_lowercase()
    } else if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        let text = format!("{x:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) =
            exponent.strip_prefix('-').map_or(("+", exponent), |digits| ("-", digits));
        format!("{mantissa}e{sign}{digits:0>2}")
    } else {
        format!("{x:?}")
    }
}

/// The text of an identity (`astro.105`, `(2010.fall).'a b'`); `None` when a label is NULL.
pub fn identity_text(domains: &[Domain], labels: &[Value]) -> Option<String> {
    let flattened = domains.iter().skip(1).all(|d| !matches!(d, Domain::Identity(_)));
    let mut chunks = Vec::with_capacity(labels.len());
    for (domain, value) in domains.iter().zip(labels) {
        let chunk = match (domain, value) {
            (Domain::Identity(inner), Value::Identity(labels)) => {
                let chunk = identity_text(inner, labels)?;
                if flattened || inner.len() == 1 { chunk } else { format!("({chunk})") }
            }
            (domain, value) => {
                let text = plain_text(domain, value)?;
                if !text.is_empty() && text.chars().all(is_label_char) {
                    text
                } else {
                    quote(&text)
                }
            }
        };
        chunks.push(chunk);
    }
    Some(chunks.join("."))
}

/// A value as it is quoted in error messages: `{'ACID', 12}`, `[astro.105]`, `(a, b)`, `null`.
pub fn dump(domain: &Domain, value: &Value) -> String {
    match (domain, value) {
        (_, Value::Null) => "null".to_string(),
        (Domain::Record(fields), Value::Record(values)) => {
            let items: Vec<String> =
                fields.iter().zip(values).map(|(field, v)| dump(&field.domain, v)).collect();
            format!("{{{}}}", items.join(", "))
        }
        (Domain::List(item), Value::List(values)) => {
            let items: Vec<String> = values.iter().map(|v| dump(item, v)).collect();
            if let [one] = items.as_slice() {
                format!("({one},)")
            } else {
                format!("({})", items.join(", "))
            }
        }
        (Domain::Identity(domains), Value::Identity(labels)) => {
            identity_text(domains, labels).map_or("null".to_string(), |text| format!("[{text}]"))
        }
        (_, Value::Boolean(_) | Value::Integer(_) | Value::Decimal(_) | Value::Float(_)) => {
            plain_text(domain, value).unwrap_or_default()
        }
        _ => quote(&plain_text(domain, value).unwrap_or_default()),
    }
}

impl std::fmt::Display for Date {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = if self.year < 0 { "-" } else { "" };
        write!(f, "{sign}{:04}-{:02}-{:02}", self.year.unsigned_abs(), self.month, self.day)
    }
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:02}:{:02}:{:02}", self.hour, self.minute, self.second)?;
        if self.microsecond > 0 {
            write!(f, ".{:06}", self.microsecond)?;
        }
        Ok(())
    }
}

impl std::fmt::Display for DateTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.date, self.time)?;
        if let Some(offset) = self.offset {
            let sign = if offset < 0 { '-' } else { '+' };
            write!(f, "{sign}{:02}:{:02}", offset.abs() / 60, offset.abs() % 60)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
