//! Fields of assessments: what columns they become, how fields of the same name are merged, and how
//! values become the texts of columns.

use std::collections::BTreeMap;

use rex_yaml::{Error, repr};
use serde_json::{Value, json};

use crate::name;
use crate::parameter::DataType;

/// What a field holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Simple(DataType),
    Enumeration(Vec<String>),
    EnumerationSet(Vec<String>),
    Json,
}

impl Kind {
    /// By the name that instruments have for it.
    pub(super) fn named(name: &str, labels: Vec<String>) -> Result<Kind, Error> {
        Ok(match name {
            "enumeration" => Kind::Enumeration(labels),
            "enumerationSet" => Kind::EnumerationSet(labels),
            "json" => Kind::Json,
            name => Kind::Simple(
                serde_json::from_value(json!(name))
                    .map_err(|_| Error::new(format!("Cannot map fields of type \"{name}\"")))?,
            ),
        })
    }

    pub(super) fn name(&self) -> String {
        match self {
            Kind::Simple(ty) => json!(ty).as_str().unwrap_or_default().to_owned(),
            Kind::Enumeration(_) => "enumeration".to_owned(),
            Kind::EnumerationSet(_) => "enumerationSet".to_owned(),
            Kind::Json => "json".to_owned(),
        }
    }

    /// What can hold the values of both; `None` when nothing can.
    fn merged(&self, other: &Kind) -> Option<Kind> {
        use DataType::{Boolean, Date, DateTime, Float, Integer};
        if self == other {
            return Some(self.clone());
        }
        let pair = |a, b| {
            let (a, b) = (Kind::Simple(a), Kind::Simple(b));
            (*self == a && *other == b) || (*self == b && *other == a)
        };
        match (self, other) {
            (Kind::Enumeration(a), Kind::Enumeration(b)) => Some(Kind::Enumeration(united(a, b))),
            (Kind::Enumeration(a) | Kind::EnumerationSet(a), Kind::EnumerationSet(b))
            | (Kind::EnumerationSet(a), Kind::Enumeration(b)) => {
                Some(Kind::EnumerationSet(united(a, b)))
            }
            (Kind::EnumerationSet(_) | Kind::Json, _)
            | (_, Kind::EnumerationSet(_) | Kind::Json) => None,
            _ if pair(Integer, Float) || pair(Float, Boolean) => Some(Kind::Simple(Float)),
            _ if pair(Integer, Boolean) => Some(Kind::Simple(Integer)),
            _ if pair(Date, DateTime) => Some(Kind::Simple(DateTime)),
            _ => Some(Kind::Simple(DataType::Text)),
        }
    }
}

/// Labels of both, each once.
fn united(a: &[String], b: &[String]) -> Vec<String> {
    let mut all = a.to_vec();
    all.extend(b.iter().filter(|label| !a.contains(label)).cloned());
    all
}

/// A field of a table, made of all fields of that name.
#[derive(Debug, Clone)]
pub(super) struct Field {
    /// In assessments, selectors and calculations.
    pub(super) id: String,
    /// The column, or what the columns of a set begin with.
    pub(super) name: String,
    /// The id as it was written, where a column cannot be called so.
    pub(super) title: Option<String>,
    pub(super) kind: Kind,
    /// What it holds by version of the instrument; the version of values that come from elsewhere
    /// is empty.
    pub(super) versions: BTreeMap<String, Kind>,
    pub(super) identifiable: bool,
    pub(super) description: Option<String>,
    /// Of labels.
    pub(super) labels: BTreeMap<String, String>,
    /// For the data dictionary.
    pub(super) source: Option<&'static str>,
}

impl Field {
    pub(super) fn new(id: &str, kind: Kind, version: &str) -> Result<Field, Error> {
        let name = name::safe(id)?;
        let title = id.split_whitespace().collect::<Vec<_>>().join(" ");
        Ok(Field {
            id: id.to_owned(),
            title: Some(title).filter(|title| *title != name && !title.is_empty()),
            name,
            versions: BTreeMap::from([(version.to_owned(), kind.clone())]),
            kind,
            identifiable: false,
            description: None,
            labels: BTreeMap::new(),
            source: None,
        })
    }

    /// Takes in another field of the same name.
    pub(super) fn merge(&mut self, other: Field) -> Result<(), Error> {
        let kind = self.kind.merged(&other.kind).ok_or_else(|| {
            let (a, b) = (self.kind.name(), other.kind.name());
            Error::new(format!("Cannot merge fields of types {a} and {b} ({})", self.id))
        })?;
        self.kind = kind;
        self.versions.extend(other.versions);
        self.identifiable |= other.identifiable;
        self.description = self.description.take().or(other.description);
        for (label, text) in other.labels {
            self.labels.entry(label).or_insert(text);
        }
        Ok(())
    }

    /// The columns that it becomes: the label that each stands for, where it is one of a set, and
    /// the name.
    pub(super) fn columns(&self) -> Vec<(Option<&str>, String)> {
        match &self.kind {
            Kind::EnumerationSet(labels) => labels
                .iter()
                .map(|label| {
                    let column = format!("{}_{}", self.name, name::clean(label));
                    (Some(label.as_str()), name::cut(&column, name::MAX_LENGTH).to_owned())
                })
                .collect(),
            _ => vec![(None, self.name.clone())],
        }
    }

    /// The facts of its columns.
    pub(super) fn facts(&self, table: &str) -> Vec<Value> {
        let fact = |column: &str, ty: Value| json!({"column": column, "of": table, "type": ty, "required": false});
        match &self.kind {
            Kind::EnumerationSet(_) => self
                .columns()
                .iter()
                .map(|(_, column)| {
                    let mut fact = fact(column, json!("boolean"));
                    fact["default"] = json!(false);
                    fact
                })
                .collect(),
            kind => {
                let ty = match kind {
                    Kind::Enumeration(labels) => json!(labels),
                    Kind::Json => json!("json"),
                    Kind::Simple(DataType::DateTime) => json!("datetime"),
                    Kind::Simple(ty) => json!(ty),
                    Kind::EnumerationSet(_) => Value::Null,
                };
                let mut fact = fact(&self.name, ty);
                if let Some(title) = &self.title {
                    fact["title"] = json!(title);
                }
                vec![fact]
            }
        }
    }

    /// The texts of its columns for a value of an assessment of that version, in the order of the
    /// columns; what is null stays as the default has it.
    pub(super) fn cells(&self, value: &Raw, version: &str) -> Result<Vec<Option<String>>, Error> {
        let was = self
            .versions
            .get(version)
            .or_else(|| self.versions.get(""))
            .ok_or_else(|| Error::new("Unknown InstrumentVersion encountered"))?;
        let value = value.read_as(was);
        match &self.kind {
            Kind::EnumerationSet(labels) => set(labels, &value),
            Kind::Enumeration(labels) => enumeration(labels, &value).map(|cell| vec![cell]),
            Kind::Json => Ok(vec![Some(value.json())]),
            Kind::Simple(ty) => value.cell(*ty).map(|cell| vec![cell]),
        }
    }
}

fn refused(shown: &str, value: &Raw) -> Error {
    Error::new(format!("Cannot cast value to type \"{shown}: {}", value.repr()))
}

fn enumeration(labels: &[String], value: &Raw) -> Result<Option<String>, Error> {
    match value {
        Raw::Null => Ok(None),
        Raw::Text(text) if labels.contains(text) => Ok(Some(text.clone())),
        // The original's text has no closing quote.
        other => Err(refused(&format!("enumeration({})", labels.join(",")), other)),
    }
}

fn set(labels: &[String], value: &Raw) -> Result<Vec<Option<String>>, Error> {
    let chosen: Vec<&Raw> = match value {
        Raw::Null => Vec::new(),
        Raw::Other(Value::Array(items)) => {
            return set_of(labels, value, items.iter().map(|item| item.as_str()));
        }
        one => vec![one],
    };
    let texts = chosen.into_iter().map(|one| match one {
        Raw::Text(text) => Some(text.as_str()),
        _ => None,
    });
    set_of(labels, value, texts)
}

fn set_of<'a>(
    labels: &[String],
    value: &Raw,
    chosen: impl Iterator<Item = Option<&'a str>>,
) -> Result<Vec<Option<String>>, Error> {
    let mut cells = vec![Some("f".to_owned()); labels.len()];
    for label in chosen {
        let at = label.and_then(|label| labels.iter().position(|known| known == label));
        match at.and_then(|at| cells.get_mut(at)) {
            Some(cell) => *cell = Some("t".to_owned()),
            None => {
                let shown = format!("enumerationSet({})", labels.join(","));
                return Err(refused(&shown, value));
            }
        }
    }
    Ok(cells)
}

/// A value as it comes from an assessment or a selector.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Raw {
    Null,
    Boolean(bool),
    Integer(i64),
    Float(f64),
    /// Digits.
    Decimal(String),
    Text(String),
    /// `YYYY-MM-DD`.
    Date(String),
    /// `HH:MM:SS` with decimals.
    Time(String),
    /// `YYYY-MM-DDTHH:MM:SS` with decimals.
    DateTime(String),
    /// A list or a mapping.
    Other(Value),
}

impl Raw {
    pub(super) fn of_json(value: &Value) -> Raw {
        match value {
            Value::Null => Raw::Null,
            Value::Bool(truth) => Raw::Boolean(*truth),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(number), _) => Raw::Integer(number),
                (None, Some(number)) => Raw::Float(number),
                (None, None) => Raw::Decimal(number.to_string()),
            },
            Value::String(text) => Raw::Text(text.clone()),
            other => Raw::Other(other.clone()),
        }
    }

    /// What a version of an instrument meant by it: dates and times are texts in assessments.
    fn read_as(&self, kind: &Kind) -> Raw {
        let Raw::Text(text) = self else { return self.clone() };
        let read = |ty: DataType| ty.value_val().value(&json!(text)).ok();
        let text = |value: Value| value.as_str().unwrap_or_default().to_owned();
        let read = match kind {
            Kind::Simple(DataType::Date) => read(DataType::Date).map(|v| Raw::Date(text(v))),
            Kind::Simple(DataType::Time) => read(DataType::Time).map(|v| Raw::Time(text(v))),
            Kind::Simple(DataType::DateTime) => {
                read(DataType::DateTime).map(|v| Raw::DateTime(text(v)))
            }
            _ => None,
        };
        read.unwrap_or_else(|| self.clone())
    }

    /// As the text of a column of that type.
    fn cell(&self, ty: DataType) -> Result<Option<String>, Error> {
        if *self == Raw::Null {
            return Ok(None);
        }
        let cell = match ty {
            DataType::Text => self.as_text(),
            DataType::Integer => self.as_integer().map(|number| number.to_string()),
            DataType::Float => self.as_float().map(|number| number.to_string()),
            DataType::Boolean => {
                self.as_boolean().map(|truth| if truth { "t" } else { "f" }.to_owned())
            }
            DataType::Date => match self {
                Raw::Date(text) => Some(text.clone()),
                Raw::DateTime(text) => text.get(..10).map(str::to_owned),
                _ => None,
            },
            DataType::Time => match self {
                Raw::Time(text) => Some(text.clone()),
                Raw::DateTime(text) => text.get(11..).map(str::to_owned),
                _ => None,
            },
            DataType::DateTime => match self {
                Raw::Date(text) => Some(format!("{text}T00:00:00")),
                Raw::DateTime(text) => Some(text.clone()),
                _ => None,
            },
        };
        let shown = Kind::Simple(ty).name();
        cell.map(Some).ok_or_else(|| refused(&format!("{shown}\""), self))
    }

    fn as_text(&self) -> Option<String> {
        Some(match self {
            Raw::Null => return None,
            Raw::Boolean(truth) => if *truth { "TRUE" } else { "FALSE" }.to_owned(),
            Raw::Other(value) => repr(value),
            Raw::Float(number) => repr(&json!(number)),
            Raw::Integer(number) => number.to_string(),
            Raw::Decimal(text)
            | Raw::Text(text)
            | Raw::Date(text)
            | Raw::Time(text)
            | Raw::DateTime(text) => text.clone(),
        })
    }

    fn as_integer(&self) -> Option<i64> {
        match self {
            Raw::Boolean(truth) => Some(i64::from(*truth)),
            Raw::Integer(number) => Some(*number),
            Raw::Float(number) => whole(*number),
            Raw::Decimal(text) => text.split('.').next()?.parse().ok(),
            Raw::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    fn as_float(&self) -> Option<f64> {
        match self {
            Raw::Boolean(truth) => Some(f64::from(u8::from(*truth))),
            #[expect(clippy::cast_precision_loss, reason = "what a float is asked for")]
            Raw::Integer(number) => Some(*number as f64),
            Raw::Float(number) => Some(*number),
            Raw::Decimal(text) | Raw::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    fn as_boolean(&self) -> Option<bool> {
        match self {
            Raw::Boolean(truth) => Some(*truth),
            Raw::Integer(number) => Some(*number != 0),
            Raw::Float(number) => Some(*number != 0.0),
            Raw::Decimal(text) => Some(text.bytes().any(|b| (b'1'..=b'9').contains(&b))),
            Raw::Text(text) => Some(!text.is_empty()),
            _ => None,
        }
    }

    /// As a document.
    fn json(&self) -> String {
        match self {
            Raw::Null => Value::Null.to_string(),
            Raw::Boolean(truth) => truth.to_string(),
            Raw::Integer(number) => number.to_string(),
            Raw::Float(number) => json!(number).to_string(),
            Raw::Decimal(text) => text.clone(),
            Raw::Text(text) | Raw::Date(text) | Raw::Time(text) => json!(text).to_string(),
            Raw::DateTime(text) => {
                let (whole, decimals) = text.split_once('.').unwrap_or((text, "000"));
                let millis = decimals.get(..3).unwrap_or("000");
                json!(format!("{whole}.{millis}Z")).to_string()
            }
            Raw::Other(value) => value.to_string(),
        }
    }

    fn repr(&self) -> String {
        match self {
            Raw::Null => "None".to_owned(),
            Raw::Boolean(truth) => repr(&json!(truth)),
            Raw::Integer(number) => number.to_string(),
            Raw::Float(number) => repr(&json!(number)),
            Raw::Decimal(text) => format!("Decimal('{text}')"),
            Raw::Text(text) => repr(&json!(text)),
            Raw::Date(text) => crate::parameter::repr_typed(&json!(text), DataType::Date),
            Raw::Time(text) => crate::parameter::repr_typed(&json!(text), DataType::Time),
            Raw::DateTime(text) => crate::parameter::repr_typed(&json!(text), DataType::DateTime),
            Raw::Other(value) => repr(value),
        }
    }
}

/// Towards zero; `None` beyond what a column can hold.
fn whole(number: f64) -> Option<i64> {
    #[expect(clippy::cast_precision_loss, reason = "a bound that a float has exactly")]
    let fits = number.is_finite() && number.abs() < i64::MAX as f64;
    #[expect(clippy::cast_possible_truncation, reason = "checked above")]
    fits.then_some(number.trunc() as i64)
}

#[cfg(test)]
mod tests;
