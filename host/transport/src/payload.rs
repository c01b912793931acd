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

    /// From a store, unchanged; also `NaN` and `Infinity`, which Python writes. Whatever is stored
    /// can be carried on, to the dead letters at least: ask [`Payload::check`] before a worker sees
    /// it.
    pub fn from_stored(text: impl Into<Arc<str>>) -> Payload {
        let text = text.into();
        let form = match json::stored(&text) {
            Ok(json::Kind::Object) => Form::Object,
            _ => Form::Other,
        };
        Payload { text, form }
    }

    /// As [`Payload::from_stored`], from bytes that may be no text: they are kept as they are, and
    /// shown with U+FFFD for what cannot be read.
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
mod tests;
