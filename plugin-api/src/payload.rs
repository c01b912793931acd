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
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Debug;

    use serde::Deserialize;
    use serde::de::DeserializeOwned;

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
        let line = line!() + 1;
        let error = payload.parse::<BTreeMap<String, bool>>().unwrap_err();
        assert!(format!("{error:?}").contains(&format!("({}:{line}:", file!())), "{error:?}");
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read")]
    struct Order {
        name: String,
        count: Option<u8>,
        #[serde(default)]
        inner: Inner,
    }

    #[derive(Debug, Default, Deserialize)]
    #[expect(dead_code, reason = "only read")]
    struct Inner {
        age: i64,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only read")]
    struct Wrapped(BTreeMap<String, i64>);

    #[track_caller]
    fn refused<T: DeserializeOwned + Debug>(text: &str, reason: &str) {
        let payload = Payload::from_json(text).unwrap();
        let error = payload.parse::<T>().unwrap_err();
        assert_eq!(error.to_string(), reason);
    }

    #[test]
    fn what_cannot_be_parsed_is_named() {
        refused::<BTreeMap<String, i64>>(
            r#"{"a": 1, "how": "parse", "z": 2}"#,
            "field `how`: invalid type: string \"parse\", expected i64",
        );
        let order = refused::<Order>;
        order(
            r#"{"name": "x", "count": 256, "inner": {"age": 1}}"#,
            "field `count`: invalid value: integer `256`, expected u8",
        );
        order(
            r#"{"name": "x", "inner": {"age": "1"}}"#,
            "field `inner`: invalid type: string \"1\", expected i64",
        );
        order(r#"{"name": "x", "inner": {}}"#, "field `inner`: missing field `age`");
        order(r#"{"count": 1}"#, "missing field `name`");
        order(
            r#"{"name": "x", "more": 1}"#,
            "unknown field `more`, expected one of `name`, `count`, `inner`",
        );
        // Read in another way, about which nothing can be said.
        refused::<Wrapped>(r#"{"a": "x"}"#, "invalid type: string \"x\", expected i64");
        refused::<Vec<i64>>(r#"{"a": 1}"#, "invalid type: map, expected a sequence");
    }
}
