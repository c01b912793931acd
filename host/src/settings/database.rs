//! The `db` setting as a URI: it may be one already, a record of its parts, or a configuration of
//! which `htsql.db` is either.

use serde_json::{Map, Value};

use rex_yaml::Error;
use rex_yaml::validate::{Field, Val};

/// The URI; `None` when no database is configured.
pub(super) fn uri(db: &Value) -> Result<Option<String>, Error> {
    match db {
        Value::Object(config) if !config.contains_key("engine") => {
            match config.get("htsql").and_then(|htsql| htsql.get("db")) {
                Some(db) => from_record_or_text(db),
                None => Ok(None),
            }
        }
        db => from_record_or_text(db),
    }
}

fn from_record_or_text(db: &Value) -> Result<Option<String>, Error> {
    match db {
        Value::Null => Ok(None),
        Value::String(uri) => Ok(Some(uri.clone())),
        // The validator would show what it got.
        Value::Object(parts) if parts.get("password").is_some_and(is_no_text) => {
            Err(Error::new("Expected a string")
                .guard("Got:", "***")
                .guard("While validating field:", "password"))
        }
        Value::Object(_) => from_record(&record().value(db)?).map(Some),
        _ => Err(Error::new("Expected a mapping").guard("Got:", rex_plugin_api::pyrepr::repr(db))),
    }
}

fn is_no_text(value: &Value) -> bool {
    !value.is_null() && !value.is_string()
}

fn record() -> Val {
    let text = |name| Field::optional(name, Val::maybe(Val::Str), Value::Null);
    let port = Val::maybe(Val::Int { min: Some(1), max: Some(65535) });
    Val::record(vec![
        Field::required("engine", Val::Str),
        text("username"),
        text("password"),
        text("host"),
        Field::optional("port", port, Value::Null),
        text("database"),
        Field::optional("options", Val::maybe(Val::map(Val::Str, Val::Any)), Value::Null),
    ])
}

/// `engine://user:password@host:port/database?options`, or `engine:database` where there is no more.
fn from_record(record: &Value) -> Result<String, Error> {
    let text = |name: &str| record[name].as_str();
    let mut uri = text("engine").unwrap_or_default().to_owned() + ":";
    let has_authority = ["username", "host", "port"].iter().any(|name| !record[*name].is_null());
    if has_authority {
        uri += "//";
        if let Some(user) = text("username") {
            uri += &encoded(user);
            if let Some(password) = text("password") {
                uri += ":";
                uri += &encoded(password);
            }
            uri += "@";
        }
        uri += &encoded(text("host").unwrap_or_default());
        if let Some(port) = record["port"].as_u64() {
            uri += &format!(":{port}");
        }
        uri += "/";
    }
    // A path stays readable; what would end it is encoded.
    uri += &encoded(text("database").unwrap_or_default()).replace("%2F", "/");
    let options: Option<&Map<String, Value>> = record["options"].as_object();
    for (n, (name, value)) in options.into_iter().flatten().enumerate() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        uri += if n == 0 { "?" } else { "&" };
        uri += &format!("{}={}", encoded(name), encoded(&value));
    }
    Ok(uri)
}

fn encoded(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes()
        .map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

#[cfg(test)]
mod tests;
