//! Validators of lists, mappings, records and alternatives. In value mode text may hold the
//! collection as JSON (that is how the command line and the environment pass one); in YAML mode it
//! may not.

use serde_json::{Map, Value};

use super::{Input, Record, Test, Union, Val};
use crate::Error;
use crate::node::{Kind, Node, key_text};
use rex_plugin_api::pyrepr::repr;

type Checked = Result<Value, Error>;

pub(super) fn one_of(vals: &[Val], input: Input<'_>) -> Checked {
    let mut errors = Vec::new();
    for val in vals {
        match val.read(input) {
            Ok(value) => return Ok(value),
            Err(error) => errors.push(error.to_string()),
        }
    }
    let message = "Failed to match the value against any of the following:";
    Err(Error::with(message, errors.join("\n\n")))
}

/// Plain data, or what the text in it says as JSON; `None` when that is no JSON.
fn decoded(value: &Value) -> Option<std::borrow::Cow<'_, Value>> {
    use std::borrow::Cow;
    match value {
        Value::String(text) => serde_json::from_str(text).ok().map(Cow::Owned),
        value => Some(Cow::Borrowed(value)),
    }
}

pub(super) fn seq(item: &Val, input: Input<'_>) -> Checked {
    let nth = |n: usize, checked: Checked| {
        checked
            .map_err(|error| error.guard("While validating sequence item", format!("#{}", n + 1)))
    };
    let items: Result<Vec<Value>, Error> = match input {
        Input::Value(value) => {
            let decoded = decoded(value).ok_or_else(|| Error::new("Expected a JSON array"));
            match decoded.map_err(|error| input.got(error))?.as_ref() {
                Value::Array(items) => {
                    items.iter().enumerate().map(|(n, v)| nth(n, item.value(v))).collect()
                }
                _ => Err(input.got(Error::new("Expected a sequence"))),
            }
        }
        Input::Node(node) => match &node.kind {
            Kind::Seq(items) => {
                items.iter().enumerate().map(|(n, v)| nth(n, item.node(v))).collect()
            }
            _ if node.is_empty() => Ok(Vec::new()),
            _ => Err(input.got(Error::new("Expected a sequence"))),
        },
    };
    items.map(Value::Array)
}

fn object(value: &Value, expected: &str) -> Result<Map<String, Value>, Error> {
    let input = Input::Value(value);
    match decoded(value).map(std::borrow::Cow::into_owned) {
        None => Err(input.got(Error::new("Expected a JSON object"))),
        Some(Value::Object(object)) => Ok(object),
        Some(_) => Err(input.got(Error::new(expected))),
    }
}

fn map_key(val: &Val, input: Input<'_>, shown: &Value) -> Checked {
    val.read(input).map_err(|error| error.guard("While validating mapping key:", repr(shown)))
}

fn map_value(val: &Val, input: Input<'_>, key: &Value) -> Checked {
    val.read(input)
        .map_err(|error| error.guard("While validating mapping value for key:", repr(key)))
}

pub(super) fn map(key_val: &Val, value_val: &Val, input: Input<'_>) -> Checked {
    let mut entries: Vec<(String, Value)> = Vec::new();
    match input {
        Input::Value(value) => {
            let object = object(value, "Expected a mapping")?;
            let mut names: Vec<&String> = object.keys().collect();
            names.sort();
            for name in names {
                let shown = Value::String(name.clone());
                let key = map_key(key_val, Input::Value(&shown), &shown)?;
                let value = map_value(value_val, Input::Value(&object[name]), &key)?;
                entries.push((key_text(&key), value));
            }
        }
        Input::Node(node) => {
            let pairs = match &node.kind {
                Kind::Map(pairs) => pairs.as_slice(),
                _ if node.is_empty() => &[],
                _ => return Err(input.got(Error::new("Expected a mapping"))),
            };
            for (key_node, value_node) in pairs {
                let shown = key_node.key(node)?;
                let key = map_key(key_val, Input::Node(key_node), &shown)?;
                let name = key_text(&key);
                if entries.iter().any(|(known, _)| *known == name) {
                    return Err(node.duplicate(key_node));
                }
                entries.push((name, map_value(value_val, Input::Node(value_node), &key)?));
            }
        }
    }
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(Value::Object(entries.into_iter().collect()))
}

pub(super) fn omap(key_val: &Val, value_val: &Val, input: Input<'_>) -> Checked {
    let mut object = Map::new();
    let mut entry = |key: Input<'_>, shown: &Value, value: Input<'_>| {
        let key = map_key(key_val, key, shown)?;
        object.insert(key_text(&key), map_value(value_val, value, &key)?);
        Ok(())
    };
    match input {
        Input::Value(value) => {
            let expected = || input.got(Error::new("Expected an ordered mapping"));
            let json = || input.got(Error::new("Expected a JSON object"));
            for (key, value) in
                pairs_of(decoded(value).ok_or_else(json)?.as_ref()).ok_or_else(expected)?
            {
                entry(Input::Value(&key), &key, Input::Value(&value))?;
            }
        }
        Input::Node(node) => {
            let items = match &node.kind {
                Kind::Seq(items) => items.as_slice(),
                _ if node.is_empty() => &[],
                _ => return Err(input.got(Error::new("Expected an ordered mapping"))),
            };
            for item in items {
                match &item.kind {
                    Kind::Map(pairs) if pairs.len() == 1 => {
                        let (key, value) = &pairs[0];
                        entry(Input::Node(key), &key.key(item)?, Input::Node(value))?;
                    }
                    _ => {
                        let error = Error::new("Expected an entry of an ordered mapping");
                        return Err(Input::Node(item).got(error));
                    }
                }
            }
        }
    }
    Ok(Value::Object(object))
}

/// An object's entries, or those of a list of pairs and one-entry objects.
fn pairs_of(value: &Value) -> Option<Vec<(Value, Value)>> {
    let own = |(key, value): (&String, &Value)| (Value::String(key.clone()), value.clone());
    match value {
        Value::Object(object) => Some(object.iter().map(own).collect()),
        Value::Array(items) => items
            .iter()
            .map(|item| match item {
                Value::Object(object) if object.len() == 1 => object.iter().next().map(own),
                Value::Array(pair) => match pair.as_slice() {
                    [key, value] => Some((key.clone(), value.clone())),
                    _ => None,
                },
                _ => None,
            })
            .collect(),
        _ => None,
    }
}

fn field_name(name: &str) -> String {
    name.replace(['-', ' '], "_")
}

pub(super) fn record(record: &Record, input: Input<'_>) -> Checked {
    let found = match input {
        Input::Value(value) => given_fields(record, value)?,
        Input::Node(node) => node_fields(record, node)?,
    };
    let mut object = Map::new();
    for field in &record.fields {
        let value = match (found.get(field.name), &field.default) {
            (Some(Given::Raw(raw)), _) => field
                .val
                .value(raw)
                .map_err(|error| error.guard("While validating field:", field.name))?,
            (Some(Given::Checked(value)), _) => value.clone(),
            (None, Some(default)) => default.clone(),
            (None, None) => {
                let error = Error::with("Missing mandatory field:", field.name);
                return Err(match input {
                    Input::Value(_) => error,
                    Input::Node(node) => error.guard("While parsing:", &node.mark),
                });
            }
        };
        object.insert(field.name.to_owned(), value);
    }
    Ok(Value::Object(object))
}

/// A field that is there: still to be validated (data), or validated in the file's order (nodes).
enum Given {
    Raw(Value),
    Checked(Value),
}

type Fields = std::collections::HashMap<String, Given>;

fn given_fields(record: &Record, value: &Value) -> Result<Fields, Error> {
    let object = object(value, "Expected a mapping")?;
    let mut entries: Vec<(String, Value)> = object.into_iter().collect();
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut fields = Fields::new();
    for (key, value) in entries {
        let name = field_name(&key);
        if record.fields.iter().any(|field| field.name == name) {
            fields.insert(name, Given::Raw(value));
        } else if !record.open {
            return Err(Error::with("Got unexpected field:", name));
        }
    }
    Ok(fields)
}

fn node_fields(record: &Record, node: &Node) -> Result<Fields, Error> {
    let mut fields = Fields::new();
    let pairs = match &node.kind {
        Kind::Map(pairs) => pairs,
        _ if node.is_empty() && record.fields.iter().all(|field| field.default.is_some()) => {
            return Ok(fields);
        }
        _ => return Err(Input::Node(node).got(Error::new("Expected a mapping"))),
    };
    for (key, value) in pairs {
        let name = field_name(Val::Str.node(key)?.as_str().unwrap_or_default());
        let here =
            |message: &str| Err(Error::with(message, &name).guard("While parsing:", &key.mark));
        match record.fields.iter().find(|field| field.name == name) {
            None if record.open => {}
            None => return here("Got unexpected field:"),
            Some(_) if fields.contains_key(&name) => return here("Got duplicate field:"),
            Some(field) => {
                let value = field
                    .val
                    .node(value)
                    .map_err(|error| error.guard("While validating field:", field.name))?;
                fields.insert(name, Given::Checked(value));
            }
        }
    }
    Ok(fields)
}

pub(super) fn union(union: &Union, input: Input<'_>) -> Checked {
    let variant = union.variants.iter().find(|(test, _)| test.accepts(input));
    let val = variant.map(|(_, val)| val).or(union.default.as_deref());
    match val {
        Some(val) => val.read(input),
        None => {
            let names: Vec<String> = union.variants.iter().map(|(test, _)| test.name()).collect();
            Err(input.got(Error::with("Expected one of:", names.join("\n"))))
        }
    }
}

impl Test {
    fn name(self) -> String {
        match self {
            Test::Scalar => "scalar".into(),
            Test::Seq => "sequence".into(),
            Test::Map => "mapping".into(),
            Test::Field(name) | Test::FieldIs(_, name) => format!("{name} record"),
        }
    }

    fn accepts(self, input: Input<'_>) -> bool {
        match (self, input) {
            (Test::Scalar, Input::Value(value)) => !value.is_array() && !value.is_object(),
            (Test::Seq, Input::Value(value)) => value.is_array(),
            (Test::Map, Input::Value(value)) => value.is_object(),
            (Test::Scalar, Input::Node(node)) => matches!(node.kind, Kind::Scalar(..)),
            (Test::Seq, Input::Node(node)) => matches!(node.kind, Kind::Seq(_)),
            (Test::Map, Input::Node(node)) => matches!(node.kind, Kind::Map(_)),
            (Test::Field(name), Input::Value(value)) => has_field(value, name, None),
            (Test::FieldIs(name, text), Input::Value(value)) => has_field(value, name, Some(text)),
            (Test::Field(name), Input::Node(node)) => node_has_field(node, name, None),
            (Test::FieldIs(name, text), Input::Node(node)) => {
                node_has_field(node, name, Some(text))
            }
        }
    }
}

fn has_field(value: &Value, name: &str, text: Option<&str>) -> bool {
    let Some(value) = decoded(value) else { return false };
    value.as_object().is_some_and(|object| {
        object.iter().any(|(key, value)| {
            field_name(key) == name && text.is_none_or(|text| value.as_str() == Some(text))
        })
    })
}

fn node_has_field(node: &Node, name: &str, text: Option<&str>) -> bool {
    let Kind::Map(pairs) = &node.kind else { return false };
    pairs.iter().any(|(key, value)| {
        matches!(&key.kind, Kind::Scalar(key, _) if field_name(key) == name)
            && text
                .is_none_or(|text| matches!(&value.kind, Kind::Scalar(value, _) if value == text))
    })
}
