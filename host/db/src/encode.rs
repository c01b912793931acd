//! Values and profiles as JSON: what programs read from `--batch`.
//!
//! Rows are arrays, a record an array in column order. Text, integers, booleans and NULL stand for
//! themselves; what JSON has no type for is an object of one member that names the type.

use rex_htsql::Value;
use rex_htsql::domain::Domain;
use rex_htsql::literal::{identity_text, plain_text};
use rex_htsql::profile::Profile;
use serde_json::{Map, Number, Value as Json, json};

/// A value of a domain.
pub fn value_json(domain: &Domain, value: &Value) -> Json {
    let text = || plain_text(domain, value).map_or(Json::Null, Json::String);
    match (domain, value) {
        (_, Value::Null) | (Domain::Void, _) => Json::Null,
        (_, Value::Boolean(b)) => Json::Bool(*b),
        (_, Value::Integer(i)) => Json::from(*i),
        (_, Value::Decimal(_)) => json!({ "decimal": text() }),
        (_, Value::Float(x)) => match Number::from_f64(*x) {
            Some(number) => Json::Number(number),
            None if x.is_nan() => json!({ "float": "nan" }),
            None if *x > 0.0 => json!({ "float": "inf" }),
            None => json!({ "float": "-inf" }),
        },
        (Domain::Date, Value::Text(_)) | (_, Value::Date(_)) => json!({ "date": text() }),
        (Domain::Time, Value::Text(_)) | (_, Value::Time(_)) => json!({ "time": text() }),
        (Domain::DateTime, Value::Text(_)) | (_, Value::DateTime(_)) => {
            json!({ "datetime": text() })
        }
        (Domain::Opaque(_), Value::Text(opaque)) => json!({ "opaque": opaque }),
        (_, Value::Text(text)) => Json::String(text.clone()),
        (_, Value::Json(document)) => json!({ "json": document }),
        (Domain::Identity(domains), Value::Identity(labels)) => {
            json!({ "id": identity_text(domains, labels) })
        }
        (_, Value::Identity(_)) => Json::Null,
        (Domain::Record(fields), Value::Record(values)) => {
            let encode = |(field, value): (&Profile, &Value)| value_json(&field.domain, value);
            Json::Array(fields.iter().zip(values).map(encode).collect())
        }
        (Domain::List(item), Value::List(values)) => {
            Json::Array(values.iter().map(|value| value_json(item, value)).collect())
        }
        (_, Value::Record(values) | Value::List(values)) => {
            Json::Array(values.iter().map(|value| value_json(&Domain::Untyped, value)).collect())
        }
    }
}

/// A profile: tag, header and domain.
pub fn profile_json(profile: &Profile) -> Json {
    json!({
        "domain": domain_json(&profile.domain),
        "header": profile.header,
        "tag": profile.tag,
    })
}

fn domain_json(domain: &Domain) -> Json {
    let object = |name: &str, value: Json| {
        let mut members = Map::new();
        members.insert(name.to_string(), value);
        Json::Object(members)
    };
    match domain {
        Domain::List(item) => object("list", domain_json(item)),
        Domain::Record(fields) => object("record", fields.iter().map(profile_json).collect()),
        Domain::Identity(labels) => object("identity", labels.iter().map(domain_json).collect()),
        scalar => json!({ "str": scalar.to_string(), "type": scalar.family() }),
    }
}
