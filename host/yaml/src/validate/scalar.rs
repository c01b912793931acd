//! Validators of single values. Each gives the error's first paragraph; the caller adds what was
//! found.

use serde_json::{Number, Value};

use crate::Error;

type Checked = Result<Value, Error>;

pub(super) fn string(value: &Value) -> Result<&str, Error> {
    value.as_str().ok_or_else(|| Error::new("Expected a string"))
}

pub(super) fn pattern(value: &Value, shown: &str, matches: fn(&str) -> bool) -> Checked {
    let text = string(value)?;
    match matches(text) {
        true => Ok(text.into()),
        false => Err(Error::with("Expected a string matching:", format!("/{shown}/"))),
    }
}

pub(super) fn choice(value: &Value, choices: &[String]) -> Checked {
    let text = string(value)?;
    match choices.iter().any(|choice| choice == text) {
        true => Ok(text.into()),
        false => Err(Error::with("Expected one of:", choices.join(", "))),
    }
}

pub(super) fn boolean(value: &Value) -> Checked {
    let truth = match value {
        Value::Bool(b) => Some(*b),
        Value::Number(n) if n.as_f64() == Some(0.0) => Some(false),
        Value::Number(n) if n.as_f64() == Some(1.0) => Some(true),
        Value::String(text) => match text.as_str() {
            "" | "0" | "false" => Some(false),
            "1" | "true" => Some(true),
            _ => None,
        },
        _ => None,
    };
    truth.map(Value::Bool).ok_or_else(|| Error::new("Expected a Boolean value"))
}

pub(super) fn int(value: &Value, min: Option<i64>, max: Option<i64>) -> Checked {
    let number = match value {
        // Unsigned ones too large for us are in range or not like any other.
        Value::Number(n) if n.is_i64() || n.is_u64() => n.as_i64().map_or(i128::MAX, i128::from),
        Value::String(text) => python_int(text).ok_or_else(|| Error::new("Expected an integer"))?,
        _ => return Err(Error::new("Expected an integer")),
    };
    let fits = min.is_none_or(|min| i128::from(min) <= number)
        && max.is_none_or(|max| number <= i128::from(max));
    match i64::try_from(number) {
        Ok(number) if fits => Ok(number.into()),
        // Python's have no end, and plain data has no such number.
        Err(_) if min.is_none() && max.is_none() => Ok(digits(value).into()),
        _ => {
            let bound = |bound: Option<i64>| bound.map_or(String::new(), |n| n.to_string());
            let range = format!("[{}..{}]", bound(min), bound(max));
            Err(Error::with("Expected an integer in range:", range))
        }
    }
}

/// What Python's `int(text)` accepts: blanks around, a sign, digits with single `_` between them.
fn python_int(text: &str) -> Option<i128> {
    let text = text.trim();
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let grouped = digits
        .split('_')
        .all(|group| !group.is_empty() && group.bytes().all(|b| b.is_ascii_digit()));
    if !grouped {
        return None;
    }
    let negative = text.starts_with('-');
    let beyond = if negative { i128::MIN } else { i128::MAX };
    Some(text.replace('_', "").parse().unwrap_or(beyond))
}

/// The digits of an integer, as Python shows it.
fn digits(value: &Value) -> String {
    let text =
        value.as_str().map_or_else(|| value.to_string(), |text| text.trim().replace('_', ""));
    let digits = text.trim_start_matches(['-', '+']).trim_start_matches('0');
    let sign = if text.starts_with('-') { "-" } else { "" };
    format!("{sign}{digits}")
}

/// What Python's `float(text)` accepts.
fn python_float(text: &str) -> Option<f64> {
    let text = text.trim();
    let digits_around = |at: usize| {
        let digit = |at: Option<usize>| {
            at.and_then(|at| text.as_bytes().get(at)).is_some_and(u8::is_ascii_digit)
        };
        digit(at.checked_sub(1)) && digit(Some(at + 1))
    };
    if text.match_indices('_').any(|(at, _)| !digits_around(at)) {
        return None;
    }
    text.replace('_', "").parse().ok()
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(n) => n.as_f64(),
        Value::String(text) => python_float(text),
        Value::Bool(b) => Some(f64::from(u8::from(*b))),
        _ => None,
    }
}

pub(super) fn float(value: &Value) -> Checked {
    let number = number(value).ok_or_else(|| Error::new("Expected a float value"))?;
    // Plain data has no infinity: whoever gets this back as text reads it with `parse`.
    Ok(Number::from_f64(number).map_or_else(|| number.to_string().into(), Value::Number))
}

/// No delay that anyone means is longer than thirty years.
const MAX_SECONDS: f64 = 1e9;

pub(super) fn seconds(value: &Value, min: f64) -> Checked {
    let number = match value {
        Value::Bool(_) => None,
        value => number(value),
    };
    let number = number.ok_or_else(|| Error::new("Expected a number of seconds"))?;
    if !(min..=MAX_SECONDS).contains(&number) {
        let range = format!("[{min}..{MAX_SECONDS}]");
        return Err(Error::with("Expected a number of seconds in range:", range));
    }
    Ok(number.into())
}

pub(super) fn bytes(value: &Value, min: u64) -> Checked {
    let size = match value {
        Value::Number(n) => n.as_u64(),
        Value::String(text) => size(text.trim()),
        _ => None,
    };
    let expected = "Expected a number of bytes, such as 536870912 or 512M";
    match size.ok_or_else(|| Error::new(expected))? {
        size if size < min => {
            Err(Error::with("Expected a number of bytes in range:", format!("[{min}..]")))
        }
        size => Ok(size.into()),
    }
}

fn size(text: &str) -> Option<u64> {
    let text = text.strip_suffix(['b', 'B']).filter(|rest| !ends_in_digit(rest)).unwrap_or(text);
    let text = text.strip_suffix('i').unwrap_or(text);
    let shift = match text.bytes().last()?.to_ascii_uppercase() {
        b'K' => 10,
        b'M' => 20,
        b'G' => 30,
        b'T' => 40,
        _ => 0,
    };
    let digits = if shift == 0 { text } else { &text[..text.len() - 1] };
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

fn ends_in_digit(text: &str) -> bool {
    text.ends_with(|c: char| c.is_ascii_digit())
}

/// Python's level names; the second word of a pair is another name for the first.
const LEVELS: [(&str, &str, u64); 6] = [
    ("DEBUG", "DEBUG", 10),
    ("INFO", "INFO", 20),
    ("WARNING", "WARN", 30),
    ("ERROR", "ERROR", 40),
    ("CRITICAL", "FATAL", 50),
    ("NOTSET", "NOTSET", 0),
];

pub(super) fn level(value: &Value) -> Checked {
    let found = LEVELS.iter().find(|(name, alias, number)| match value {
        Value::String(text) => text == name || text == alias,
        value => value.as_u64() == Some(*number),
    });
    let names = || LEVELS.map(|(name, _, _)| name).join(", ");
    found.map(|(name, ..)| (*name).into()).ok_or_else(|| Error::with("Expected one of:", names()))
}
