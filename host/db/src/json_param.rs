//! JSON values as parameters of a query.

use rex_htsql::domain::Domain;
use rex_htsql::literal;
use rex_htsql::{Param, Value};
use serde_json::{Map, Value as Json};

/// A plain JSON value as a parameter: a string is untyped and adapts to its use, an array is a
/// list, an object a JSON document.
///
/// # Errors
/// The items of an array are of several domains.
pub fn from_json(json: Json) -> Result<Param, String> {
    Ok(match json {
        Json::Null => Param::null(),
        Json::Bool(b) => Param { domain: Domain::Boolean, value: Value::Boolean(b) },
        Json::Number(number) => match number.as_i64() {
            Some(i) => Param { domain: Domain::Integer, value: Value::Integer(i) },
            None => {
                let x = number.as_f64().unwrap_or(f64::NAN);
                Param { domain: Domain::Float, value: Value::Float(x) }
            }
        },
        Json::String(text) => Param::text(text),
        Json::Array(items) => {
            list(items.into_iter().map(from_json).collect::<Result<Vec<_>, _>>()?)?
        }
        document => Param { domain: Domain::Json, value: Value::Json(document) },
    })
}

/// A parameter of the batch protocol: as [`from_json`], with `{"$decimal"|"$date"|"$time"|
/// "$datetime": text}` for what JSON has no type for.
///
/// # Errors
/// What is wrong with the text of a typed parameter, or with a mixed list.
pub fn from_typed_json(json: Json) -> Result<Param, String> {
    match json {
        Json::Object(members) => typed(members),
        Json::Array(items) => {
            let items = items.into_iter().map(from_typed_json).collect::<Result<Vec<_>, _>>()?;
            list(items)
        }
        plain => from_json(plain),
    }
}

fn typed(members: Map<String, Json>) -> Result<Param, String> {
    let single = if members.len() == 1 { members.iter().next() } else { None };
    let Some((Some(kind), content)) = single.map(|(name, v)| (name.strip_prefix('$'), v)) else {
        return Ok(Param { domain: Domain::Json, value: Value::Json(Json::Object(members)) });
    };
    let domain = match kind {
        "decimal" => Domain::Decimal,
        "float" => Domain::Float,
        "date" => Domain::Date,
        "time" => Domain::Time,
        "datetime" => Domain::DateTime,
        "integer" => Domain::Integer,
        "boolean" => Domain::Boolean,
        "text" => Domain::Text,
        "json" => return Ok(Param { domain: Domain::Json, value: Value::Json(content.clone()) }),
        other => return Err(format!("`${other}` is not a type of parameters")),
    };
    let text = match content {
        Json::String(text) => text.clone(),
        Json::Null => return Ok(Param { domain, value: Value::Null }),
        other => other.to_string(),
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
