//! JSON values as parameters of a query.
//!
//! They are read piece by piece from their text, so that a number keeps all its digits.

use std::collections::BTreeMap;

use rex_htsql::domain::Domain;
use rex_htsql::literal;
use rex_htsql::{Param, Value};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

/// The members of a JSON object by name, their values as text.
pub(crate) type Members = BTreeMap<String, Box<RawValue>>;

/// A plain JSON value as a parameter: a string is untyped and adapts to its use, an array is a
/// list, an object a JSON document, a number an integer, a float where it has a point or an
/// exponent, and a decimal where it is longer than the integers of the database.
///
/// # Errors
/// The text is no JSON value, or the items of an array are of several domains.
pub fn from_json(text: &str) -> Result<Param, String> {
    param(text, false)
}

/// A parameter of the batch protocol: as [`from_json`], with `{"$decimal"|"$date"|"$time"|
/// "$datetime": text}` for what JSON has no type for.
///
/// # Errors
/// As [`from_json`], or what is wrong with the text of a typed parameter.
pub fn from_typed_json(text: &str) -> Result<Param, String> {
    param(text, true)
}

/// Reads a piece of JSON.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn param(text: &str, typed: bool) -> Result<Param, String> {
    let text = text.trim_ascii();
    Ok(match text.bytes().next() {
        Some(b'n') => read::<()>(text).map(|()| Param::null())?,
        Some(b't' | b'f') => Param { domain: Domain::Boolean, value: Value::Boolean(read(text)?) },
        Some(b'"') => Param::text(read::<String>(text)?),
        Some(b'[') => {
            let items: Vec<Box<RawValue>> = read(text)?;
            list(items.iter().map(|item| param(item.get(), typed)).collect::<Result<_, _>>()?)?
        }
        Some(b'{') => {
            let members: Members = read(text)?;
            match members.iter().next() {
                Some((name, content)) if typed && members.len() == 1 && name.starts_with('$') => {
                    named(name, content.get())?
                }
                _ => document(text),
            }
        }
        _ => number(read::<Box<RawValue>>(text)?.get())?,
    })
}

fn document(text: &str) -> Param {
    Param { domain: Domain::Json, value: Value::Json(text.to_string()) }
}

fn number(text: &str) -> Result<Param, String> {
    let domain = if text.contains(['.', 'e', 'E']) {
        Domain::Float
    } else if text.parse::<i64>().is_ok() {
        Domain::Integer
    } else {
        Domain::Decimal
    };
    let value = literal::parse(&domain, text)?;
    Ok(Param { domain, value })
}

/// `{"$date": "2010-04-15"}` and the like.
fn named(kind: &str, content: &str) -> Result<Param, String> {
    let domain = match kind {
        "$decimal" => Domain::Decimal,
        "$float" => Domain::Float,
        "$date" => Domain::Date,
        "$time" => Domain::Time,
        "$datetime" => Domain::DateTime,
        "$integer" => Domain::Integer,
        "$boolean" => Domain::Boolean,
        "$text" => Domain::Text,
        "$json" => return Ok(document(content)),
        other => return Err(format!("`{other}` is not a type of parameters")),
    };
    let text = match content.bytes().next() {
        Some(b'n') => return Ok(Param { domain, value: Value::Null }),
        Some(b'"') => read(content)?,
        _ => content.to_string(),
    };
    let value = literal::parse(&domain, &text)?;
    Ok(Param { domain, value })
}

/// One item domain for all; untyped items adapt.
fn list(items: Vec<Param>) -> Result<Param, String> {
    let mut domain = Domain::Untyped;
    for item in &items {
        if domain == Domain::Untyped {
            domain = item.domain.clone();
        } else if item.domain != Domain::Untyped && item.domain != domain {
            return Err(format!("multiple entry domains: {domain}, {}", item.domain));
        }
    }
    let values = items
        .into_iter()
        .map(|item| match (&item.domain, item.value) {
            (Domain::Untyped, Value::Text(text)) if domain != Domain::Untyped => {
                literal::parse(&domain, &text)
            }
            (_, value) => Ok(value),
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Param { domain: Domain::List(Box::new(domain)), value: Value::List(values) })
}

#[cfg(test)]
mod tests;
