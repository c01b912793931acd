//! Percent-decoding of query texts.
//!
//! Every `%` starts an escape of two hexadecimal digits; a run of escapes must decode to UTF-8.

use std::borrow::Cow;
use std::sync::Arc;

use crate::error::{Error, Mark, Stage};

/// Decodes a query text.
///
/// # Errors
/// A `%` without two hexadecimal digits, or bytes that are not UTF-8; marked in the text as given.
pub(super) fn decode(text: &str) -> Result<Cow<'_, str>, Error> {
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text));
    }
    let mut decoded = String::with_capacity(text.len());
    let mut position = 0;
    while let Some(found) = text[position..].find('%') {
        let start = position + found;
        decoded.push_str(&text[position..start]);
        let mut bytes = Vec::new();
        position = start;
        while text[position..].starts_with('%') {
            let Some(byte) = hex_byte(&text.as_bytes()[position + 1..]) else {
                let message = "Expected symbol `%` followed by two hexdecimal digits";
                return Err(fail(message.to_string(), text, position, position + 1));
            };
            bytes.push(byte);
            position += 3;
        }
        match std::str::from_utf8(&bytes) {
            Ok(run) => decoded.push_str(run),
            Err(error) => {
                let sequence = &text[start..position];
                let reason = reason(&bytes, error);
                let message =
                    format!("Cannot convert a byte sequence {sequence} to UTF-8: {reason}");
                return Err(fail(message, text, start, position));
            }
        }
    }
    decoded.push_str(&text[position..]);
    Ok(Cow::Owned(decoded))
}

fn hex_byte(bytes: &[u8]) -> Option<u8> {
    let digit = |b: &u8| char::from(*b).to_digit(16);
    let value = digit(bytes.first()?)? * 16 + digit(bytes.get(1)?)?;
    u8::try_from(value).ok()
}

/// The wording of Python's codec.
fn reason(bytes: &[u8], error: std::str::Utf8Error) -> String {
    let at = error.valid_up_to();
    let what = match error.error_len() {
        None => "unexpected end of data",
        Some(1) if !(0xC2..=0xF4).contains(&bytes[at]) => "invalid start byte",
        Some(_) => "invalid continuation byte",
    };
    let last = error.error_len().map_or(bytes.len(), |len| at + len) - 1;
    if last == at {
        format!("'utf-8' codec can't decode byte 0x{:02x} in position {at}: {what}", bytes[at])
    } else {
        format!("'utf-8' codec can't decode bytes in position {at}-{last}: {what}")
    }
}

fn fail(message: String, text: &str, start: usize, end: usize) -> Error {
    let mark = Mark { text: Arc::from(text), start, end };
    Error::new(message).at(Stage::Parsing, &mark)
}
