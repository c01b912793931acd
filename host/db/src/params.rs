//! Parameters on their way to the server: typed, in the text format.
//!
//! The text format serves every type with the server's own input functions, so a value of an
//! enumeration, a numeric of any scale or an opaque value needs no encoder here.

use bytes::{BufMut as _, BytesMut};
use rex_htsql::Value;
use rex_htsql::domain::Domain;
use rex_htsql::literal::plain_text;
use rex_htsql::plan::SqlType;
use rex_htsql::value::{Date, DateTime};
use tokio_postgres::types::{Format, IsNull, ToSql, Type};

/// A parameter as text; `None` is NULL.
#[derive(Debug, Clone)]
pub(crate) struct TextParam(pub(crate) Option<String>);

impl TextParam {
    /// The parameter for a scalar value.
    pub(crate) fn new(value: &Value) -> TextParam {
        TextParam(scalar_text(value))
    }
}

/// The text that PostgreSQL reads back as the scalar value; `None` for NULL.
pub(crate) fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::Float(x) => Some(float_text(*x)),
        Value::Date(date) if date.year < 1 => Some(format!("{} BC", before_christ(*date))),
        Value::DateTime(stamp) if stamp.date.year < 1 => {
            Some(format!("{} BC", DateTime { date: before_christ(stamp.date), ..*stamp }))
        }
        // The domain matters to identities only, which are no parameters.
        value => plain_text(&Domain::Untyped, value),
    }
}

/// The date with its year as the server counts those before year 1: there is no year 0.
fn before_christ(date: Date) -> Date {
    Date { year: 1 - date.year, ..date }
}

fn float_text(x: f64) -> String {
    if x.is_nan() {
        "NaN".to_string()
    } else if x.is_infinite() {
        if x > 0.0 { "Infinity".to_string() } else { "-Infinity".to_string() }
    } else {
        format!("{x:?}")
    }
}

impl ToSql for TextParam {
    fn to_sql(
        &self,
        _ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match &self.0 {
            None => Ok(IsNull::Yes),
            Some(text) => {
                out.put_slice(text.as_bytes());
                Ok(IsNull::No)
            }
        }
    }

    fn accepts(_ty: &Type) -> bool {
        true
    }

    fn encode_format(&self, _ty: &Type) -> Format {
        Format::Text
    }

    tokio_postgres::types::to_sql_checked!();
}

/// The server's type of a parameter.
pub(crate) fn param_type(ty: SqlType) -> Type {
    match ty {
        SqlType::Boolean => Type::BOOL,
        SqlType::BigInt => Type::INT8,
        SqlType::Numeric => Type::NUMERIC,
        SqlType::Double => Type::FLOAT8,
        SqlType::Text => Type::TEXT,
        SqlType::Date => Type::DATE,
        SqlType::Time => Type::TIME,
        SqlType::Timestamp => Type::TIMESTAMP,
        SqlType::TimestampTz => Type::TIMESTAMPTZ,
        SqlType::Jsonb => Type::JSONB,
    }
}
