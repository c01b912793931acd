//! Types of columns: their names in facts and in SQL, how defaults are written, and which changes
//! the server can make in place.

use std::sync::Arc;

use rex_htsql::Value;
use rex_htsql::domain::{Domain, EnumType};
use rex_htsql::literal;
use rex_yaml::Error;

use crate::json;
use crate::sql;
use rex_yaml::given::Given;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ColumnType {
    Plain(&'static Plain),
    /// An enumeration of its own, by its labels.
    Enum(Vec<String>),
}

/// A type that the server has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plain {
    /// In facts.
    pub(crate) name: &'static str,
    /// In the catalogs of the server.
    pub(crate) sql: &'static str,
    /// The types that its values can become.
    casts: &'static [&'static str],
}

const PLAIN: &[Plain] = &[
    Plain { name: "boolean", sql: "bool", casts: &["integer", "integer-int4", "text"] },
    Plain {
        name: "integer",
        sql: "int8",
        casts: &["boolean", "integer-int4", "decimal", "float", "text"],
    },
    Plain {
        name: "integer-int4",
        sql: "int4",
        casts: &["boolean", "integer", "decimal", "float", "text"],
    },
    Plain { name: "decimal", sql: "numeric", casts: &["integer", "integer-int4", "float", "text"] },
    Plain { name: "float", sql: "float8", casts: &["integer", "integer-int4", "decimal", "text"] },
    Plain {
        name: "text",
        sql: "text",
        casts: &[
            "boolean",
            "integer",
            "integer-int4",
            "decimal",
            "float",
            "date",
            "time",
            "datetime",
            "json",
            "json-json",
        ],
    },
    Plain { name: "date", sql: "date", casts: &["text", "datetime"] },
    Plain { name: "time", sql: "time", casts: &["text"] },
    Plain { name: "datetime", sql: "timestamp", casts: &["text", "date", "time"] },
    Plain { name: "json", sql: "jsonb", casts: &["text", "json-json"] },
    Plain { name: "json-json", sql: "json", casts: &["text", "json"] },
];

/// The names that a fact may give.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    PLAIN.iter().map(|plain| plain.name)
}

impl ColumnType {
    pub(crate) fn named(name: &str) -> Result<ColumnType, Error> {
        let found = PLAIN.iter().find(|plain| plain.name == name);
        found.map(ColumnType::Plain).ok_or_else(|| Error::with("Got unknown type:", name))
    }

    /// The type that the server calls by this name.
    pub(crate) fn of_sql(name: &str) -> Option<ColumnType> {
        PLAIN.iter().find(|plain| plain.sql == name).map(ColumnType::Plain)
    }

    pub(crate) fn domain(&self) -> Domain {
        match self {
            ColumnType::Enum(labels) => Domain::Enum(Arc::new(EnumType {
                schema: "public".to_owned(),
                name: String::new(),
                labels: labels.clone(),
            })),
            ColumnType::Plain(plain) => match plain.name {
                "boolean" => Domain::Boolean,
                "integer" | "integer-int4" => Domain::Integer,
                "decimal" => Domain::Decimal,
                "float" => Domain::Float,
                "date" => Domain::Date,
                "time" => Domain::Time,
                "datetime" => Domain::DateTime,
                "json" | "json-json" => Domain::Json,
                _ => Domain::Text,
            },
        }
    }

    /// What errors call it: as facts do, where types share a domain.
    pub(crate) fn title(&self) -> String {
        match self {
            ColumnType::Enum(_) => self.domain().to_string(),
            ColumnType::Plain(plain) => plain.name.to_owned(),
        }
    }

    fn is(&self, name: &str) -> bool {
        matches!(self, ColumnType::Plain(plain) if plain.name == name)
    }

    /// Whether the server can make values of another type of those of this one.
    pub(crate) fn casts_to(&self, other: &ColumnType) -> bool {
        match (self, other) {
            (ColumnType::Plain(from), ColumnType::Plain(to)) => from.casts.contains(&to.name),
            (ColumnType::Enum(_), ColumnType::Enum(_)) => true,
            (ColumnType::Enum(_), to) => to.is("text"),
            (from, ColumnType::Enum(_)) => from.is("text"),
        }
    }

    /// The word for the moment at which a row is made, where the type has one.
    fn moment(&self) -> Option<(&'static str, &'static str)> {
        match self {
            ColumnType::Plain(plain) if plain.name == "date" => {
                Some(("today()", "'now'::text::date"))
            }
            ColumnType::Plain(plain) if plain.name == "datetime" => {
                Some(("now()", "'now'::text::timestamp"))
            }
            _ => None,
        }
    }

    /// A default as a fact gives it, to the text by which it is remembered.
    pub(crate) fn default_text(&self, value: &Given) -> Result<String, Error> {
        let domain = self.domain();
        let ill_typed = || {
            let shown = match value {
                Given::Text(text) => text.clone(),
                other => serde_json::to_string(other).unwrap_or_default(),
            };
            Error::with("Got ill-typed default value:", shown)
        };
        let read = |text: &str| {
            let value = literal::parse(&domain, text).ok()?;
            literal::plain_text(&domain, &value)
        };
        let document = |document: &Given| match document.is_beyond_doubles() {
            true => Err(ill_typed()),
            false => Ok(json::indented(document)),
        };
        match (&domain, value) {
            (Domain::Json, Given::Text(text)) => match Given::json(text) {
                Ok(read) => document(&read),
                Err(_) => Ok(text.clone()),
            },
            (Domain::Json, given) => document(given),
            (_, Given::Text(text)) => match self.moment() {
                Some((word, _)) if word == text => Ok(text.clone()),
                _ => read(text).ok_or_else(ill_typed),
            },
            (Domain::Boolean, Given::Boolean(value)) => Ok(value.to_string()),
            (Domain::Integer, Given::Number(number)) if !number.is_f64() => Ok(number.to_string()),
            (Domain::Decimal | Domain::Float, Given::Number(number)) => {
                read(&number.to_string()).ok_or_else(ill_typed)
            }
            (Domain::Decimal | Domain::Float, Given::Long(digits)) => {
                read(digits).ok_or_else(ill_typed)
            }
            _ => Err(ill_typed()),
        }
    }

    /// The SQL expression of a default.
    pub(crate) fn default_sql(&self, text: &str) -> String {
        let domain = self.domain();
        if let Some((_, sql)) = self.moment().filter(|(word, _)| *word == text) {
            return sql.to_owned();
        }
        if domain == Domain::Json {
            let document = Given::json(text).unwrap_or_else(|_| Given::Text(text.to_owned()));
            return sql::text(&json::spaced(&document));
        }
        match literal::parse(&domain, text) {
            Ok(value) => value_sql(&value),
            Err(_) => sql::text(text),
        }
    }
}

/// A value as SQL.
pub(crate) fn value_sql(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Boolean(true) => "TRUE".to_owned(),
        Value::Boolean(false) => "FALSE".to_owned(),
        Value::Integer(_) | Value::Decimal(_) | Value::Float(_) => {
            literal::plain_text(&Domain::Text, value).unwrap_or_default()
        }
        Value::Text(text) | Value::Json(text) => sql::text(text),
        other => sql::text(&literal::plain_text(&Domain::Text, other).unwrap_or_default()),
    }
}
