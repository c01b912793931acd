//! A task's payload: a JSON object.

use std::fmt;
use std::ops::Deref;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
pub use crate::json::DEPTH;
use crate::{json, pyrepr};

/// A JSON object; derefs to its map. Prints as the original prints a payload: `{'foo': 1}`.
///
/// Python writes what the map cannot hold. Of an integer beyond 64 bits it has the nearest `f64`, of
/// `NaN`, `Infinity` and numbers beyond an `f64` null, of half a surrogate pair U+FFFD; the payload
/// prints and is handed on as it was written.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Payload {
    map: Map<String, Value>,
    /// The text as it was read, where the map does not say all of it.
    text: Option<Box<str>>,
}

/// The value is no JSON object.
#[derive(Debug)]
pub struct PayloadError(String);

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PayloadError {}

impl Payload {
    /// # Errors
    /// When `text` is no JSON object, or nested deeper than [`DEPTH`].
    pub fn from_json(text: &str) -> Result<Payload, PayloadError> {
        let read = json::read(text).map_err(PayloadError)?;
        let payload = Payload::try_from(read.value)?;
        Ok(Payload { text: (!read.exact).then(|| text.into()), ..payload })
    }

    pub fn to_json(&self) -> String {
        match &self.text {
            Some(text) => text.to_string(),
            // A map of JSON values always has a text.
            None => serde_json::to_string(&self.map).unwrap_or_default(),
        }
    }

    /// The whole payload as a type of the author's.
    ///
    /// # Errors
    /// When a field is missing or of another type; the text names it.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_value(Value::Object(self.map.clone()))?)
    }

    /// A field that must be a string.
    ///
    /// # Errors
    /// When it is missing or something else.
    #[track_caller]
    pub fn text(&self, field: &str) -> Result<&str> {
        self.typed(field, "a string", Value::as_str)
    }

    /// A field that must be an integer.
    ///
    /// # Errors
    /// When it is missing or something else.
    #[track_caller]
    pub fn integer(&self, field: &str) -> Result<i64> {
        self.typed(field, "an integer", Value::as_i64)
    }

    /// Whether a field is there and true.
    pub fn flag(&self, field: &str) -> bool {
        self.map.get(field).and_then(Value::as_bool).unwrap_or(false)
    }

    #[track_caller]
    fn typed<'a, T>(
        &'a self,
        field: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<T> {
        match self.map.get(field) {
            None => Err(Error::of("BadPayload", format!("field `{field}` is missing"))),
            Some(value) => match read(value) {
                Some(read) => Ok(read),
                // No closure: the error's place is that of the caller.
                None => {
                    let got = pyrepr::repr(value);
                    let text = format!("field `{field}` must be {expected}, got {got}");
                    Err(Error::of("BadPayload", text))
                }
            },
        }
    }
}

impl Deref for Payload {
    type Target = Map<String, Value>;

    fn deref(&self) -> &Map<String, Value> {
        &self.map
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&match &self.text {
            Some(text) => pyrepr::repr_json(text),
            None => pyrepr::repr_map(&self.map),
        })
    }
}

impl From<Map<String, Value>> for Payload {
    fn from(map: Map<String, Value>) -> Payload {
        Payload { map, text: None }
    }
}

impl From<&Payload> for Payload {
    fn from(payload: &Payload) -> Payload {
        payload.clone()
    }
}

impl TryFrom<Value> for Payload {
    type Error = PayloadError;

    fn try_from(value: Value) -> Result<Payload, PayloadError> {
        match value {
            Value::Object(map) => Ok(map.into()),
            other => {
                Err(PayloadError(format!("expected a JSON object, got {}", pyrepr::repr(&other))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Payload;

    #[test]
    fn no_digit_is_lost() {
        let text = r#"{"i": 12345678901234567890123, "z": -0, "s": "-0 12345678901234567890123"}"#;
        let payload = Payload::from_json(text).unwrap();
        let shown = "{'i': 12345678901234567890123, 'z': 0, 's': '-0 12345678901234567890123'}";
        assert_eq!(payload.to_string(), shown);
        assert_eq!(payload.to_json(), text);
    }

    #[test]
    fn errors_are_where_the_field_was_asked_for() {
        let payload = Payload::from_json(r#"{"name": 3}"#).unwrap();
        for field in ["name", "none"] {
            let line = line!() + 1;
            let error = payload.text(field).unwrap_err();
            let place = format!("({}:{line}:", file!());
            assert!(format!("{error:?}").contains(&place), "{error:?}");
        }
    }
}
