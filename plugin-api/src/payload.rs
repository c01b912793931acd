//! A task's payload: a JSON object.

use std::cell::Cell;
use std::fmt;
use std::ops::Deref;

use serde::de::DeserializeOwned;
use serde::de::value::MapDeserializer;
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
    /// When a field is missing or of another type. The text names it; of one that lies in others
    /// the outermost, and none where serde reads the fields into something else first (`flatten`,
    /// `untagged`).
    #[track_caller]
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        match serde_json::from_value(Value::Object(self.map.clone())) {
            Ok(value) => Ok(value),
            // No closure: the error's place is that of the caller.
            Err(error) => {
                let text = error.to_string();
                Err(Error::of(
                    "BadPayload",
                    match self.culprit::<T>(&text) {
                        Some(field) => format!("field `{field}`: {text}"),
                        None => text,
                    },
                ))
            }
        }
    }

    /// The field that was being read when reading a `T` failed with this text.
    fn culprit<T: DeserializeOwned>(&self, text: &str) -> Option<&str> {
        let (mut fields, read) = (self.map.iter(), Cell::new(None));
        let fields = std::iter::from_fn(|| {
            let next = fields.next();
            read.set(next.map(|(name, _)| name.as_str()));
            next.map(|(name, value)| (name.as_str(), value))
        });
        // It reads all kinds of types as maps: one for which that is wrong fails with another text.
        let again = T::deserialize(MapDeserializer::<_, serde_json::Error>::new(fields));
        let same = again.is_err_and(|error| error.to_string() == text);
        read.get().filter(|field| same && !text.contains(&format!("field `{field}`")))
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
mod tests;
