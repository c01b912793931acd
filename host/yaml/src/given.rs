//! What facts and parameters give: plain data whose numbers keep their digits, since PostgreSQL holds
//! more of them than 64 bits or a double do.

use std::collections::BTreeMap;

use serde::de::{self, Deserialize, Deserializer};
use serde::ser::{Error as _, Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;
use serde_json::{Number, Value};

use crate::validate::Input;
use crate::{Error, Kind, Node, Scalar, number};

/// A value as it is given.
#[derive(Debug, Clone)]
pub enum Given {
    Null,
    Boolean(bool),
    Number(Number),
    /// A number that is not quite any of those, as JSON writes it.
    Long(String),
    Text(String),
    List(Vec<Given>),
    /// Every name is there once.
    Object(Members),
}

pub type Members = Vec<(String, Given)>;

/// As deep as JSON may be elsewhere.
const MAX_DEPTH: usize = 128;

impl Given {
    /// Reads a text of JSON.
    ///
    /// # Errors
    /// It is none.
    pub fn json(text: &str) -> Result<Given, serde_json::Error> {
        raw(serde_json::from_str(text)?, 0)
    }

    /// # Errors
    /// What data cannot hold: a key that is no scalar.
    pub fn of(input: Input<'_>) -> Result<Given, Error> {
        match input {
            Input::Node(node) => of_node(node),
            Input::Value(value) => Ok(value.into()),
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Given::Null)
    }

    /// The record or the records: a text may hold one as JSON, and nothing is one without members.
    pub fn records(self) -> Vec<Members> {
        match self {
            Given::Null => vec![Vec::new()],
            Given::Object(record) => vec![record],
            Given::List(items) => items.into_iter().flat_map(Given::records).collect(),
            Given::Text(text) => Given::json(&text).map(Given::records).unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    /// As plain data that has the same shape: long numbers are texts.
    pub fn outline(&self) -> Value {
        match self {
            Given::Null => Value::Null,
            Given::Boolean(truth) => Value::Bool(*truth),
            Given::Number(number) => Value::Number(number.clone()),
            Given::Long(text) | Given::Text(text) => Value::String(text.clone()),
            Given::List(items) => items.iter().map(Given::outline).collect(),
            Given::Object(members) => {
                let outline = |(name, value): &(String, Given)| (name.clone(), value.outline());
                Value::Object(members.iter().map(outline).collect())
            }
        }
    }

    /// As Python shows it.
    pub fn repr(&self) -> String {
        match self {
            Given::Long(digits) => digits.clone(),
            Given::List(items) => {
                format!("[{}]", items.iter().map(Given::repr).collect::<Vec<_>>().join(", "))
            }
            Given::Object(members) => {
                let member = |(name, value): &(String, Given)| {
                    format!("{}: {}", crate::repr(&Value::from(name.as_str())), value.repr())
                };
                format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(", "))
            }
            other => crate::repr(&other.outline()),
        }
    }

    /// Whether a number is in it that no double comes near: whoever reads JSON into doubles cannot
    /// read that.
    pub fn is_beyond_doubles(&self) -> bool {
        match self {
            Given::Long(digits) => !digits.parse::<f64>().is_ok_and(f64::is_finite),
            Given::List(items) => items.iter().any(Given::is_beyond_doubles),
            Given::Object(members) => members.iter().any(|(_, value)| value.is_beyond_doubles()),
            _ => false,
        }
    }

    /// The text of a number.
    fn digits(&self) -> Option<String> {
        match self {
            Given::Number(number) => Some(number.to_string()),
            Given::Long(digits) => Some(digits.clone()),
            _ => None,
        }
    }
}

/// By name.
pub fn sorted(members: &[(String, Given)]) -> Vec<(&str, &Given)> {
    let mut members: Vec<(&str, &Given)> =
        members.iter().map(|(name, value)| (name.as_str(), value)).collect();
    members.sort_by_key(|(name, _)| *name);
    members
}

/// Numbers are the same that have the same value, however they are written.
impl PartialEq for Given {
    fn eq(&self, other: &Given) -> bool {
        match (self, other) {
            (Given::Null, Given::Null) => true,
            (Given::Boolean(one), Given::Boolean(other)) => one == other,
            (Given::Text(one), Given::Text(other)) => one == other,
            (Given::List(one), Given::List(other)) => one == other,
            (Given::Object(one), Given::Object(other)) => sorted(one) == sorted(other),
            (one, other) => match (one.digits(), other.digits()) {
                (Some(one), Some(other)) => number::equal(&one, &other),
                _ => false,
            },
        }
    }
}

/// As the original writes it: members sorted by name.
impl Serialize for Given {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Given::Null => serializer.serialize_unit(),
            Given::Boolean(truth) => serializer.serialize_bool(*truth),
            Given::Number(number) => number.serialize(serializer),
            Given::Long(digits) => {
                let raw = RawValue::from_string(digits.clone()).map_err(S::Error::custom)?;
                raw.serialize(serializer)
            }
            Given::Text(text) => serializer.serialize_str(text),
            Given::List(items) => serializer.collect_seq(items),
            Given::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (name, value) in sorted(members) {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

fn of_node(node: &Node) -> Result<Given, Error> {
    match &node.kind {
        Kind::Scalar(_, Scalar::Long(digits)) => Ok(Given::Long(digits.clone())),
        Kind::Scalar(..) => Ok((&node.value()?).into()),
        Kind::Seq(items) => items.iter().map(of_node).collect::<Result<_, _>>().map(Given::List),
        Kind::Map(pairs) => {
            let member = |(key, value): &(Node, Node)| Ok((key.name(node)?, of_node(value)?));
            pairs.iter().map(member).collect::<Result<_, _>>().map(Given::Object)
        }
    }
}

impl From<&Value> for Given {
    fn from(value: &Value) -> Given {
        match value {
            Value::Null => Given::Null,
            Value::Bool(truth) => Given::Boolean(*truth),
            Value::Number(number) => Given::Number(number.clone()),
            Value::String(text) => Given::Text(text.clone()),
            Value::Array(items) => Given::List(items.iter().map(Given::from).collect()),
            Value::Object(members) => {
                let member = |(name, value): (&String, &Value)| (name.clone(), value.into());
                Given::Object(members.iter().map(member).collect())
            }
        }
    }
}

/// From plain data: its numbers are what that made of them.
impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Given, D::Error> {
        Value::deserialize(deserializer).map(|value| Given::from(&value))
    }
}

/// Of a name that comes twice the last value counts.
fn raw(raw_value: &RawValue, depth: usize) -> Result<Given, serde_json::Error> {
    let text = raw_value.get();
    match text.bytes().next() {
        Some(b'[' | b'{') if depth == MAX_DEPTH => {
            Err(de::Error::custom("recursion limit exceeded"))
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text)?;
            let items = items.into_iter().map(|item| raw(item, depth + 1));
            items.collect::<Result<_, _>>().map(Given::List)
        }
        Some(b'{') => {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
            let members =
                members.into_iter().map(|(name, value)| Ok((name, raw(value, depth + 1)?)));
            members.collect::<Result<_, _>>().map(Given::Object)
        }
        Some(b'-' | b'0'..=b'9') => Ok(match number::exact(text) {
            Some(number) => Given::Number(number),
            None => Given::Long(text.to_owned()),
        }),
        _ => serde_json::from_str(text).map(|value: Value| (&value).into()),
    }
}

#[cfg(test)]
mod tests;
