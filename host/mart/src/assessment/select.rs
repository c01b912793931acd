//! The selector of an assessment: the columns that its query gives, and its records one by one.

use std::io;

use rex_db::{Item, More, Session, Sink};
use rex_htsql::domain::Domain;
use rex_htsql::plan::Format;
use rex_htsql::profile::Profile;
use rex_htsql::{Params, Value, literal};
use rex_yaml::Error;

use super::document::Json;
use super::field::{Field, Kind, Origin, Raw};
use super::table::ASSESSMENT;
use crate::definition::{Assessment, duplicates};
use crate::failure::guarded;
use crate::parameter::DataType;

/// What a selector gives.
#[derive(Debug)]
pub(super) struct Selection {
    query: String,
    params: Params,
    columns: Vec<(String, Domain)>,
    /// Columns that name parents.
    parents: Vec<String>,
}

/// A record of a selector, in the order of its columns; identities are told as lists of labels.
pub(super) type Selected = Vec<Picked>;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Picked {
    pub(super) raw: Raw<'static>,
    /// The labels of an identity, nested ones in a row.
    pub(super) identity: Option<Vec<String>>,
}

impl Selection {
    /// Looks at the query without running it.
    ///
    /// # Errors
    /// It is wrong, or lacks columns that it must have.
    pub(super) fn of(
        assessment: &Assessment,
        params: Params,
        mart: &mut Session,
    ) -> Result<Selection, Error> {
        let query = assessment.selector.query.clone();
        let profile = guarded(mart.analyze(&query, &params))?;
        let fields = profile.fields().unwrap_or_default();
        let columns: Vec<(String, Domain)> = fields
            .iter()
            .map(|field| {
                let name = field.tag.clone().or_else(|| field.header.clone());
                (name.unwrap_or_default(), field.domain.clone())
            })
            .collect();
        let has = |name: &str| columns.iter().any(|(known, _)| known == name);
        if !has(ASSESSMENT) {
            return Err(Error::new(
                "Selector does not include \"assessment_uid\" field specifying Assessment UIDs",
            ));
        }
        let parents = &assessment.parental_relationship.parent;
        let missing: Vec<&str> =
            parents.iter().map(String::as_str).filter(|parent| !has(parent)).collect();
        if !missing.is_empty() {
            return Err(Error::new(format!(
                "Selector is missing fields declared as parental links: {}",
                missing.join(", ")
            )));
        }
        match duplicates(columns.iter().map(|(name, _)| name.as_str())).as_str() {
            "" => Ok(Selection { query, params, columns, parents: parents.clone() }),
            names => Err(Error::new(format!(
                "Selector includes multiple fields with the same name: {names}"
            ))),
        }
    }

    /// The fields that its columns become: all but those that every table of assessments has.
    pub(super) fn fields(&self) -> Result<Vec<Field>, Error> {
        let columns = self.columns.iter().filter(|(name, _)| self.is_field(name));
        columns.map(|(name, domain)| Field::new(name, kind(domain), Origin::Selected)).collect()
    }

    fn is_field(&self, name: &String) -> bool {
        name != ASSESSMENT && name != super::table::VERSION && !self.parents.contains(name)
    }

    /// What a record has for the field of this name.
    pub(super) fn value<'a>(&self, selected: &'a Selected, name: &str) -> Option<&'a Raw<'static>> {
        let at = self.columns.iter().position(|(known, _)| known == name)?;
        let (known, _) = self.columns.get(at)?;
        self.is_field(known).then_some(&selected.get(at)?.raw)
    }

    /// What a record has in the column of this name.
    pub(super) fn pick<'a>(&self, selected: &'a Selected, name: &str) -> Option<&'a Picked> {
        selected.get(self.columns.iter().position(|(known, _)| known == name)?)
    }

    /// Runs the query and hands its records over, in portions.
    pub(super) fn each(
        &self,
        mart: &mut Session,
        size: usize,
        take: &mut dyn FnMut(Vec<Selected>) -> bool,
    ) -> Result<(), Error> {
        let mut portions =
            Portions { selection: self, size, full: Vec::new(), take, stopped: false };
        let streamed = guarded(mart.stream(&self.query, &self.params, &mut portions));
        if portions.stopped {
            return Ok(());
        }
        streamed?;
        portions.hand_over();
        Ok(())
    }

    fn picked(&self, record: Value) -> Selected {
        let Value::Record(values) = record else { return Selected::new() };
        let columns = self.columns.iter().zip(values);
        columns.map(|((_, domain), value)| picked(domain, value)).collect()
    }
}

fn kind(domain: &Domain) -> Kind {
    Kind::Simple(match domain {
        Domain::Boolean => DataType::Boolean,
        Domain::Integer => DataType::Integer,
        Domain::Decimal | Domain::Float => DataType::Float,
        Domain::Date => DataType::Date,
        Domain::Time => DataType::Time,
        Domain::DateTime => DataType::DateTime,
        Domain::Enum(ty) => return Kind::Enumeration(ty.labels.clone()),
        Domain::Json => return Kind::Json,
        _ => DataType::Text,
    })
}

fn picked(domain: &Domain, value: Value) -> Picked {
    let identity = match (domain, &value) {
        (Domain::Identity(_), Value::Identity(_)) => Some(labels(domain, &value)),
        _ => None,
    };
    let text = |value: &Value| literal::plain_text(domain, value).unwrap_or_default();
    let raw = match value {
        Value::Null => Raw::Null,
        Value::Boolean(truth) => Raw::Boolean(truth),
        Value::Integer(number) => Raw::Integer(number),
        Value::Float(number) => Raw::Float(number),
        Value::Decimal(digits) => Raw::Decimal(digits.into()),
        Value::Text(text) => Raw::Text(text.into()),
        Value::Date(_) => Raw::Date(text(&value).into()),
        Value::Time(_) => Raw::Time(text(&value).into()),
        Value::DateTime(_) => Raw::DateTime(text(&value).replace(' ', "T").into()),
        Value::Json(text) => match Json::read(&text).map(|json| Raw::of_json(&json).into_owned()) {
            Ok(raw) => raw,
            Err(_) => Raw::Text(text.into()),
        },
        Value::Identity(_) | Value::Record(_) | Value::List(_) => Raw::Text(text(&value).into()),
    };
    Picked { raw, identity }
}

fn labels(domain: &Domain, value: &Value) -> Vec<String> {
    match (domain, value) {
        (Domain::Identity(domains), Value::Identity(values)) => {
            domains.iter().zip(values).flat_map(|(domain, value)| labels(domain, value)).collect()
        }
        _ => vec![literal::plain_text(domain, value).unwrap_or_default()],
    }
}

/// Gathers records until there are enough to go on with.
struct Portions<'a> {
    selection: &'a Selection,
    size: usize,
    full: Vec<Selected>,
    take: &'a mut dyn FnMut(Vec<Selected>) -> bool,
    /// Whoever takes them has had enough.
    stopped: bool,
}

impl Portions<'_> {
    fn hand_over(&mut self) {
        if !self.full.is_empty() {
            self.stopped = !(self.take)(std::mem::take(&mut self.full));
        }
    }
}

impl Sink for Portions<'_> {
    fn begin(&mut self, _profile: &Profile, _is_list: bool) -> io::Result<()> {
        Ok(())
    }

    fn item(&mut self, item: Item, more: &mut More<'_>) -> io::Result<()> {
        self.full.push(self.selection.picked(item.into_value(more)?));
        if self.full.len() >= self.size {
            self.hand_over();
        }
        if self.stopped { Err(io::Error::other("enough")) } else { Ok(()) }
    }

    fn format(&mut self, _format: Format) {}
}
