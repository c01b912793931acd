//! A task's payload: the text of a JSON object, written as the original writes it.
//!
//! Two ways in. [`Payload::parse`] takes what a person or a plugin gives and writes it anew:
//! separators `", "` and `": "`, non-ASCII as `\uXXXX`, top-level keys sorted, nested order and the
//! text of numbers kept. [`Payload::from_stored`] takes what a store holds as it is and only checks
//! that it is a JSON object, so that a producer's text survives unchanged.

use std::fmt;
use std::sync::Arc;

use crate::json;
pub use crate::json::DEPTH;

/// The text of a JSON object. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Payload {
    /// What can be shown of it.
    text: Arc<str>,
    form: Form,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Form {
    Object,
    /// A text that is none.
    Other,
    /// Bytes that are no text.
    Bytes(Arc<[u8]>),
    /// What somebody has put where a task should be.
    NoTask(Arc<[u8]>),
}

/// Why a text is no payload; prints as the original does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// Not JSON at all.
    #[error("Expected a JSON object\nGot:\n{}", indented(.0))]
    NotJson(String),
    /// JSON, but no object.
    #[error("Expected a mapping\nGot:\n{}", indented(.0))]
    NotObject(String),
    /// No text at all.
    #[error("Expected a text in UTF-8\nGot:\n{}", indented(.0))]
    NotUtf8(String),
    /// In a store that keeps tasks in envelopes, something without a payload.
    #[error("Expected a task with a payload\nGot:\n{}", indented(.0))]
    NoTask(String),
    /// Deeper than [`DEPTH`].
    #[error(
        "Payload is nested too deeply\nThe limit is:\n    {DEPTH} arrays and objects in one another"
    )]
    TooDeep,
    /// Larger than the limit it was parsed under.
    #[error("Payload is too large:\n    {size} bytes\nThe limit is:\n    {limit} bytes")]
    TooLarge { size: usize, limit: usize },
}

fn why(refused: &json::Refused, text: &str) -> PayloadError {
    match refused {
        json::Refused::NotJson => PayloadError::NotJson(quoted(text)),
        json::Refused::TooDeep => PayloadError::TooDeep,
    }
}

/// How much of a refused text an error repeats.
const SHOWN: usize = 500;

impl Payload {
    /// From a person's or a program's text; nothing but blanks or `null` gives `{}`.
    ///
    /// # Errors
    /// [`PayloadError`] when `text` or what is written from it has more than `limit` bytes, is not
    /// JSON, or is no object.
    pub fn parse(text: &str, limit: usize) -> Result<Payload, PayloadError> {
        if text.len() > limit {
            return Err(PayloadError::TooLarge { size: text.len(), limit });
        }
        let written = match json::rewrite(text) {
            Ok(json::Rewritten::Object(written)) => written,
            Ok(json::Rewritten::Null) => "{}".to_owned(),
            Ok(json::Rewritten::Other) => return Err(PayloadError::NotObject(shown(text.trim()))),
            Err(refused) => return Err(why(&refused, text)),
        };
        // Escapes make a text longer; what counts is what is stored.
        if written.len() > limit {
            return Err(PayloadError::TooLarge { size: written.len(), limit });
        }
        Ok(Payload { text: written.into(), form: Form::Object })
    }

    /// From a store, unchanged; also `NaN` and `Infinity`, which Python writes. Whatever is stored can be carried on, to the dead letters at least:
    /// ask [`Payload::check`] before a worker sees it.
    pub fn from_stored(text: impl Into<Arc<str>>) -> Payload {
        let text = text.into();
        let form = match json::stored(&text) {
            Ok(json::Kind::Object) => Form::Object,
            _ => Form::Other,
        };
        Payload { text, form }
    }

    /// As [`Payload::from_stored`], from bytes that may be no text: they are kept as they are, and shown with
    /// U+FFFD for what cannot be read.
    pub fn from_stored_bytes(bytes: &[u8]) -> Payload {
        match std::str::from_utf8(bytes) {
            Ok(text) => Payload::from_stored(text),
            Err(_) => Payload { text: lossy(bytes), form: Form::Bytes(bytes.into()) },
        }
    }

    /// What is in the place of a task and is none, so that it is no payload either, whatever it looks like.
    pub(crate) fn no_task(bytes: &[u8]) -> Payload {
        Payload { text: lossy(bytes), form: Form::NoTask(bytes.into()) }
    }

    /// What was there, if it is more than its text.
    pub(crate) fn no_text(&self) -> Option<&[u8]> {
        match &self.form {
            Form::Object | Form::Other => None,
            Form::Bytes(bytes) | Form::NoTask(bytes) => Some(bytes),
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.no_text().unwrap_or(self.text.as_bytes())
    }

    /// The payload `{}`.
    pub fn empty() -> Payload {
        Payload { text: "{}".into(), form: Form::Object }
    }

    /// Whether this is a JSON object. Always so but for a stored text of somebody else's making.
    ///
    /// # Errors
    /// What a submitter of the same text would have been told.
    pub fn check(&self) -> Result<(), PayloadError> {
        // Asked of each task: it was read once.
        if self.form == Form::Object {
            return Ok(());
        }
        Err(match (&self.form, json::stored(&self.text)) {
            (Form::Bytes(_), _) => PayloadError::NotUtf8(quoted(&self.text)),
            (Form::NoTask(bytes), _) if std::str::from_utf8(bytes).is_err() => {
                PayloadError::NotUtf8(quoted(&self.text))
            }
            (_, Err(refused)) => why(&refused, &self.text),
            (Form::NoTask(_), Ok(_)) => PayloadError::NoTask(quoted(&self.text)),
            (Form::Object | Form::Other, Ok(_)) => PayloadError::NotObject(shown(self.text.trim())),
        })
    }

    /// Whether its text is all there is to it, so that another store can have it.
    pub fn is_text(&self) -> bool {
        self.no_text().is_none()
    }

    /// The text, or what can be shown of it where it is none: see [`Payload::is_text`].
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text's size in bytes.
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// Whether the object has no fields, as `{}`.
    pub fn is_empty(&self) -> bool {
        self.form == Form::Object
            && self.text.bytes().filter(|b| !b.is_ascii_whitespace()).eq("{}".bytes())
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({})", shown(&self.text))
    }
}

fn lossy(bytes: &[u8]) -> Arc<str> {
    String::from_utf8_lossy(bytes).into()
}

/// The start of a text, short enough for a message.
fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// The start of a text as Python's `repr` quotes it: one line, whatever is in it.
fn quoted(text: &str) -> String {
    let text = shown(text);
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut quoted = String::from(quote);
    for c in text.chars() {
        match c {
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\\' => quoted.push_str("\\\\"),
            c if c == quote => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push(quote);
    quoted
}

fn indented(text: &str) -> String {
    let lines = text.split('\n').map(|line| match line {
        "" => String::new(),
        line => format!("    {line}"),
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::{Payload, PayloadError};

    #[track_caller]
    fn check(given: &str, written: &str) {
        assert_eq!(Payload::parse(given, 1 << 20).unwrap().as_str(), written);
    }

    #[test]
    fn is_written_as_the_original_writes_it() {
        check(
            r#"{"b":[1,2.5,null,true,"it's é"],"a":{"z":1,"a":2}}"#,
            r#"{"a": {"z": 1, "a": 2}, "b": [1, 2.5, null, true, "it's \u00e9"]}"#,
        );
        check("null", "{}");
        check(" {\n} ", "{}");
        check(
            r#"{"a":[],"b":{},"c":[ ],"d":[[ 1 ]]}"#,
            r#"{"a": [], "b": {}, "c": [], "d": [[1]]}"#,
        );
    }

    #[test]
    fn numbers_keep_their_text() {
        for number in ["123456789012345678901234567890", "-0", "1.50", "1e400", "-1E+7", "0"] {
            check(&format!("{{\"n\":{number}}}"), &format!("{{\"n\": {number}}}"));
        }
    }

    #[test]
    fn strings_are_escaped_as_python_does() {
        check(r#"{"s":"\u0041\/\t\n\u0001\u007f"}"#, "{\"s\": \"A/\\t\\n\\u0001\u{7f}\"}");
        check(r#"{"s":"\ud83d\ude00"}"#, r#"{"s": "\ud83d\ude00"}"#);
        check("{\"s\":\"😀\"}", r#"{"s": "\ud83d\ude00"}"#);
        check(r#"{"s":"\uD83D x"}"#, r#"{"s": "\ud83d x"}"#); // half a pair: kept
        check(r#"{"s":"\b\f\r\"\\"}"#, r#"{"s": "\b\f\r\"\\"}"#);
    }

    #[test]
    fn of_equal_keys_the_last_value_stays_in_the_first_place() {
        check(r#"{"b":1,"a":1,"b":2}"#, r#"{"a": 1, "b": 2}"#);
        check(r#"{"x":{"b":1,"a":1,"\u0062":2}}"#, r#"{"x": {"b": 2, "a": 1}}"#);
    }

    #[test]
    fn refusals() {
        let text = |given: &str| Payload::parse(given, 40).unwrap_err().to_string();
        assert_eq!(text("[1]"), "Expected a mapping\nGot:\n    [1]");
        assert_eq!(text("x"), "Expected a JSON object\nGot:\n    'x'");
        assert_eq!(text("it's\n\u{1}"), "Expected a JSON object\nGot:\n    \"it's\\n\\x01\"");
        assert_eq!(text(""), "Expected a JSON object\nGot:\n    ''");
        for bad in ["{", "{}}", "{\"a\":01}", "{\"a\":.5}", "{\"a\":1.}", "{\"a\":NaN}", "{'a':1}"]
        {
            assert!(text(bad).starts_with("Expected a JSON object"), "{bad}");
        }
        for bad in ["{\"a\":1,}", "{\"a\" 1}", "{\"a\":\"\n\"}", "{\"a\":\"\\x\"}", "{\"a\":[1 2]}"]
        {
            assert!(text(bad).starts_with("Expected a JSON object"), "{bad}");
        }
        let nested = |levels| format!("{}1{}", "{\"a\": ".repeat(levels), "}".repeat(levels));
        assert_eq!(Payload::parse(&nested(1000), 1 << 20).unwrap().as_str(), nested(1000));
        assert_eq!(Payload::parse(&nested(1001), 1 << 20), Err(PayloadError::TooDeep));
        let deep = "[".repeat(100_000);
        let refused = Payload::parse(&deep, 1 << 20).unwrap_err().to_string();
        let limit = "The limit is:\n    1000 arrays and objects in one another";
        assert_eq!(refused, format!("Payload is nested too deeply\n{limit}"));
        let large = format!("{{\"a\": \"{}\"}}", "x".repeat(40));
        assert_eq!(
            text(&large),
            "Payload is too large:\n    49 bytes\nThe limit is:\n    40 bytes"
        );
        let grows = format!("{{\"a\": \"{}\"}}", "é".repeat(10));
        assert!(matches!(
            Payload::parse(&grows, 40),
            Err(PayloadError::TooLarge { size: 69, limit: 40 })
        ));
    }

    #[test]
    fn what_is_no_text_is_kept_and_none() {
        let text = b"{\"a\": \"\xff\xfe\"}";
        let payload = Payload::from_stored_bytes(text);
        assert_eq!(payload.as_str(), "{\"a\": \"\u{fffd}\u{fffd}\"}");
        assert_eq!((payload.as_bytes(), payload.is_text()), (&text[..], false));
        let said = payload.check().unwrap_err().to_string();
        assert_eq!(said, "Expected a text in UTF-8\nGot:\n    '{\"a\": \"\u{fffd}\u{fffd}\"}'");
        assert_eq!(Payload::from_stored_bytes(b"{}"), Payload::empty());
        let said = |bytes: &[u8]| Payload::no_task(bytes).check().unwrap_err().to_string();
        assert_eq!(
            said(b"{\"pay\": {}}"),
            "Expected a task with a payload\nGot:\n    '{\"pay\": {}}'"
        );
        assert_eq!(said(b"{\"paylo"), "Expected a JSON object\nGot:\n    '{\"paylo'");
        assert!(said(text).starts_with("Expected a text in UTF-8"));
    }

    #[test]
    fn stored_text_is_kept() {
        let stored = Payload::from_stored("{\"b\":1,\n \"a\": \"é\"}");
        assert_eq!(stored.as_str(), "{\"b\":1,\n \"a\": \"é\"}");
        assert_eq!(stored.check(), Ok(()));
        let list = Payload::from_stored("[1]");
        assert_eq!(list.check().unwrap_err().to_string(), "Expected a mapping\nGot:\n    [1]");
        let python = r#"{"a": [NaN, Infinity, -Infinity, -1], "b": "\ud800"}"#;
        assert_eq!(Payload::from_stored(python).check(), Ok(()));
        for bad in ["{\"a\": nan}", "{\"a\": -Inf}", "{\"a\": NaN1}"] {
            assert!(Payload::from_stored(bad).check().is_err(), "{bad}");
        }
        let deep = format!("{}1{}", "{\"a\": ".repeat(1001), "}".repeat(1001));
        assert_eq!(Payload::from_stored(deep).check(), Err(PayloadError::TooDeep));
        assert!(Payload::from_stored("null").check().is_err());
        assert!(Payload::from_stored("{\"a\"").check().is_err());
    }
}
