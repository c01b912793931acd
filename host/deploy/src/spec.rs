//! The shape of facts: which entries each kind has and what they may hold. What a fact means is for
//! `fact`.

use rex_yaml::validate::{Field, Input, Test, Union, Val};
use rex_yaml::{Error, Kind, Node};
use serde_json::{Map, Value};

use crate::column_type;
use rex_yaml::given::Given;

/// A fact whose shape is right.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    /// The entry by which its kind is told.
    pub(crate) key: &'static str,
    /// Where it stands, or what it says where it stands nowhere.
    pub(crate) place: String,
    pub(crate) fields: Map<String, Value>,
    /// What stands under `data`, as it was written: `fields` has it sorted, and its numbers rounded.
    pub(crate) data: Option<Given>,
    /// Likewise.
    pub(crate) default: Option<Given>,
    /// The facts under `with`.
    pub(crate) with: Vec<Spec>,
}

impl Spec {
    /// Whether facts of this kind have such an entry.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    /// The text of an entry, if it is given.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name).and_then(Value::as_str)
    }

    /// An entry, if it is given.
    pub(crate) fn given(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        self.fields.get(name).and_then(Value::as_bool)
    }

    /// One text or a list of them.
    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        match self.fields.get(name) {
            Some(Value::String(text)) => vec![text.clone()],
            Some(Value::Array(items)) => {
                items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Kinds of facts by their key, in the order in which an error lists them.
const KEYS: [&str; 8] = ["alias", "column", "data", "identity", "include", "link", "sql", "table"];

/// One fact, a list of them, or none.
pub(crate) fn specs(input: Input<'_>) -> Result<Vec<Spec>, Error> {
    match input {
        Input::Value(Value::Null) => Ok(Vec::new()),
        Input::Value(Value::Array(items)) => {
            let nth = |(n, item): (usize, &Value)| {
                spec(Input::Value(item)).map_err(|error| {
                    error.guard("While validating sequence item", format!("#{}", n + 1))
                })
            };
            items.iter().enumerate().map(nth).collect()
        }
        Input::Node(node) if node.value().is_ok_and(|value| value.is_null()) => Ok(Vec::new()),
        Input::Node(Node { kind: Kind::Seq(items), .. }) => {
            items.iter().map(|item| spec(Input::Node(item))).collect()
        }
        one => Ok(vec![spec(one)?]),
    }
}

fn spec(input: Input<'_>) -> Result<Spec, Error> {
    let read = || -> Result<Spec, Error> {
        let variants = KEYS.iter().map(|key| (Test::Field(key), Val::Any)).collect();
        let shape = Val::Union(Union { variants, default: None }).read(input)?;
        let key = KEYS.iter().find(|key| shape.get(**key).is_some()).copied().unwrap_or_default();
        let Value::Object(fields) = Val::record(entries(key)).read(input)? else {
            return Err(Error::new("Expected a mapping"));
        };
        let given = |name| child(input, name).map(Given::of).transpose();
        let (data, default) = (given("data")?, given("default")?);
        let with = match child(input, "with") {
            Some(with) => {
                specs(with).map_err(|error| error.guard("While validating field:", "with"))?
            }
            None => Vec::new(),
        };
        let place = match input {
            Input::Node(node) => node.mark.to_string(),
            Input::Value(value) => value.to_string(),
        };
        Ok(Spec { key, place, fields, data, default, with })
    };
    match input {
        Input::Node(node) => read().map_err(|error| node.arrive(error)),
        Input::Value(_) => read(),
    }
}

/// What stands under a name.
fn child<'i>(input: Input<'i>, name: &str) -> Option<Input<'i>> {
    match input {
        Input::Value(value) => value.get(name).map(Input::Value),
        Input::Node(node) => match &node.kind {
            Kind::Map(pairs) => pairs
                .iter()
                .find(|(key, _)| matches!(&key.kind, Kind::Scalar(text, _) if text == name))
                .map(|(_, value)| Input::Node(value)),
            _ => None,
        },
    }
}

fn entries(key: &str) -> Vec<Field> {
    let maybe = |name, val| Field::optional(name, val, Value::Null);
    let present = || Field::optional("present", Val::Bool, true.into());
    let labels = || Val::OneOrSeq(Box::new(label()));
    match key {
        "table" => vec![
            Field::required("table", label()),
            maybe("was", labels()),
            maybe("reliable", Val::Bool),
            maybe("title", title()),
            present(),
            maybe("with", Val::seq(Val::Any)),
        ],
        "column" => vec![
            Field::required("column", qualified_label()),
            maybe("of", label()),
            maybe("was", labels()),
            maybe("after", labels()),
            maybe("type", type_name()),
            maybe("default", Val::Any),
            maybe("required", Val::Bool),
            maybe("unique", Val::Bool),
            maybe("title", title()),
            present(),
        ],
        "link" => vec![
            Field::required("link", qualified_label()),
            maybe("of", label()),
            maybe("to", label()),
            maybe("default", Val::Str),
            maybe("was", labels()),
            maybe("after", labels()),
            maybe("required", Val::Bool),
            maybe("unique", Val::Bool),
            maybe("title", title()),
            present(),
        ],
        "identity" => {
            let generators = ["offset", "random", "uuid"].map(str::to_owned).to_vec();
            let pair = Val::map(qualified_label(), Val::maybe(Val::Choice(generators)));
            let item = Union {
                variants: vec![(Test::Map, pair)],
                default: Some(Box::new(qualified_label())),
            };
            vec![Field::required("identity", Val::seq(Val::Union(item))), maybe("of", label())]
        }
        "data" => {
            let records = Val::OneOrSeq(Box::new(Val::map(label(), Val::Any)));
            let data = Union {
                variants: vec![(Test::Scalar, Val::Str)],
                default: Some(Box::new(records)),
            };
            vec![Field::required("data", Val::Union(data)), maybe("of", label()), present()]
        }
        "alias" => vec![
            Field::required("alias", Val::Str),
            maybe("of", label()),
            maybe("parameters", Val::maybe(Val::seq(label()))),
            maybe("expression", Val::Str),
            present(),
        ],
        "sql" => vec![Field::required("sql", Val::Str), Field::required("unless", Val::Str)],
        _ => vec![Field::required("include", Val::Str)],
    }
}

fn label() -> Val {
    Val::Pattern { shown: "[a-z_][0-9a-z_]*", matches: is_label }
}

fn is_label(text: &str) -> bool {
    let is_letter = |b: u8| b.is_ascii_lowercase() || b == b'_';
    text.bytes().next().is_some_and(is_letter)
        && text.bytes().all(|b| is_letter(b) || b.is_ascii_digit())
}

/// A label that may have that of its table before it.
fn qualified_label() -> Val {
    Val::Pattern {
        shown: "[a-z_][0-9a-z_]*([.][a-z_][0-9a-z_]*)?",
        matches: |text| match text.split_once('.') {
            Some((table, label)) => is_label(table) && is_label(label),
            None => is_label(text),
        },
    }
}

fn title() -> Val {
    Val::Pattern {
        shown: r"\S(.*\S)?",
        matches: |text| !text.is_empty() && text.trim() == text && !text.contains('\n'),
    }
}

fn type_name() -> Val {
    let is_enum_label = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
    };
    let labels = Val::seq(Val::Pattern { shown: "[0-9A-Za-z_-]+", matches: is_enum_label });
    let mut names: Vec<String> = column_type::names().map(str::to_owned).collect();
    names.sort();
    Val::Union(Union {
        variants: vec![(Test::Seq, labels)],
        default: Some(Box::new(Val::Choice(names))),
    })
}
