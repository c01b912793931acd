//! A task's payload: a JSON object.

use std::fmt;
use std::ops::Deref;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::pyrepr;

/// A JSON object; derefs to its map. Prints as the original prints a payload: `{'foo': 1}`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Payload(Map<String, Value>);

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
    /// When `text` is no JSON object.
    pub fn from_json(text: &str) -> Result<Payload, PayloadError> {
        let value: Value = serde_json::from_str(text).map_err(|e| PayloadError(e.to_string()))?;
        value.try_into()
    }

    pub fn to_json(&self) -> String {
        // A map of JSON values always has a text.
        serde_json::to_string(&self.0).unwrap_or_default()
    }

    /// The whole payload as a type of the author's.
    ///
    /// # Errors
    /// When a field is missing or of another type; the text names it.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_value(Value::Object(self.0.clone()))?)
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
        self.0.get(field).and_then(Value::as_bool).unwrap_or(false)
    }

    #[track_caller]
    fn typed<'a, T>(
        &'a self,
        field: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<T> {
        match self.0.get(field) {
            None => Err(Error::of("BadPayload", format!("field `{field}` is missing"))),
            Some(value) => read(value).ok_or_else(|| {
                let got = pyrepr::repr(value);
                Error::of("BadPayload", format!("field `{field}` must be {expected}, got {got}"))
            }),
        }
    }
}

impl Deref for Payload {
    type Target = Map<String, Value>;

    fn deref(&self) -> &Map<String, Value> {
        &self.0
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&pyrepr::repr_map(&self.0))
    }
}

impl From<Map<String, Value>> for Payload {
    fn from(map: Map<String, Value>) -> Payload {
        Payload(map)
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
            Value::Object(map) => Ok(Payload(map)),
            other => {
                Err(PayloadError(format!("expected a JSON object, got {}", pyrepr::repr(&other))))
            }
        }
    }
}
