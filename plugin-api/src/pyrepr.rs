//! JSON values as Python's `repr()` prints them, since that is how the original logs payloads and
//! settings: `{'foo': 1, 'ok': True, 'none': None}`.

use serde_json::{Map, Number, Value};

/// `repr()` of the value that Python's `json.loads` makes of `value`.
pub fn repr(value: &Value) -> String {
    let mut out = String::new();
    write(&mut out, value);
    out
}

/// As [`repr`], of a JSON text, whose numbers may be of any size; a text that is no JSON is returned
/// as it is.
pub fn repr_json(text: &str) -> String {
    if !loses_digits(text) {
        return serde_json::from_str(text).map_or_else(|_| text.to_owned(), |value| repr(&value));
    }
    if serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
        return text.to_owned();
    }
    let mut out = String::new();
    for token in tokens(text) {
        match token {
            "," | ":" => out.push_str(if token == "," { ", " } else { ": " }),
            "null" => out.push_str("None"),
            "true" => out.push_str("True"),
            "false" => out.push_str("False"),
            token if token.starts_with('"') => {
                // A valid text has valid strings.
                write_str(&mut out, &serde_json::from_str::<String>(token).unwrap_or_default());
            }
            token if token.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => {
                write_number_text(&mut out, token);
            }
            token => out.push_str(token),
        }
    }
    out
}

/// Whether a JSON text has numbers that a [`Value`] does not hold as they stand there: integers
/// beyond 64 bits, and `-0`, which Python reads as 0.
pub(crate) fn loses_digits(text: &str) -> bool {
    let is_lost = |token: &str| {
        let is_integer = token.starts_with(|c: char| c == '-' || c.is_ascii_digit())
            && !token.contains(['.', 'e', 'E']);
        is_integer
            && (token == "-0" || token.parse::<i64>().is_err() && token.parse::<u64>().is_err())
    };
    tokens(text).any(is_lost)
}

/// The tokens of a JSON text, blanks left out; of any other text some cut of it.
fn tokens(text: &str) -> impl Iterator<Item = &str> {
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

/// As [`repr`], of an object.
pub fn repr_map(map: &Map<String, Value>) -> String {
    let mut out = String::new();
    write_map(&mut out, map);
    out
}

/// `repr()` of a string: single quotes, or double ones if it has a `'` and no `"`.
pub fn repr_str(text: &str) -> String {
    let mut out = String::new();
    write_str(&mut out, text);
    out
}

fn write(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Number(number) => write_number(out, number),
        Value::String(text) => write_str(out, text),
        Value::Array(items) => {
            out.push('[');
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    out.push_str(", ");
                }
                write(out, item);
            }
            out.push(']');
        }
        Value::Object(map) => write_map(out, map),
    }
}

fn write_map(out: &mut String, map: &Map<String, Value>) {
    out.push('{');
    for (n, (key, value)) in map.iter().enumerate() {
        if n > 0 {
            out.push_str(", ");
        }
        write_str(out, key);
        out.push_str(": ");
        write(out, value);
    }
    out.push('}');
}

fn write_number(out: &mut String, number: &Number) {
    write_number_text(out, &number.to_string());
}

fn write_number_text(out: &mut String, text: &str) {
    if !text.contains(['.', 'e', 'E']) {
        out.push_str(if text == "-0" { "0" } else { text });
        return;
    }
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => out.push_str(&repr_float(value)),
        // Beyond f64: Python reads it as infinite.
        _ => out.push_str(if text.starts_with('-') { "-inf" } else { "inf" }),
    }
}

/// The shortest text that reads back as `value`; exponents from 1e16 up and below 1e-4.
pub fn repr_float(value: f64) -> String {
    if value == 0.0 {
        return if value.is_sign_negative() { "-0.0" } else { "0.0" }.to_owned();
    }
    let magnitude = value.abs();
    if (1e-4..1e16).contains(&magnitude) {
        return format!("{value:?}");
    }
    // Rust prints 1e16 and 1.5e-7; Python has a sign and at least two digits in the exponent.
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let (sign, digits) = match exponent.strip_prefix('-') {
                Some(digits) => ('-', digits),
                None => ('+', exponent),
            };
            format!("{mantissa}e{sign}{digits:0>2}")
        }
        None => text,
    }
}

fn write_str(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if is_printable(c) => out.push(c),
            c if (c as u32) < 0x100 => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if (c as u32) < 0x1_0000 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push_str(&format!("\\U{:08x}", c as u32)),
        }
    }
    out.push(quote);
}

/// Python escapes what Unicode calls "Other" or "Separator", except the space. `escape_debug`
/// knows the same classes and also escapes marks that would join the character before them.
fn is_printable(c: char) -> bool {
    if c == ' ' || c.is_ascii_graphic() {
        return true;
    }
    if c.is_whitespace() || c.is_control() {
        return false;
    }
    c.is_alphanumeric() || !c.escape_debug().to_string().starts_with("\\u{") || is_mark(c)
}

/// Combining marks of the common blocks: printable for Python.
fn is_mark(c: char) -> bool {
    matches!(c as u32, 0x300..=0x36f | 0x1ab0..=0x1aff | 0x1dc0..=0x1dff | 0x20d0..=0x20ff | 0xfe00..=0xfe0f | 0xfe20..=0xfe2f)
}

#[cfg(test)]
mod tests {
    use super::{repr, repr_json};

    #[test]
    fn as_python_prints_it() {
        for (json, expected) in [
            ("{}", "{}"),
            (r#"{"foo": 1}"#, "{'foo': 1}"),
            (r#"{"a": [1, 2.5, null, true, false]}"#, "{'a': [1, 2.5, None, True, False]}"),
            (r#""it's""#, "\"it's\""),
            (r#""it's \"x\"""#, r#"'it\'s "x"'"#),
            (r#""é\n\t\\""#, r"'é\n\t\\'"),
            (r#""\u0000\u007f\u00a0\u2028\ud83d\ude00""#, r"'\x00\x7f\xa0\u2028😀'"),
            ("1.0", "1.0"),
            // The digits that name this number, and no neighbour of it.
            ("99.86943171030205", "99.86943171030205"),
            ("2.4509269983971074e-20", "2.4509269983971074e-20"),
            ("1e5", "100000.0"),
            ("1e15", "1000000000000000.0"),
            ("1e16", "1e+16"),
            ("1.5e-7", "1.5e-07"),
            ("0.0001", "0.0001"),
            ("123456789012345", "123456789012345"),
            ("-0.0", "-0.0"),
        ] {
            let value = serde_json::from_str(json).unwrap();
            assert_eq!(repr(&value), expected, "{json}");
            assert_eq!(repr_json(json), expected, "{json}");
            let beyond = format!("[ -0,{json} ]");
            assert_eq!(repr_json(&beyond), format!("[0, {expected}]"), "{beyond}");
        }
        for (json, expected) in [
            ("-9223372036854775809", "-9223372036854775809"),
            (
                r#"{"a\\": [18446744073709551616, 1e400], "\u00e9": "x"}"#,
                r"{'a\\': [18446744073709551616, inf], 'é': 'x'}",
            ),
            ("[-0", "[-0"),
            ("-0 x", "-0 x"),
        ] {
            assert_eq!(repr_json(json), expected, "{json}");
        }
    }
}
