//! Assessments of a definition: which instruments become tables, with which fields, for whom.

use std::collections::BTreeSet;

use rex_yaml::validate::{Field, Test, Union, Val};
use rex_yaml::{Error, Given, repr};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::name;
use crate::parameter::DataType;

/// A table of assessments.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Assessment {
    /// UIDs of the instruments whose assessments go into the table.
    pub instrument: Vec<String>,
    /// The name of the table.
    pub name: String,
    pub selector: Selector,
    pub parental_relationship: Relationship,
    pub identifiable: Identifiable,
    /// `None` for none, an empty list for all.
    pub fields: Option<Vec<String>>,
    pub calculations: Option<Vec<String>>,
    /// One name with its type each.
    pub meta: Option<Vec<std::collections::BTreeMap<String, DataType>>>,
    pub post_load_calculations: Vec<Calculation>,
}

/// A query whose records name the assessments, and its parameters.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Selector {
    pub query: String,
    /// By name.
    pub parameters: Given,
}

/// How a table of assessments hangs on others.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Relationship {
    #[serde(rename = "type")]
    pub kind: RelationshipKind,
    pub parent: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RelationshipKind {
    /// Stands alone.
    Trunk,
    /// One record for one of the parent's.
    Facet,
    /// Any number for one of the parent's.
    Branch,
    /// One record for each combination of the parents'.
    Cross,
    /// Any number for each combination.
    Ternary,
}

/// Which fields, seen from whether they identify a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Identifiable {
    Any,
    Only,
    None,
}

/// A column that is computed once the rows are there.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Calculation {
    pub name: String,
    #[serde(rename = "type")]
    pub ty: DataType,
    /// HTSQL over a record of the table.
    pub expression: String,
}

/// An assessment, or what stands for any number of them until a mart is made.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    One(Box<Assessment>),
    /// One for each instrument, all like this, with these parameters of selectors.
    All(Value, Given),
    /// Those that a definer names.
    Dynamic(String),
}

impl Source {
    /// Takes what [`source_val`] let through, and the parameters of the selector as they are written.
    pub(crate) fn of(value: Value, parameters: Given) -> Result<Source, Error> {
        if let Some(definer) = value.get("dynamic").and_then(Value::as_str) {
            return Ok(Source::Dynamic(definer.to_owned()));
        }
        if is_all(&value) {
            return Ok(Source::All(value, parameters));
        }
        Assessment::with(value, parameters).map(Box::new).map(Source::One)
    }
}

impl Assessment {
    /// Takes what [`val`] let through.
    pub(crate) fn of(value: Value) -> Result<Assessment, Error> {
        serde_json::from_value(value).map_err(|error| Error::new(error.to_string()))
    }

    fn with(value: Value, parameters: Given) -> Result<Assessment, Error> {
        let mut assessment = Assessment::of(value)?;
        assessment.selector.parameters = parameters;
        Ok(assessment)
    }
}

fn is_all(value: &Value) -> bool {
    value["instrument"].as_array().is_some_and(|items| items.contains(&json!(ALL)))
}

/// The instrument that stands for all.
pub(crate) const ALL: &str = "@ALL";

/// Longer names leave no room for those of the tables around.
const MAX_NAME: usize = 60;

/// Metadata whose type is known.
const STANDARD_META: [(&str, &str); 4] = [
    ("language", "text"),
    ("application", "text"),
    ("dateCompleted", "dateTime"),
    ("timeTaken", "integer"),
];

/// What reads assessments from tables.
const DEFINERS: [&str; 1] = ["rexdb"];

pub(crate) fn source_val() -> Val {
    Val::Union(Union {
        variants: vec![(Test::Field("instrument"), val()), (Test::Field("dynamic"), dynamic())],
        default: None,
    })
}

fn dynamic() -> Val {
    let definer = Val::checked(Val::Str, |id| match id.as_str() {
        Some(id) if DEFINERS.contains(&id) => Ok(id.into()),
        id => Err(Error::new("Unknown Definer ID").guard("Got:", id.unwrap_or_default())),
    });
    Val::record(vec![
        Field::required("dynamic", definer),
        Field::optional("options", Val::map(Val::Any, Val::Any), json!({})),
    ])
}

/// What an assessment must look like; tells instruments, name and the rest apart.
pub(crate) fn val() -> Val {
    let texts = || list(Val::OneOrSeq(Box::new(Val::Str)));
    let all_or_some = || Val::maybe(texts());
    let record = Val::record(vec![
        Field::required("instrument", Val::checked(texts(), instruments)),
        Field::optional("name", Val::maybe(token()), Value::Null),
        Field::required("selector", selector()),
        Field::optional(
            "parental_relationship",
            relationship(),
            json!({"type": "trunk", "parent": []}),
        ),
        Field::optional(
            "identifiable",
            Val::Choice(["any", "only", "none"].map(str::to_owned).to_vec()),
            json!("any"),
        ),
        Field::optional("fields", all_or_some(), json!([])),
        Field::optional("calculations", all_or_some(), json!([])),
        Field::optional("meta", Val::maybe(list(Val::OneOrSeq(Box::new(meta())))), Value::Null),
        Field::optional(
            "post_load_calculations",
            Val::checked(list(Val::OneOrSeq(Box::new(calculation()))), calculations),
            json!([]),
        ),
    ]);
    Val::checked(record, whole)
}

/// One value as a list of one.
fn list(one_or_seq: Val) -> Val {
    Val::checked(one_or_seq, |value| {
        Ok(if value.is_array() { value.clone() } else { json!([value]) })
    })
}

fn token() -> Val {
    Val::Pattern { shown: "^[a-z][a-z0-9_]*$", matches: name::is_safe }
}

fn instruments(value: &Value) -> Result<Value, Error> {
    match value.as_array().is_some_and(|items| items.iter().any(|item| item != "")) {
        true => Ok(value.clone()),
        false => Err(Error::new("Assessment does not specify any instruments")),
    }
}

fn selector() -> Val {
    let record = |query| {
        Val::record(vec![
            Field::required("query", query),
            Field::optional("parameters", Val::map(Val::Any, Val::Any), json!({})),
        ])
    };
    // Which of the two it is comes first, then whether it says anything.
    Val::checked(Val::OneOf(vec![Val::Str, record(Val::Str)]), |value| {
        let query = value.as_str().or_else(|| value["query"].as_str()).unwrap_or_default().trim();
        if query.is_empty() {
            return Err(Error::new("Selector querys cannot be empty")
                .guard("Got:", "''")
                .guard("While validating field:", "query"));
        }
        let parameters = value.get("parameters").cloned().unwrap_or_else(|| json!({}));
        Ok(json!({"query": query, "parameters": parameters}))
    })
}

fn relationship() -> Val {
    let kinds = ["trunk", "facet", "branch", "cross", "ternary"].map(str::to_owned).to_vec();
    let record = Val::record(vec![
        Field::required("type", Val::Choice(kinds)),
        Field::optional("parent", list(Val::OneOrSeq(Box::new(Val::Str))), json!([])),
    ]);
    Val::checked(record, |value| {
        let kind = value["type"].as_str().unwrap_or_default();
        let parents = value["parent"].as_array().map_or(0, Vec::len);
        let wrong = match kind {
            "trunk" if parents > 0 => "cannot have any parents",
            "facet" | "branch" if parents != 1 => "must have exactly one parent",
            "cross" | "ternary" if parents < 2 => "must have at least two parents",
            _ => return Ok(value.clone()),
        };
        Err(Error::new(format!("Relationship type \"{kind}\" {wrong}"))
            .guard("Got:", repr(&value["parent"]))
            .guard("While validating field:", "parent"))
    })
}

fn meta() -> Val {
    let typed = Val::checked(Val::map(Val::Str, DataType::val()), |value| {
        match value.as_object().into_iter().flatten().collect::<Vec<_>>().as_slice() {
            [(name, ty)] => {
                let standard = STANDARD_META.iter().find(|(known, _)| known == name);
                match standard {
                    Some((name, standard)) if *ty != standard => {
                        Err(Error::new(format!("Cannot redefine the standard type for \"{name}\"")))
                    }
                    _ => named(name, ty.as_str().unwrap_or_default()),
                }
            }
            _ => Err(Error::new("Mapping can only contain one element")),
        }
    });
    let plain = Val::checked(Val::Str, |value| {
        let name = value.as_str().unwrap_or_default();
        let standard = STANDARD_META.iter().find(|(known, _)| *known == name);
        named(name, standard.map_or("text", |(_, ty)| ty))
    });
    Val::Union(Union { variants: vec![(Test::Map, typed)], default: Some(Box::new(plain)) })
}

fn named(name: &str, ty: &str) -> Result<Value, Error> {
    if name == "calculations" {
        let text = "CalculationSet results are handled by the calculations property";
        return Err(Error::new(text));
    }
    Ok(json!({ name: ty }))
}

fn calculation() -> Val {
    Val::record(vec![
        Field::required("name", token()),
        Field::required("type", DataType::val()),
        Field::required("expression", Val::Str),
    ])
}

fn calculations(value: &Value) -> Result<Value, Error> {
    let names = value.as_array().into_iter().flatten().filter_map(|item| item["name"].as_str());
    match duplicates(names).as_str() {
        "" => Ok(value.clone()),
        names => Err(Error::new(format!(
            "Calculation Names ({names}) cannot be duplicated within an Assessment"
        ))),
    }
}

/// Names that come more than once, as a list; empty when none does.
pub(crate) fn duplicates<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut seen = BTreeSet::new();
    let mut twice = Vec::new();
    for name in names {
        if !seen.insert(name) && !twice.contains(&name) {
            twice.push(name);
        }
    }
    twice.join(", ")
}

/// What concerns several fields of an assessment.
fn whole(value: &Value) -> Result<Value, Error> {
    let mut value = value.clone();
    if is_all(&value) {
        let is_list = |name: &str| value[name].as_array().is_some_and(Vec::is_empty);
        let is_plain = value["name"].is_null()
            && ["fields", "calculations", "post_load_calculations"].iter().all(|n| is_list(n));
        if !is_plain {
            return Err(Error::new(
                "The \"name\", \"fields\", \"calculations\", and \"post_load_calculations\" \
                 properties are not allowed when @ALL is specified for the instrument.",
            ));
        }
        return Ok(value);
    }
    let at_name = |error: Error| error.guard("While validating field:", "name");
    let token = match value["name"].as_str() {
        Some(token) => token.to_owned(),
        None => name::safe(value["instrument"][0].as_str().unwrap_or_default()).map_err(at_name)?,
    };
    if token.len() > MAX_NAME {
        let text = format!("Name cannot be longer than {MAX_NAME} characters");
        return Err(at_name(Error::new(text).guard("Got:", token)));
    }
    value["name"] = token.into();
    let is_none = |name: &str| {
        value[name].is_null()
            || (name == "meta" && value[name].as_array().is_some_and(Vec::is_empty))
    };
    if ["fields", "calculations", "meta"].iter().all(|name| is_none(name)) {
        let text = "Assessment does not include any fields, calculations, or metadata";
        return Err(Error::new(text));
    }
    Ok(value)
}

/// The assessment of one instrument of all.
pub(crate) fn of_instrument(
    all: &Value,
    parameters: &Given,
    instrument: &str,
) -> Result<Assessment, Error> {
    let mut value = all.clone();
    value["instrument"] = json!([instrument]);
    Assessment::with(whole(&value)?, parameters.clone())
}

#[cfg(test)]
mod tests;
