//! Documents of assessments as they were written: most of what is in them is looked at once and
//! copied on, so names and texts stay where they are.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use rex_yaml::Error;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// A value of a document.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json<'a> {
    Null,
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(Cow<'a, str>),
    List(Vec<Json<'a>>),
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

const NOTHING: &Json<'static> = &Json::Null;

impl<'a> Json<'a> {
    /// # Errors
    /// The text is no JSON.
    pub(super) fn read(text: &'a str) -> Result<Json<'a>, Error> {
        serde_json::from_str(text).map_err(|error| Error::new(error.to_string()))
    }

    /// What is under a name; null where nothing is.
    pub(super) fn at(&self, name: &str) -> &Json<'a> {
        self.find(name, &Cell::new(0)).unwrap_or(NOTHING)
    }

    /// What is under a name. Names are mostly asked for in the order in which they were written:
    /// `next` is where the next one is likely to be.
    pub(super) fn find(&self, name: &str, next: &Cell<usize>) -> Option<&Json<'a>> {
        let Json::Object(members) = self else { return None };
        let (before, after) = members.split_at(next.get().min(members.len()));
        let is_named = |(own, _): &(Cow<'_, str>, Json<'_>)| own == name;
        let at = match after.iter().position(is_named) {
            Some(at) => before.len() + at,
            None => before.iter().position(is_named)?,
        };
        next.set(at + 1);
        members.get(at).map(|(_, value)| value)
    }

    pub(super) fn items(&self) -> &[Json<'a>] {
        match self {
            Json::List(items) => items,
            _ => &[],
        }
    }

    /// Whether it is an object that has something in it.
    pub(super) fn holds_something(&self) -> bool {
        matches!(self, Json::Object(members) if !members.is_empty())
    }

    pub(super) fn to_value(&self) -> Value {
        match self {
            Json::Null => Value::Null,
            Json::Boolean(truth) => Value::Bool(*truth),
            Json::Integer(number) => Value::from(*number),
            Json::Float(number) => Value::from(*number),
            Json::Text(text) => Value::String(text.to_string()),
            Json::List(items) => items.iter().map(Json::to_value).collect(),
            Json::Object(members) => {
                let members =
                    members.iter().map(|(name, value)| (name.to_string(), value.to_value()));
                Value::Object(members.collect::<Map<_, _>>())
            }
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Json<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json<'a>, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

/// The name of a member.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name<'a>, D::Error> {
        match deserializer.deserialize_str(Reader)? {
            Json::Text(name) => Ok(Name(name)),
            _ => Ok(Name(Cow::Borrowed(""))),
        }
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Json<'de>, E> {
        Ok(Json::Boolean(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json<'de>, E> {
        Ok(Json::Integer(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json<'de>, E> {
        #[expect(clippy::cast_precision_loss, reason = "beyond what a column of integers can hold")]
        Ok(i64::try_from(number).map_or(Json::Float(number as f64), Json::Integer))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json<'de>, E> {
        Ok(Json::Float(number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json<'de>, A::Error> {
        let mut object = Vec::new();
        while let Some((Name(name), value)) = members.next_entry()? {
            object.push((name, value));
        }
        Ok(Json::Object(object))
    }
}

#[cfg(test)]
mod tests;
