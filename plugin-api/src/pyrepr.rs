//! JSON values as Python's `repr()` prints them, since that is how the original logs payloads and
//! settings: `{'foo': 1, 'ok': True, 'none': None}`.

use serde_json::{Map, Number, Value};

use crate::json;

/// `repr()` of the value that Python's `json.loads` makes of `value`.
pub fn repr(value: &Value) -> String {
    let mut out = String::new();
    write(&mut out, value);
    out
}

/// As [`repr`], of a JSON text, read as Python does: numbers may be of any size. A text that is none
/// is returned as it is.
pub fn repr_json(text: &str) -> String {
    let Ok(read) = json::read(text) else { return text.to_owned() };
    if read.exact {
        return repr(&read.value);
    }
    let mut out = String::new();
    for token in json::tokens(text) {
        match token {
            "," | ":" => out.push_str(if token == "," { ", " } else { ": " }),
            "null" => out.push_str("None"),
            "true" => out.push_str("True"),
            "false" => out.push_str("False"),
            "NaN" => out.push_str("nan"),
            "Infinity" => out.push_str("inf"),
            "-Infinity" => out.push_str("-inf"),
            "{" | "}" | "[" | "]" => out.push_str(token),
            token => match json::units(token) {
                Some(units) => {
                    let chars = char::decode_utf16(units);
                    write_chars(&mut out, chars.map(|c| c.map_err(|e| e.unpaired_surrogate())));
                }
                None => write_number_text(&mut out, token),
            },
        }
    }
    out
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
    write_chars(out, text.chars().map(Ok));
}

/// Characters, and halves of surrogate pairs, which a Python string may have.
fn write_chars(out: &mut String, chars: impl Iterator<Item = Result<char, u16>> + Clone) {
    let has = |wanted| chars.clone().any(|c| c == Ok(wanted));
    let quote = if has('\'') && !has('"') { '"' } else { '\'' };
    out.push(quote);
    for c in chars {
        let c = match c {
            Ok(c) => c,
            Err(half) => {
                out.push_str(&format!("\\u{half:04x}"));
                continue;
            }
        };
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

/// Python escapes what Unicode calls "Other" or "Separator", except the space. `escape_debug` knows the same
/// classes; a mark that would join the character before it is escaped at the start of a text alone.
fn is_printable(c: char) -> bool {
    if c == ' ' || c.is_ascii_graphic() {
        return true;
    }
    if c.is_whitespace() || c.is_control() {
        return false;
    }
    let mut text = "a".to_owned();
    text.push(c);
    text.escape_debug().nth(1) == Some(c)
}

#[cfg(test)]
mod tests;
