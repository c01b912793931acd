//! JSON text as Python's `json.loads` reads it, which takes more than JSON: `NaN`, `Infinity`, halves
//! of surrogate pairs, numbers of any size, and nesting as deep as [`DEPTH`]. What a [`Value`] cannot
//! hold is replaced by what comes next to it, and the reader is told so.

use serde::Deserialize;
use serde_json::Value;

/// How many arrays and objects may be inside one another; about as many as Python reads.
pub const DEPTH: usize = 1000;

pub(crate) struct Read {
    pub(crate) value: Value,
    /// Whether the value says all that the text does.
    pub(crate) exact: bool,
}

/// The value of a text. An integer beyond 64 bits becomes the nearest `f64`, a number that no finite
/// `f64` is becomes null, half a surrogate pair U+FFFD.
///
/// # Errors
/// What is wrong with the text, and where.
pub(crate) fn read(text: &str) -> Result<Read, String> {
    match serde_json::from_str(text) {
        Ok(value) => Ok(Read { value, exact: !tokens(text).any(loses_digits) }),
        // What JSON does not allow is rare: it costs who has it a second look.
        Err(error) => match replaced(text) {
            Some(value) => Ok(Read { value, exact: false }),
            None if depth(text) > DEPTH => {
                Err(format!("nested deeper than {DEPTH} arrays and objects"))
            }
            None => Err(error.to_string()),
        },
    }
}

fn replaced(text: &str) -> Option<Value> {
    if depth(text) > DEPTH {
        return None;
    }
    let mut strict = String::with_capacity(text.len() + text.len() / 8);
    for token in tokens(text) {
        match token {
            token if is_not_finite(token) => strict.push_str("null"),
            token => match units(token).filter(|_| token.contains('\\')) {
                Some(units) => {
                    strict.push_str(&Value::from(String::from_utf16_lossy(&units)).to_string());
                }
                None => strict.push_str(token),
            },
        }
        // What was apart stays apart.
        strict.push(' ');
    }
    let mut reader = serde_json::Deserializer::from_str(&strict);
    reader.disable_recursion_limit();
    let value = Value::deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    Some(value)
}

fn depth(text: &str) -> usize {
    let mut depth = 0usize;
    let mut deepest = 0;
    for token in tokens(text) {
        match token {
            "{" | "[" => depth += 1,
            "}" | "]" => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

fn is_number(token: &str) -> bool {
    token.starts_with(|c: char| c == '-' || c.is_ascii_digit())
}

/// An integer that a [`Value`] does not hold as it stands there: beyond 64 bits, or `-0`, which
/// Python reads as 0.
fn loses_digits(token: &str) -> bool {
    is_number(token)
        && !token.contains(['.', 'e', 'E'])
        && (token == "-0" || token.parse::<i64>().is_err() && token.parse::<u64>().is_err())
}

/// What Python reads as `nan`, `inf` or `-inf`.
fn is_not_finite(token: &str) -> bool {
    let is_json = || serde_json::from_str::<serde::de::IgnoredAny>(token).is_ok();
    matches!(token, "NaN" | "Infinity" | "-Infinity")
        || is_number(token) && token.parse::<f64>().is_ok_and(f64::is_infinite) && is_json()
}

/// The tokens of a JSON text, blanks left out; of any other text some cut of it.
pub(crate) fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', '\n', '\r']);
        let first = rest.chars().next()?;
        let length = match first {
            '"' => {
                let mut escaped = false;
                let end = rest.bytes().skip(1).position(|byte| {
                    let ends = byte == b'"' && !escaped;
                    escaped = byte == b'\\' && !escaped;
                    ends
                });
                end.map_or(rest.len(), |end| end + 2)
            }
            '{' | '}' | '[' | ']' | ',' | ':' => 1,
            _ => rest.find(|c: char| "{}[],:\" \t\n\r".contains(c)).unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(length);
        rest = after;
        Some(token)
    })
}

/// A string's UTF-16 units, halves of pairs included; `None` when `token` is no string of JSON.
pub(crate) fn units(token: &str) -> Option<Vec<u16>> {
    let text = token.strip_prefix('"')?.strip_suffix('"')?;
    let mut units = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let plain = match c {
            '\0'..='\u{1f}' | '"' => return None,
            '\\' => match chars.next()? {
                'u' => {
                    let digits = chars.as_str().get(..4)?;
                    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                        return None;
                    }
                    units.push(u16::from_str_radix(digits, 16).ok()?);
                    chars = chars.as_str()[4..].chars();
                    continue;
                }
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                same @ ('"' | '\\' | '/') => same,
                _ => return None,
            },
            plain => plain,
        };
        units.extend_from_slice(plain.encode_utf16(&mut [0; 2]));
    }
    Some(units)
}

#[cfg(test)]
mod tests;
