//! Values: parameters going in, literals of the query, and rows coming out.
//!
//! A value does not know its domain; the two always travel together (`Param`, or a `Shape`).

use std::collections::BTreeMap;

use crate::domain::Domain;
use crate::error::Error;
use crate::name::to_name;

/// One value of any domain.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Boolean(bool),
    Integer(i64),
    /// Plain decimal text as PostgreSQL prints it (`-1.50`, no exponent); the scale counts.
    Decimal(String),
    Float(f64),
    /// Text, untyped, enum and opaque values.
    Text(String),
    Date(Date),
    Time(Time),
    DateTime(DateTime),
    /// The text of a document, as it was given: numbers keep all their digits.
    Json(String),
    /// Labels of an identity, nested as its domain is.
    Identity(Vec<Value>),
    Record(Vec<Value>),
    List(Vec<Value>),
}

impl Value {
    /// A text with a NUL character in it.
    fn nul_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) if text.contains('\0') => Some(text),
            Value::Record(values) | Value::List(values) | Value::Identity(values) => {
                values.iter().find_map(Value::nul_text)
            }
            _ => None,
        }
    }

    /// What the value takes in memory, roughly, in bytes.
    pub fn size(&self) -> usize {
        let own = size_of::<Value>();
        match self {
            Value::Text(text) | Value::Decimal(text) | Value::Json(text) => own + text.len(),
            Value::Record(values) | Value::List(values) | Value::Identity(values) => {
                own + values.iter().map(Value::size).sum::<usize>()
            }
            _ => own,
        }
    }
}

/// A day of the proleptic Gregorian calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    pub year: i32,
    pub month: u8,
    pub day: u8,
}

/// A time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
    /// 0..=999_999.
    pub microsecond: u32,
}

/// A timestamp, naive or with an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DateTime {
    pub date: Date,
    pub time: Time,
    /// Minutes east of UTC; `None` for a timestamp without time zone.
    pub offset: Option<i32>,
}

/// A text as Python shows it.
fn python_quote(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote || c == '\\' => out.extend(['\\', c]),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

/// A value with its domain: a parameter of a query or a `$reference` set by a command.
#[derive(Debug, Clone, PartialEq)]
pub struct Param {
    pub domain: Domain,
    pub value: Value,
}

impl Param {
    /// A text parameter is untyped: it adapts to where it is used, as a quoted literal does.
    pub fn text(text: impl Into<String>) -> Param {
        Param { domain: Domain::Untyped, value: Value::Text(text.into()) }
    }

    /// An absent value, of any type.
    pub fn null() -> Param {
        Param { domain: Domain::Untyped, value: Value::Null }
    }
}

/// The parameters of a query, by name as `to_name` gives it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Params(BTreeMap<String, Param>);

impl Params {
    pub fn new() -> Params {
        Params::default()
    }

    /// Adds or replaces a parameter; the name is normalised.
    pub fn set(&mut self, name: &str, param: Param) {
        self.0.insert(to_name(name), param);
    }

    /// The parameter of that (normalised) name.
    pub fn get(&self, name: &str) -> Option<&Param> {
        self.0.get(name)
    }

    /// Refuses what no text of the database can hold.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.0.values().find_map(|param| param.value.nul_text()) {
            Some(text) => {
                let quote = python_quote(text);
                Err(Error::new(format!("a string should not contain a NIL character: {quote}")))
            }
            None => Ok(()),
        }
    }

    /// Names and parameters in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Param)> {
        self.0.iter().map(|(name, param)| (name.as_str(), param))
    }
}
