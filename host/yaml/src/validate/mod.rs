//! Validators: what a value must look like, and the original's texts for one that does not.
//!
//! A validator takes plain data ("value mode": what is wrong is shown as Python's `repr` shows it)
//! or a YAML node ("YAML mode": shown as written, with file and line), and gives plain data back in
//! its normal form: numbers as numbers, records with every field in declaration order.

mod compound;
mod datetime;
mod scalar;

use rex_plugin_api::pyrepr::repr;
use serde_json::Value;

use crate::node::{Kind, Node, Scalar};
use crate::{Error, number};

/// What a value must be.
#[derive(Debug, Clone)]
pub enum Val {
    Any,
    /// Text.
    Str,
    /// Text that `matches` accepts; `shown` is how an error describes it.
    Pattern {
        shown: &'static str,
        matches: fn(&str) -> bool,
    },
    /// One of these words.
    Choice(Vec<String>),
    Bool,
    /// An integer within inclusive bounds; without any, one beyond 64 bits is the text of its digits.
    Int {
        min: Option<i64>,
        max: Option<i64>,
    },
    Float,
    /// A finite number of seconds, at least `min`.
    Seconds {
        min: f64,
    },
    /// A number of bytes, at least `min`: an integer, or text with a suffix `K`, `M`, `G`, `T`
    /// (powers of 1024).
    Bytes {
        min: u64,
    },
    /// A log level by Python's name or number; becomes the name.
    Level,
    /// `YYYY-MM-DD`.
    Date,
    /// `HH:MM:SS` with up to six decimals.
    Time,
    /// A date with or without time and zone; becomes UTC without zone.
    DateTime,
    /// Null, or else.
    Maybe(Box<Val>),
    /// The first that accepts.
    OneOf(Vec<Val>),
    Seq(Box<Val>),
    OneOrSeq(Box<Val>),
    /// Keys and values; the result is sorted by key.
    Map(Box<Val>, Box<Val>),
    /// A list of pairs or of one-entry mappings; the result keeps their order.
    OMap(Box<Val>, Box<Val>),
    Record(Record),
    Union(Union),
    /// What another validator lets through, looked at once more: the function gives the value, or
    /// what stands for it, or says what is wrong.
    Checked(Box<Val>, fn(&Value) -> Result<Value, Error>),
}

/// A mapping with known fields.
#[derive(Debug, Clone)]
pub struct Record {
    pub fields: Vec<Field>,
    /// Whether unknown fields are ignored rather than refused.
    pub open: bool,
}

/// A field of a record.
#[derive(Debug, Clone)]
pub struct Field {
    pub name: &'static str,
    pub val: Val,
    /// The value of an absent field, taken as it is; `None` makes the field mandatory.
    pub default: Option<Value>,
}

impl Field {
    pub fn required(name: &'static str, val: Val) -> Field {
        Field { name, val, default: None }
    }

    pub fn optional(name: &'static str, val: Val, default: Value) -> Field {
        Field { name, val, default: Some(default) }
    }
}

/// Validators chosen by the look of the value.
#[derive(Debug, Clone)]
pub struct Union {
    pub variants: Vec<(Test, Val)>,
    /// For what no test accepts; without it that is an error.
    pub default: Option<Box<Val>>,
}

/// How a [`Union`] recognises a variant.
#[derive(Debug, Clone, Copy)]
pub enum Test {
    Scalar,
    Seq,
    Map,
    /// A mapping with this field.
    Field(&'static str),
    /// A mapping whose field has this text.
    FieldIs(&'static str, &'static str),
}

/// What a validator is given.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    Value(&'a Value),
    Node(&'a Node),
}

impl Input<'_> {
    /// Completes an error with what was found and, for a node, where.
    fn got(self, error: Error) -> Error {
        match self {
            Input::Value(value) => error.guard("Got:", repr(value)),
            Input::Node(node) => {
                error.guard("Got:", node.got()).guard("While parsing:", &node.mark)
            }
        }
    }
}

impl Val {
    pub fn uint() -> Val {
        Val::Int { min: Some(0), max: None }
    }

    pub fn pint() -> Val {
        Val::Int { min: Some(1), max: None }
    }

    pub fn maybe(val: Val) -> Val {
        Val::Maybe(Box::new(val))
    }

    pub fn seq(val: Val) -> Val {
        Val::Seq(Box::new(val))
    }

    pub fn map(key: Val, value: Val) -> Val {
        Val::Map(Box::new(key), Box::new(value))
    }

    pub fn checked(val: Val, check: fn(&Value) -> Result<Value, Error>) -> Val {
        Val::Checked(Box::new(val), check)
    }

    pub fn record(fields: Vec<Field>) -> Val {
        Val::Record(Record { fields, open: false })
    }

    /// Validates plain data.
    ///
    /// # Errors
    /// What is wrong, without the name of what was being validated: the caller adds that.
    pub fn value(&self, value: &Value) -> Result<Value, Error> {
        self.check(Input::Value(value))
    }

    /// Validates a document or a part of one.
    ///
    /// # Errors
    /// As [`Val::value`], and with the place in the file.
    pub fn node(&self, node: &Node) -> Result<Value, Error> {
        self.check(Input::Node(node)).map_err(|error| node.arrive(error))
    }

    /// Validates either.
    ///
    /// # Errors
    /// As [`Val::value`] or [`Val::node`].
    pub fn read(&self, input: Input<'_>) -> Result<Value, Error> {
        match input {
            Input::Value(value) => self.value(value),
            Input::Node(node) => self.node(node),
        }
    }

    fn check(&self, input: Input<'_>) -> Result<Value, Error> {
        match self {
            Val::Maybe(val) => match is_null(input) {
                true => Ok(Value::Null),
                false => val.read(input),
            },
            Val::OneOf(vals) => compound::one_of(vals, input),
            Val::Seq(item) => compound::seq(item, input),
            Val::OneOrSeq(item) => match is_seq(input) {
                true => compound::seq(item, input),
                false => item.read(input),
            },
            Val::Map(key, value) => compound::map(key, value, input),
            Val::OMap(key, value) => compound::omap(key, value, input),
            Val::Record(record) => compound::record(record, input),
            Val::Union(union) => compound::union(union, input),
            Val::Checked(val, check) => check(&val.check(input)?).map_err(|error| match input {
                Input::Value(_) => error,
                Input::Node(node) => error.guard("While parsing:", &node.mark),
            }),
            Val::Any => match input {
                Input::Value(value) => Ok(value.clone()),
                Input::Node(node) => node.value(),
            },
            _ => self.scalar(input),
        }
    }

    fn scalar(&self, input: Input<'_>) -> Result<Value, Error> {
        let owned;
        let value = match input {
            Input::Value(value) => value,
            Input::Node(node) => {
                // A date is text once it is plain data, but nobody who wants text wrote one.
                let is_date = matches!(node.kind, Kind::Scalar(_, Scalar::Timestamp));
                owned = match (self, &node.kind) {
                    (Val::Str | Val::Pattern { .. } | Val::Choice(_), _) if is_date => Value::Null,
                    // Plain data has no such number, but the text of one.
                    (Val::Int { .. }, Kind::Scalar(_, Scalar::Long(digits)))
                        if number::is_whole(digits) =>
                    {
                        Value::String(digits.clone())
                    }
                    (_, Kind::Scalar(text, scalar)) => scalar.value(text),
                    // No scalar validator accepts a list; its content does not matter.
                    (_, Kind::Seq(_) | Kind::Map(_)) => Value::Array(Vec::new()),
                };
                &owned
            }
        };
        let result = match self {
            Val::Pattern { shown, matches } => scalar::pattern(value, shown, *matches),
            Val::Choice(choices) => scalar::choice(value, choices),
            Val::Bool => scalar::boolean(value),
            Val::Int { min, max } => scalar::int(value, *min, *max),
            Val::Float => scalar::float(value),
            Val::Seconds { min } => scalar::seconds(value, *min),
            Val::Bytes { min } => scalar::bytes(value, *min),
            Val::Level => scalar::level(value),
            Val::Date => datetime::date(value),
            Val::Time => datetime::time(value),
            Val::DateTime => datetime::datetime(value),
            _ => scalar::string(value).map(Value::from),
        };
        result.map_err(|error| input.got(error))
    }
}

fn is_null(input: Input<'_>) -> bool {
    match input {
        Input::Value(value) => value.is_null(),
        Input::Node(node) => {
            matches!(node.kind, Kind::Scalar(_, Scalar::Null | Scalar::Empty))
        }
    }
}

fn is_seq(input: Input<'_>) -> bool {
    match input {
        Input::Value(value) => value.is_array(),
        Input::Node(node) => matches!(node.kind, Kind::Seq(_)),
    }
}

#[cfg(test)]
mod tests;
