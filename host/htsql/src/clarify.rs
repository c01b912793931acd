//! Conversion of feed values to the domains of columns: stricter than the casts of the language.
//!
//! Only these conversions exist: equal families, untyped to anything (parsed), integer to decimal
//! and float, decimal and float to each other, text to an enumeration or to json, date to
//! datetime, and identities of equal width. NULL is accepted everywhere.

use crate::domain::Domain;
use crate::literal;
use crate::value::{DateTime, Time, Value};

/// A conversion that exists, from one domain to another.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversion {
    from: Domain,
    to: Domain,
}

impl Conversion {
    /// The conversion between two domains; `None` when there is none.
    pub fn new(from: &Domain, to: &Domain) -> Option<Conversion> {
        convertible(from, to).then(|| Conversion { from: from.clone(), to: to.clone() })
    }

    /// The domain of the converted values.
    pub fn to(&self) -> &Domain {
        &self.to
    }

    /// Whether values pass unchanged.
    pub fn is_identity(&self) -> bool {
        self.from == self.to
    }

    /// Converts one value.
    ///
    /// # Errors
    /// The text to quote below `Failed to adapt value of <name> to <domain>`: the value as a
    /// literal.
    pub fn apply(&self, value: Value) -> Result<Value, String> {
        let quote = |value: &Value| literal::dump(&self.from, value);
        let shown = if self.is_identity() { None } else { Some(value.clone()) };
        convert(&self.from, &self.to, value)
            .map_err(|()| shown.map_or_else(String::new, |value| quote(&value)))
    }
}

fn convertible(from: &Domain, to: &Domain) -> bool {
    match (from, to) {
        (Domain::Identity(_), Domain::Identity(_)) => {
            let (from, to) = (from.leaves(), to.leaves());
            from.len() == to.len() && from.iter().zip(&to).all(|(f, t)| convertible(f, t))
        }
        (Domain::Untyped, to) => to.is_scalar() || matches!(to, Domain::Identity(_)),
        (Domain::Integer, Domain::Decimal | Domain::Float)
        | (Domain::Decimal, Domain::Float)
        | (Domain::Float, Domain::Decimal)
        | (Domain::Text, Domain::Enum(_) | Domain::Json)
        | (Domain::Date, Domain::DateTime) => true,
        (from, to) => from.is_scalar() && from == to,
    }
}

fn convert(from: &Domain, to: &Domain, value: Value) -> Result<Value, ()> {
    match (from, to, value) {
        (_, _, Value::Null) => Ok(Value::Null),
        (Domain::Identity(_), Domain::Identity(labels), value) => {
            let mut leaves = Vec::new();
            flatten(value, &mut leaves);
            let converted = from
                .leaves()
                .iter()
                .zip(to.leaves())
                .zip(leaves)
                .map(|((from, to), leaf)| convert(from, &to, leaf))
                .collect::<Result<Vec<_>, ()>>()?;
            let mut converted = converted.into_iter();
            Ok(group(labels, &mut converted))
        }
        (Domain::Untyped | Domain::Text, to, Value::Text(text)) if from != to => {
            literal::parse(to, &text).map_err(|_| ())
        }
        (Domain::Integer, Domain::Decimal, Value::Integer(i)) => Ok(Value::Decimal(i.to_string())),
        #[expect(clippy::cast_precision_loss, reason = "the conversion to float is asked for")]
        (Domain::Integer, Domain::Float, Value::Integer(i)) => Ok(Value::Float(i as f64)),
        (Domain::Decimal, Domain::Float, Value::Decimal(d)) => {
            d.parse().map(Value::Float).map_err(|_| ())
        }
        (Domain::Float, Domain::Decimal, Value::Float(x)) if x.is_finite() => {
            Ok(Value::Decimal(format!("{x}")))
        }
        (Domain::Float, Domain::Decimal, _) => Err(()),
        (Domain::Date, Domain::DateTime, Value::Date(date)) => Ok(Value::DateTime(DateTime {
            date,
            time: Time { hour: 0, minute: 0, second: 0, microsecond: 0 },
            offset: None,
        })),
        (_, _, value) => Ok(value),
    }
}

fn flatten(value: Value, leaves: &mut Vec<Value>) {
    match value {
        Value::Identity(labels) => labels.into_iter().for_each(|label| flatten(label, leaves)),
        leaf => leaves.push(leaf),
    }
}

fn group(labels: &[Domain], leaves: &mut impl Iterator<Item = Value>) -> Value {
    Value::Identity(
        labels
            .iter()
            .map(|label| match label {
                Domain::Identity(labels) => group(labels, leaves),
                _ => leaves.next().unwrap_or(Value::Null),
            })
            .collect(),
    )
}
