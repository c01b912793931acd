//! Values that scripts, selectors and calculations read by name: typed ones that a definition asks
//! for, and plain ones; how they reach HTSQL and SQL, and how a log shows them.

use std::collections::BTreeMap;

use rex_htsql::domain::Domain;
use rex_htsql::{Param, Params, literal};
use rex_yaml::validate::Val;
use rex_yaml::{Error, Given};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a parameter, a field or a calculation holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DataType {
    Text,
    Integer,
    Float,
    Boolean,
    Date,
    Time,
    DateTime,
}

impl DataType {
    /// In the order in which errors list them.
    pub(crate) const ALL: [DataType; 7] = [
        DataType::Text,
        DataType::Integer,
        DataType::Float,
        DataType::Boolean,
        DataType::Date,
        DataType::Time,
        DataType::DateTime,
    ];

    /// As definitions spell it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            DataType::Text => "text",
            DataType::Integer => "integer",
            DataType::Float => "float",
            DataType::Boolean => "boolean",
            DataType::Date => "date",
            DataType::Time => "time",
            DataType::DateTime => "dateTime",
        }
    }

    pub(crate) fn val() -> Val {
        Val::Choice(DataType::ALL.map(|ty| ty.name().to_owned()).to_vec())
    }

    /// What a value of the type must be.
    pub(crate) fn value_val(self) -> Val {
        match self {
            DataType::Text => Val::Str,
            DataType::Integer => Val::Int { min: None, max: None },
            DataType::Float => Val::Float,
            DataType::Boolean => Val::Bool,
            DataType::Date => Val::Date,
            DataType::Time => Val::Time,
            DataType::DateTime => Val::DateTime,
        }
    }

    fn domain(self) -> Domain {
        match self {
            DataType::Text => Domain::Untyped,
            DataType::Integer => Domain::Integer,
            DataType::Float => Domain::Float,
            DataType::Boolean => Domain::Boolean,
            DataType::Date => Domain::Date,
            DataType::Time => Domain::Time,
            DataType::DateTime => Domain::DateTime,
        }
    }
}

/// A value with its type; without one it is what its JSON says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bound {
    pub(crate) value: Given,
    pub(crate) ty: Option<DataType>,
}

impl Bound {
    fn param(&self) -> Result<Param, Error> {
        match (&self.value, self.ty) {
            (Given::Null, Some(ty)) => {
                Ok(Param { domain: ty.domain(), value: rex_htsql::Value::Null })
            }
            (Given::Text(text), Some(DataType::Integer)) => {
                rex_db::from_json(text).map_err(Error::new)
            }
            (Given::Text(text), Some(ty)) if ty != DataType::Text => {
                let value = literal::parse(&ty.domain(), text).map_err(Error::new)?;
                Ok(Param { domain: ty.domain(), value })
            }
            (Given::Number(number), Some(DataType::Float)) => {
                let value = rex_htsql::Value::Float(number.as_f64().unwrap_or_default());
                Ok(Param { domain: Domain::Float, value })
            }
            (Given::Long(digits), _) => decimal(digits),
            (Given::List(items), _) if items.iter().any(is_long) => decimals(items),
            (value, _) => {
                let text = serde_json::to_string(value);
                let text = text.map_err(|error| Error::new(error.to_string()))?;
                rex_db::from_json(&text).map_err(Error::new)
            }
        }
    }

    /// As a literal of SQL.
    fn sql(&self) -> Result<String, Error> {
        let quoted = |text: &str| rex_deploy::sql::text(text);
        // What follows a minus sign could make a comment or an operator of it.
        let number = |text: String| if text.starts_with('-') { format!(" {text}") } else { text };
        Ok(match (&self.value, self.ty) {
            (Given::Null, _) => "NULL".to_owned(),
            (Given::Text(text), Some(DataType::Date)) => format!("{}::date", quoted(text)),
            (Given::Text(text), Some(DataType::Time)) => format!("{}::time", quoted(text)),
            (Given::Text(text), Some(DataType::DateTime)) => {
                format!("{}::timestamp", quoted(text))
            }
            (Given::Text(text), Some(DataType::Integer)) => number(text.clone()),
            (Given::Text(text), _) => quoted(text),
            (Given::Number(digits), _) => number(digits.to_string()),
            (Given::Long(digits), _) => number(digits.clone()),
            (Given::List(items), _) => {
                let items: Result<Vec<String>, Error> = items
                    .iter()
                    .map(|item| Bound { value: item.clone(), ty: None }.sql())
                    .collect();
                match items? {
                    items if items.is_empty() => "'{}'".to_owned(),
                    items => format!("ARRAY[{}]", items.join(", ")),
                }
            }
            (Given::Object(_), _) => {
                return Err(Error::new("A mapping cannot be a parameter of SQL"));
            }
            (Given::Boolean(truth), _) => truth.to_string(),
        })
    }

    /// As Python shows it.
    fn repr(&self) -> String {
        match (&self.value, self.ty) {
            (Given::Text(text), Some(DataType::Date | DataType::Time | DataType::DateTime)) => {
                let class = match self.ty {
                    Some(DataType::Date) => "date",
                    Some(DataType::Time) => "time",
                    _ => "datetime",
                };
                let numbers = text.split(|c: char| !c.is_ascii_digit());
                let mut numbers: Vec<String> =
                    numbers.map(|part| part.trim_start_matches('0').to_owned()).collect();
                for number in numbers.iter_mut().filter(|number| number.is_empty()) {
                    number.push('0');
                }
                // Python leaves out seconds that are zero.
                if class != "date" && numbers.last().is_some_and(|last| last == "0") {
                    numbers.pop();
                }
                format!("datetime.{class}({})", numbers.join(", "))
            }
            // One that no number of plain data can be.
            (Given::Text(digits), Some(DataType::Integer)) => digits.clone(),
            (value, _) => value.repr(),
        }
    }
}

fn is_long(given: &Given) -> bool {
    matches!(given, Given::Long(_))
}

/// A number that is beyond integers and doubles.
fn decimal(digits: &str) -> Result<Param, Error> {
    let value = literal::parse(&Domain::Decimal, digits).map_err(Error::new)?;
    Ok(Param { domain: Domain::Decimal, value })
}

/// Numbers of which one is such: all items of a list are of one domain.
fn decimals(items: &[Given]) -> Result<Param, Error> {
    let item = |item: &Given| match item {
        Given::Null => Ok(rex_htsql::Value::Null),
        Given::Text(digits) | Given::Long(digits) => decimal(digits).map(|param| param.value),
        Given::Number(number) => decimal(&number.to_string()).map(|param| param.value),
        Given::Boolean(_) | Given::List(_) | Given::Object(_) => {
            Err(Error::new("Expected a list of numbers").guard("Got:", item.repr()))
        }
    };
    let values = items.iter().map(item).collect::<Result<_, _>>()?;
    let domain = Domain::List(Box::new(Domain::Decimal));
    Ok(Param { domain, value: rex_htsql::Value::List(values) })
}

/// A value of a type as Python shows it.
pub(crate) fn repr_typed(value: &Value, ty: DataType) -> String {
    Bound { value: value.into(), ty: Some(ty) }.repr()
}

/// Parameters by name, in the order in which they were first given.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parameters(Vec<(String, Bound)>);

impl Parameters {
    /// The values of what a definition asks for.
    ///
    /// # Errors
    /// A value is missing, wrong or not asked for.
    pub(crate) fn bind(
        asked: &[Parameter],
        given: &Map<String, Value>,
    ) -> Result<Parameters, Error> {
        let mut bound = Parameters::default();
        for Parameter { name, ty, default } in asked {
            let value = match (given.get(name), default) {
                (Some(Value::Null) | None, Some(default)) => default.clone(),
                (None, None) => {
                    return Err(Error::new(format!("Missing required parameter \"{name}\"")));
                }
                (Some(value), _) => ty
                    .value_val()
                    .value(value)
                    .map_err(|error| error.guard("While validating parameter:", name))?,
            };
            bound.0.push((name.clone(), Bound { value: (&value).into(), ty: Some(*ty) }));
        }
        let is_asked = |name: &String| asked.iter().any(|parameter| parameter.name == *name);
        let mut unknown: Vec<&str> =
            given.keys().filter(|name| !is_asked(name)).map(String::as_str).collect();
        unknown.sort_unstable();
        match unknown.as_slice() {
            [] => Ok(bound),
            names => Err(Error::new(format!("Unknown parameters: {}", names.join(", ")))),
        }
    }

    /// `plain` ones, over which these go.
    pub(crate) fn over(&self, plain: &Given) -> Parameters {
        let plain = match plain {
            Given::Object(members) => members.as_slice(),
            _ => &[],
        };
        let bound = |value: &Given| Bound { value: value.clone(), ty: None };
        let mut all =
            Parameters(plain.iter().map(|(name, value)| (name.clone(), bound(value))).collect());
        for (name, bound) in &self.0 {
            all.set(name, bound.clone());
        }
        all
    }

    pub(crate) fn set_plain(&mut self, name: &str, value: impl Into<Value>) {
        self.set(name, Bound { value: (&value.into()).into(), ty: None });
    }

    fn set(&mut self, name: &str, bound: Bound) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = bound,
            None => self.0.push((name.to_owned(), bound)),
        }
    }

    /// `foo='hello', bar=42`; empty when there are none.
    pub(crate) fn shown(&self) -> String {
        let shown: Vec<String> =
            self.0.iter().map(|(name, bound)| format!("{name}={}", bound.repr())).collect();
        shown.join(", ")
    }

    /// For a query.
    pub(crate) fn htsql(&self) -> Result<Params, Error> {
        let mut params = Params::new();
        for (name, bound) in &self.0 {
            let param =
                bound.param().map_err(|error| error.guard("While reading parameter:", name));
            params.set(name, param?);
        }
        Ok(params)
    }

    /// A script of SQL with `%(name)s` and `%%` filled in; any other `%` stands for itself.
    ///
    /// # Errors
    /// There is no such parameter, or it has no literal.
    pub(crate) fn fill(&self, script: &str) -> Result<String, Error> {
        let known: BTreeMap<&str, &Bound> =
            self.0.iter().map(|(name, bound)| (name.as_str(), bound)).collect();
        let mut filled = String::with_capacity(script.len());
        let mut rest = script;
        while let Some(at) = rest.find('%') {
            filled.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                filled.push('%');
                rest = after;
            } else if let Some((name, after)) =
                rest.strip_prefix('(').and_then(|rest| rest.split_once(")s"))
                && !name.contains(['(', ')', '%'])
            {
                let bound = known
                    .get(name)
                    .ok_or_else(|| Error::new(format!("Missing required parameter \"{name}\"")))?;
                filled.push_str(&bound.sql()?);
                rest = after;
            } else {
                filled.push('%');
            }
        }
        filled.push_str(rest);
        Ok(filled)
    }
}

/// What a definition asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parameter {
    pub name: String,
    #[serde(rename = "type")]
    pub ty: DataType,
    /// `None`: a value must be given.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
}

/// A null that is written is a value.
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests;
