//! Documents of assessments as they were written: most of what is in them is looked at once and
//! copied on, so names and texts stay where they are.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;

use rex_yaml::Error;
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// A value of a document.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json<'a> {
    Null,
    Boolean(bool),
    Integer(i64),
    /// The digits of a number that is beyond that, or beyond what a float can be.
    Long(Cow<'a, str>),
    /// Python's JSON has infinite ones, and NaN.
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
        let read = match has_long(text) {
            true => serde_json::from_str(text).and_then(|raw| exact(raw, 0)),
            false => serde_json::from_str(text),
        };
        read.or_else(|error| limitless(text).ok_or_else(|| Error::new(error.to_string())))
    }

    /// Whether there is a number in it that JSON has not.
    pub(super) fn is_limitless(&self) -> bool {
        match self {
            Json::Float(number) => !number.is_finite(),
            Json::List(items) => items.iter().any(Json::is_limitless),
            Json::Object(members) => members.iter().any(|(_, value)| value.is_limitless()),
            _ => false,
        }
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

    /// Without borrowing what it is to outlive.
    pub(super) fn into_owned(self) -> Json<'static> {
        let own = |text: Cow<'a, str>| Cow::Owned(text.into_owned());
        match self {
            Json::Null => Json::Null,
            Json::Boolean(truth) => Json::Boolean(truth),
            Json::Integer(number) => Json::Integer(number),
            Json::Long(digits) => Json::Long(own(digits)),
            Json::Float(number) => Json::Float(number),
            Json::Text(text) => Json::Text(own(text)),
            Json::List(items) => Json::List(items.into_iter().map(Json::into_owned).collect()),
            Json::Object(members) => {
                let own = |(name, value): (_, Json<'a>)| (own(name), value.into_owned());
                Json::Object(members.into_iter().map(own).collect())
            }
        }
    }
}

/// Members by name: of those of one name the last, where the first one is.
fn once<'m, 'a>(members: &'m [(Cow<'a, str>, Json<'a>)]) -> Vec<(&'m str, &'m Json<'a>)> {
    let mut places = HashMap::new();
    let mut found: Vec<(&str, &Json<'a>)> = Vec::with_capacity(members.len());
    for (name, value) in members {
        match places.get(&**name).and_then(|place: &usize| found.get_mut(*place)) {
            Some(known) => known.1 = value,
            None => {
                places.insert(&**name, found.len());
                found.push((name, value));
            }
        }
    }
    found
}

/// As the text of a document, as Python writes it.
impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Json::Null => f.write_str("null"),
            Json::Boolean(truth) => write!(f, "{truth}"),
            Json::Integer(number) => write!(f, "{number}"),
            Json::Long(digits) => f.write_str(digits),
            Json::Float(number) if number.is_nan() => f.write_str("NaN"),
            Json::Float(number) if number.is_infinite() => {
                f.write_str(if *number > 0.0 { "Infinity" } else { "-Infinity" })
            }
            Json::Float(number) => write!(f, "{}", Value::from(*number)),
            Json::Text(text) => write!(f, "{}", Value::from(&**text)),
            Json::List(items) => {
                f.write_str("[")?;
                for (n, item) in items.iter().enumerate() {
                    let comma = if n > 0 { "," } else { "" };
                    write!(f, "{comma}{item}")?;
                }
                f.write_str("]")
            }
            Json::Object(members) => {
                f.write_str("{")?;
                for (n, (name, value)) in once(members).into_iter().enumerate() {
                    let comma = if n > 0 { "," } else { "" };
                    write!(f, "{comma}{}:{value}", Value::from(name))?;
                }
                f.write_str("}")
            }
        }
    }
}

/// So many digits may be an integer beyond 64 bits.
const LONG: usize = 19;

/// Whether there are so many digits in a row.
fn has_long(text: &str) -> bool {
    let bytes = text.as_bytes();
    // A row of them has one of these places in it.
    (LONG - 1..bytes.len()).step_by(LONG).any(|at| {
        let (before, after) = bytes.split_at(at);
        let is_digit = |byte: &&u8| byte.is_ascii_digit();
        let after = after.iter().take_while(is_digit).count();
        after > 0 && after + before.iter().rev().take_while(is_digit).count() >= LONG
    })
}

/// As deep as a document may be elsewhere.
const MAX_DEPTH: usize = 128;

/// Reads a document whose numbers have to be looked at as texts, which costs more.
fn exact(raw: &RawValue, depth: usize) -> Result<Json<'_>, serde_json::Error> {
    let text = raw.get();
    let is_number = |b: u8| b == b'-' || b.is_ascii_digit();
    match text.bytes().next() {
        Some(b'[' | b'{') if depth == MAX_DEPTH => {
            Err(de::Error::custom("recursion limit exceeded"))
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text)?;
            let items = items.into_iter().map(|item| exact(item, depth + 1));
            items.collect::<Result<_, _>>().map(Json::List)
        }
        Some(b'{') => {
            let Members(members) = serde_json::from_str(text)?;
            let members =
                members.into_iter().map(|(Name(name), value)| Ok((name, exact(value, depth + 1)?)));
            members.collect::<Result<_, _>>().map(Json::Object)
        }
        Some(first) if is_number(first) => {
            let is_whole = text.bytes().all(is_number);
            match text.parse::<i64>() {
                Err(_) if is_whole => Ok(Json::Long(Cow::Borrowed(text))),
                _ => serde_json::from_str(text).or_else(|error| match text.parse::<f64>() {
                    Ok(_) => Ok(Json::Long(Cow::Borrowed(text))),
                    Err(_) => Err(error),
                }),
            }
        }
        _ => serde_json::from_str(text),
    }
}

/// What Python writes for numbers that JSON has not.
const LIMITLESS: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

/// Begins the texts that stand for these meanwhile; nothing that is written has this character.
const MARK: char = '\u{10FFFF}';

/// Reads a document as Python does, which JSON proper is not; `None` where it is no such one either.
fn limitless(text: &str) -> Option<Json<'static>> {
    if text.contains(MARK) {
        return None;
    }
    let marked = marked(text);
    let raw: &RawValue = serde_json::from_str(&marked).ok()?;
    exact(raw, 0).ok()?.into_owned().unmarked()
}

/// A document with texts in place of what JSON has not.
fn marked(text: &str) -> String {
    let mut marked = String::with_capacity(text.len() + 16);
    let mut rest = text;
    let mut is_text = false;
    while let Some(c) = rest.chars().next() {
        let word = LIMITLESS.iter().find(|word| !is_text && rest.starts_with(**word));
        let (taken, after) = match word {
            Some(word) => rest.split_at(word.len()),
            // What follows a backslash ends no text.
            None if is_text && c == '\\' => {
                rest.split_at(1 + rest.chars().nth(1).map_or(0, char::len_utf8))
            }
            None => rest.split_at(c.len_utf8()),
        };
        match word {
            Some(word) => marked.extend(["\"", MARK.encode_utf8(&mut [0; 4]), word, "\""]),
            None => marked.push_str(taken),
        }
        is_text ^= c == '"';
        rest = after;
    }
    marked
}

impl Json<'static> {
    /// With the numbers that texts stand for; `None` where one is a name.
    fn unmarked(self) -> Option<Json<'static>> {
        Some(match self {
            Json::Text(text) => match text.strip_prefix(MARK) {
                Some(word) => Json::Float(word.parse().ok()?),
                None => Json::Text(text),
            },
            Json::List(items) => {
                Json::List(items.into_iter().map(Json::unmarked).collect::<Option<_>>()?)
            }
            Json::Object(members) => {
                let unmarked = |(name, value): (Cow<'static, str>, Json<'static>)| {
                    Some((name, value.unmarked()?)).filter(|(name, _)| !name.starts_with(MARK))
                };
                Json::Object(members.into_iter().map(unmarked).collect::<Option<_>>()?)
            }
            other => other,
        })
    }
}

/// What is in an object, as it is written.
struct Members<'a>(Vec<(Name<'a>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members<'a>, D::Error> {
        deserializer.deserialize_map(MembersReader).map(Members)
    }
}

struct MembersReader;

impl<'de> Visitor<'de> for MembersReader {
    type Value = Vec<(Name<'de>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(member) = members.next_entry()? {
            all.push(member);
        }
        Ok(all)
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
        let long = || Json::Long(number.to_string().into());
        Ok(i64::try_from(number).map_or_else(|_| long(), Json::Integer))
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
