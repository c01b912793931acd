//! Fields of assessments: what columns they become, how fields of the same name are merged, and how
//! values become the texts of columns.

use std::borrow::Cow;
use std::collections::BTreeMap;

use rex_yaml::{Error, repr, repr_json};
use serde_json::{Value, json};

use super::document::Json;
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

/// What gives a field its values.
#[derive(Debug, Clone, Copy)]
pub(super) enum Origin<'a> {
    /// Answers to what this version of an instrument asks.
    Asked(&'a str),
    /// What this version calculates.
    Calculated(&'a str),
    Meta,
    /// A column of the selector.
    Selected,
    /// Nothing while assessments are loaded: it is computed from others then.
    Later,
}

/// What the values of a field are, by what gives them: whatever else is called so in an assessment
/// has been left out of the table.
#[derive(Debug, Clone, Default)]
pub(super) struct Origins {
    /// By version of the instrument.
    pub(super) asked: BTreeMap<String, Kind>,
    /// By version of the instrument.
    pub(super) calculated: BTreeMap<String, Kind>,
    pub(super) meta: Option<Kind>,
    pub(super) selected: Option<Kind>,
}

impl Origins {
    fn of(origin: Origin<'_>, kind: &Kind) -> Origins {
        let mut origins = Origins::default();
        let kind = kind.clone();
        match origin {
            Origin::Asked(version) => origins.asked = BTreeMap::from([(version.to_owned(), kind)]),
            Origin::Calculated(version) => {
                origins.calculated = BTreeMap::from([(version.to_owned(), kind)]);
            }
            Origin::Meta => origins.meta = Some(kind),
            Origin::Selected => origins.selected = Some(kind),
            Origin::Later => {}
        }
        origins
    }

    fn merge(&mut self, other: Origins) {
        self.asked.extend(other.asked);
        self.calculated.extend(other.calculated);
        self.meta = other.meta.or(self.meta.take());
        self.selected = other.selected.or(self.selected.take());
    }

    fn kinds(&self) -> impl Iterator<Item = &Kind> {
        let versions = self.asked.values().chain(self.calculated.values());
        versions.chain(&self.meta).chain(&self.selected)
    }
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
    pub(super) origins: Origins,
    pub(super) identifiable: bool,
    pub(super) description: Option<String>,
    /// Of labels.
    pub(super) labels: BTreeMap<String, String>,
    /// For the data dictionary.
    pub(super) source: Option<&'static str>,
    /// The columns of a set.
    choices: Vec<Choice>,
}

/// A column of a set.
#[derive(Debug, Clone)]
struct Choice {
    /// The labels that it stands for, by their places among all.
    labels: Vec<usize>,
    /// What they are in names.
    token: String,
    /// What it is called where it cannot be called by the field and the token.
    given: Option<String>,
}

/// One column for each label, but for those that no version tells apart and that are alike in names.
fn choices(kind: &Kind, origins: &Origins) -> Vec<Choice> {
    let Kind::EnumerationSet(labels) = kind else { return Vec::new() };
    let has = |version: &Kind, at: usize| match version {
        Kind::Enumeration(own) | Kind::EnumerationSet(own) => {
            labels.get(at).is_some_and(|label| own.contains(label))
        }
        Kind::Simple(_) | Kind::Json => false,
    };
    let are_told_apart = |a, b| origins.kinds().any(|kind| has(kind, a) && has(kind, b));
    let mut choices: Vec<Choice> = Vec::new();
    for (at, label) in labels.iter().enumerate() {
        let token = name::clean(label);
        let same = choices.iter_mut().find(|choice| {
            choice.token == token && !choice.labels.iter().any(|other| are_told_apart(*other, at))
        });
        match same {
            Some(choice) => choice.labels.push(at),
            None => choices.push(Choice { labels: vec![at], token, given: None }),
        }
    }
    choices
}

impl Field {
    pub(super) fn new(id: &str, kind: Kind, origin: Origin<'_>) -> Result<Field, Error> {
        let name = name::safe(id)?;
        let origins = Origins::of(origin, &kind);
        let title = id.split_whitespace().collect::<Vec<_>>().join(" ");
        Ok(Field {
            id: id.to_owned(),
            title: Some(title).filter(|title| *title != name && !title.is_empty()),
            name,
            choices: choices(&kind, &origins),
            origins,
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
        self.origins.merge(other.origins);
        self.choices = choices(&self.kind, &self.origins);
        self.identifiable |= other.identifiable;
        self.description = self.description.take().or(other.description);
        for (label, text) in other.labels {
            self.labels.entry(label).or_insert(text);
        }
        Ok(())
    }

    /// The columns that it becomes: the labels that each stands for, where it is one of a set, and
    /// the name.
    pub(super) fn columns(&self) -> Vec<(Vec<&str>, String)> {
        match &self.kind {
            Kind::EnumerationSet(labels) => self
                .choices
                .iter()
                .map(|choice| {
                    let stands_for = choice.labels.iter().filter_map(|at| labels.get(*at));
                    let column = choice.given.clone().unwrap_or_else(|| {
                        let column = format!("{}_{}", self.name, choice.token);
                        name::cut(&column, name::MAX_LENGTH).to_owned()
                    });
                    (stands_for.map(String::as_str).collect(), column)
                })
                .collect(),
            _ => vec![(Vec::new(), self.name.clone())],
        }
    }

    /// Gives one of its columns another name.
    pub(super) fn rename(&mut self, column: usize, name: String) {
        match (&self.kind, self.choices.get_mut(column)) {
            (Kind::EnumerationSet(_), Some(choice)) => choice.given = Some(name),
            (Kind::EnumerationSet(_), None) => {}
            _ => self.name = name,
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

    /// Puts the cells of its columns for a value that `was` meant so, in the order of the columns;
    /// what is null stays as the default has it.
    pub(super) fn put(
        &self,
        value: Raw<'_>,
        was: &Kind,
        put: &mut dyn FnMut(Cell<'_>),
    ) -> Result<(), Error> {
        let value = value.read_as(was);
        match &self.kind {
            Kind::EnumerationSet(labels) => {
                let truths = set(labels, &value)?;
                let is_true = |at: &usize| truths.get(*at) == Some(&true);
                for choice in &self.choices {
                    put(Cell::Boolean(choice.labels.iter().any(is_true)));
                }
            }
            Kind::Enumeration(labels) => put(enumeration(labels, &value)?),
            Kind::Json if value.is_limitless() => return Err(refused("json\"", &value)),
            Kind::Json => put(Cell::Text(value.json().into())),
            Kind::Simple(ty) => put(value.cell(*ty)?),
        }
        Ok(())
    }

    /// Puts the cells of its columns where there is no value.
    pub(super) fn put_nothing(&self, put: &mut dyn FnMut(Cell<'_>)) {
        match &self.kind {
            Kind::EnumerationSet(_) => {
                self.choices.iter().for_each(|_| put(Cell::Boolean(false)));
            }
            _ => put(Cell::Null),
        }
    }
}

/// What a column is given.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell<'a> {
    Null,
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(Cow<'a, str>),
}

fn refused(shown: &str, value: &Raw<'_>) -> Error {
    Error::new(format!("Cannot cast value to type \"{shown}: {}", value.repr()))
}

fn enumeration<'a>(labels: &[String], value: &'a Raw<'_>) -> Result<Cell<'a>, Error> {
    match value {
        Raw::Null => Ok(Cell::Null),
        Raw::Text(text) if labels.iter().any(|label| label == text) => {
            Ok(Cell::Text(Cow::Borrowed(text)))
        }
        // The original's text has no closing quote.
        other => Err(refused(&format!("enumeration({})", labels.join(",")), other)),
    }
}

/// Whether each label is in the set.
fn set(labels: &[String], value: &Raw<'_>) -> Result<Vec<bool>, Error> {
    let mut truths = vec![false; labels.len()];
    let mut choose = |label: Option<&str>| {
        let at = label.and_then(|label| labels.iter().position(|known| known == label));
        match at.and_then(|at| truths.get_mut(at)) {
            Some(truth) => *truth = true,
            None => {
                let shown = format!("enumerationSet({})", labels.join(","));
                return Err(refused(&shown, value));
            }
        }
        Ok(())
    };
    match value {
        Raw::Null => {}
        Raw::Other(list @ Json::List(_)) => {
            list.items().iter().try_for_each(|item| match item {
                Json::Text(text) => choose(Some(text)),
                _ => choose(None),
            })?;
        }
        Raw::Text(text) => choose(Some(text))?,
        _ => choose(None)?,
    }
    Ok(truths)
}

/// A value as it comes from an assessment or a selector.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Raw<'a> {
    Null,
    Boolean(bool),
    Integer(i64),
    /// The digits of a number that is beyond that, or beyond what a float can be.
    Long(Cow<'a, str>),
    Float(f64),
    /// Digits.
    Decimal(Cow<'a, str>),
    Text(Cow<'a, str>),
    /// `YYYY-MM-DD`.
    Date(Cow<'a, str>),
    /// `HH:MM:SS` with decimals.
    Time(Cow<'a, str>),
    /// `YYYY-MM-DDTHH:MM:SS` with decimals.
    DateTime(Cow<'a, str>),
    /// A list or a mapping.
    Other(Json<'a>),
}

impl<'a> Raw<'a> {
    pub(super) fn of_json(json: &'a Json<'_>) -> Raw<'a> {
        match json {
            Json::Null => Raw::Null,
            Json::Boolean(truth) => Raw::Boolean(*truth),
            Json::Integer(number) => Raw::Integer(*number),
            Json::Long(digits) => Raw::Long(Cow::Borrowed(digits)),
            Json::Float(number) => Raw::Float(*number),
            Json::Text(text) => Raw::Text(Cow::Borrowed(text)),
            Json::List(_) | Json::Object(_) => Raw::Other(json.clone()),
        }
    }

    /// Without borrowing what it is to outlive.
    pub(super) fn into_owned(self) -> Raw<'static> {
        let own = |text: Cow<'a, str>| Cow::Owned(text.into_owned());
        match self {
            Raw::Null => Raw::Null,
            Raw::Boolean(truth) => Raw::Boolean(truth),
            Raw::Integer(number) => Raw::Integer(number),
            Raw::Float(number) => Raw::Float(number),
            Raw::Long(text) => Raw::Long(own(text)),
            Raw::Decimal(text) => Raw::Decimal(own(text)),
            Raw::Text(text) => Raw::Text(own(text)),
            Raw::Date(text) => Raw::Date(own(text)),
            Raw::Time(text) => Raw::Time(own(text)),
            Raw::DateTime(text) => Raw::DateTime(own(text)),
            Raw::Other(value) => Raw::Other(value.into_owned()),
        }
    }

    /// What a version of an instrument meant by it: dates and times are texts in assessments.
    fn read_as(self, kind: &Kind) -> Raw<'a> {
        let (Raw::Text(text), Kind::Simple(ty)) = (&self, kind) else { return self };
        let meant = match ty {
            DataType::Date => Raw::Date,
            DataType::Time => Raw::Time,
            DataType::DateTime => Raw::DateTime,
            _ => return self,
        };
        match ty.value_val().value(&json!(text)) {
            Ok(Value::String(text)) => meant(text.into()),
            _ => self,
        }
    }

    /// As a cell of a column of that type.
    fn cell(&self, ty: DataType) -> Result<Cell<'_>, Error> {
        let whole = |text| Some(Cell::Text(Cow::Borrowed(text)));
        let cell = match (ty, self) {
            (_, Raw::Null) => Some(Cell::Null),
            (DataType::Text, Raw::Integer(number)) => Some(Cell::Integer(*number)),
            (DataType::Text, _) => self.as_text().map(Cell::Text),
            (DataType::Integer, _) => self.as_integer().map(Cell::Integer),
            (DataType::Float, _) => self.as_float().map(Cell::Float),
            (DataType::Boolean, _) => self.as_boolean().map(Cell::Boolean),
            (DataType::Date, Raw::Date(text))
            | (DataType::Time, Raw::Time(text))
            | (DataType::DateTime, Raw::DateTime(text)) => whole(text),
            (DataType::Date, Raw::DateTime(text)) => text.get(..10).and_then(whole),
            (DataType::Time, Raw::DateTime(text)) => text.get(11..).and_then(whole),
            (DataType::DateTime, Raw::Date(text)) => {
                Some(Cell::Text(format!("{text}T00:00:00").into()))
            }
            (DataType::Date | DataType::Time | DataType::DateTime, _) => None,
        };
        cell.ok_or_else(|| refused(&format!("{}\"", Kind::Simple(ty).name()), self))
    }

    pub(super) fn as_text(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Raw::Null => return None,
            Raw::Boolean(truth) => if *truth { "TRUE" } else { "FALSE" }.into(),
            Raw::Other(value) => repr_json(&value.to_string()).into(),
            Raw::Float(number) => float_repr(*number).into(),
            Raw::Long(text) if text.contains(['e', 'E']) => repr_json(text).into(),
            Raw::Integer(number) => number.to_string().into(),
            Raw::Long(text)
            | Raw::Decimal(text)
            | Raw::Text(text)
            | Raw::Date(text)
            | Raw::Time(text)
            | Raw::DateTime(text) => Cow::Borrowed(text),
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
            Raw::Long(text) | Raw::Decimal(text) | Raw::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    fn as_boolean(&self) -> Option<bool> {
        match self {
            Raw::Boolean(truth) => Some(*truth),
            Raw::Integer(number) => Some(*number != 0),
            Raw::Float(number) => Some(*number != 0.0),
            Raw::Long(_) => Some(true),
            Raw::Decimal(text) => Some(text.bytes().any(|b| (b'1'..=b'9').contains(&b))),
            Raw::Text(text) => Some(!text.is_empty()),
            _ => None,
        }
    }

    /// Whether PostgreSQL has no document of it.
    fn is_limitless(&self) -> bool {
        match self {
            Raw::Float(number) => !number.is_finite(),
            Raw::Other(value) => value.is_limitless(),
            _ => false,
        }
    }

    /// As a document.
    fn json(&self) -> String {
        match self {
            Raw::Null => Value::Null.to_string(),
            Raw::Boolean(truth) => truth.to_string(),
            Raw::Integer(number) => number.to_string(),
            Raw::Float(number) => json!(number).to_string(),
            Raw::Long(text) | Raw::Decimal(text) => text.to_string(),
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
            Raw::Long(digits) => repr_json(digits),
            Raw::Float(number) => float_repr(*number),
            Raw::Decimal(text) => format!("Decimal('{text}')"),
            Raw::Text(text) => repr(&json!(text)),
            Raw::Date(text) => crate::parameter::repr_typed(&json!(text), DataType::Date),
            Raw::Time(text) => crate::parameter::repr_typed(&json!(text), DataType::Time),
            Raw::DateTime(text) => crate::parameter::repr_typed(&json!(text), DataType::DateTime),
            Raw::Other(value) => repr_json(&value.to_string()),
        }
    }
}

/// As Python shows it.
fn float_repr(number: f64) -> String {
    match number.is_finite() {
        true => repr(&json!(number)),
        false => number.to_string().to_lowercase(),
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
