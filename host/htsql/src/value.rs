//! Values: parameters going in, literals of the query, and rows coming out.
//!
//! A value does not know its domain; the two always travel together (`Param`, or a `Shape`).

use std::collections::BTreeMap;

use crate::domain::Domain;
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
    Json(serde_json::Value),
    /// Labels of an identity, nested as its domain is.
    Identity(Vec<Value>),
    Record(Vec<Value>),
    List(Vec<Value>),
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

    /// Names and parameters in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Param)> {
        self.0.iter().map(|(name, param)| (name.as_str(), param))
    }
}
