//! Values and profiles as JSON: what programs read from `--batch`.
//!
//! Rows are arrays, a record an array in column order. Text, integers, booleans and NULL stand for
//! themselves; what JSON has no type for is an object of one member that names the type.

use std::io::{self, Write};

use rex_htsql::Value;
use rex_htsql::domain::Domain;
use rex_htsql::json::compact;
use rex_htsql::literal::{identity_text, plain_text};
use rex_htsql::profile::Profile;
use serde_json::{Map, Value as Json, json};

use crate::item::{Item, More, Parts};

/// A value of a domain.
pub fn value_json(domain: &Domain, value: &Value) -> Json {
    let mut text = Vec::new();
    let written = write_item(&mut text, domain, Item::Whole(value.clone()), &mut More::none());
    let written = written.map_err(serde_json::Error::io);
    written.and_then(|()| serde_json::from_slice(&text)).unwrap_or(Json::Null)
}

/// Writes an item of a domain, without building it first.
pub(crate) fn write_item(
    out: &mut dyn Write,
    domain: &Domain,
    item: Item,
    more: &mut More<'_>,
) -> io::Result<()> {
    match item.parts() {
        _ if *domain == Domain::Void => out.write_all(b"null"),
        Parts::Scalar(value) => write_scalar(out, domain, &value),
        Parts::Record(fields) => {
            let domains = match domain {
                Domain::Record(fields) => &**fields,
                _ => &[],
            };
            out.write_all(b"[")?;
            for (at, field) in fields.enumerate() {
                if at > 0 {
                    out.write_all(b",")?;
                }
                let domain = domains.get(at).map_or(&Domain::Untyped, |field| &field.domain);
                write_item(out, domain, field, more)?;
            }
            out.write_all(b"]")
        }
        Parts::List(mut items) => {
            let domain = match domain {
                Domain::List(item) => item,
                _ => &Domain::Untyped,
            };
            let mut separator: &[u8] = b"[";
            while let Some(item) = items.next(more)? {
                out.write_all(separator)?;
                separator = b",";
                write_item(out, domain, item, more)?;
            }
            out.write_all(if separator == b"[" { b"[]" } else { b"]" })
        }
    }
}

fn write_scalar(out: &mut dyn Write, domain: &Domain, value: &Value) -> io::Result<()> {
    let text = || plain_text(domain, value);
    match (domain, value) {
        (_, Value::Null) => out.write_all(b"null"),
        (_, Value::Boolean(b)) => write!(out, "{b}"),
        (_, Value::Integer(i)) => write!(out, "{i}"),
        (_, Value::Decimal(_)) => tagged(out, "decimal", text()),
        (_, Value::Float(x)) if x.is_finite() => Ok(serde_json::to_writer(out, x)?),
        (_, Value::Float(x)) if x.is_nan() => tagged(out, "float", Some("nan".into())),
        (_, Value::Float(x)) => {
            tagged(out, "float", Some(if *x > 0.0 { "inf" } else { "-inf" }.into()))
        }
        (Domain::Date, Value::Text(_)) | (_, Value::Date(_)) => tagged(out, "date", text()),
        (Domain::Time, Value::Text(_)) | (_, Value::Time(_)) => tagged(out, "time", text()),
        (Domain::DateTime, Value::Text(_)) | (_, Value::DateTime(_)) => {
            tagged(out, "datetime", text())
        }
        (Domain::Opaque(_), Value::Text(_)) => tagged(out, "opaque", text()),
        (_, Value::Text(text)) => Ok(serde_json::to_writer(out, text)?),
        (_, Value::Json(document)) => {
            out.write_all(b"{\"json\":")?;
            out.write_all(compact(document).as_bytes())?;
            out.write_all(b"}")
        }
        (Domain::Identity(domains), Value::Identity(labels)) => {
            tagged(out, "id", identity_text(domains, labels))
        }
        (_, Value::Identity(_)) => out.write_all(b"null"),
        // A record or a list is no scalar.
        (_, Value::Record(_) | Value::List(_)) => out.write_all(b"null"),
    }
}

fn tagged(out: &mut dyn Write, name: &str, text: Option<String>) -> io::Result<()> {
    write!(out, "{{\"{name}\":")?;
    serde_json::to_writer(&mut *out, &text)?;
    out.write_all(b"}")
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
