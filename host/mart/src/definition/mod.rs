//! Definitions: what a mart is to be, as the files of an application say it.
//!
//! | module | is about |
//! |---|---|
//! | `base` | what the database begins as, and its name |
//! | `parameter` | what a definition asks for |
//! | `script` | HTSQL and SQL to run in it |
//! | `assessment` | instruments that become tables |
//!
//! What processors may be told is with them, in [`crate::processor`].

mod assessment;
mod base;
mod parameter;
mod script;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rex_deploy::Facts;
use rex_yaml::validate::{Field, Input, Val};
use rex_yaml::{Error, Given, Kind, Loader, Node};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub use assessment::{
    Assessment, Calculation, Identifiable, Relationship, RelationshipKind, Selector, Source,
};
pub(crate) use assessment::{duplicates, of_instrument, val as assessment_val};
pub use base::{Base, BaseKind};
pub use script::{Language, Script};

use crate::name;
use crate::parameter::Parameter;
use crate::processor::{self, Processor};
use crate::settings::Settings;

/// What a mart is to be.
#[derive(Debug, Clone)]
pub struct Definition {
    pub id: String,
    pub label: String,
    pub description: Option<String>,
    pub base: Base,
    /// Marts of this definition that an owner may keep.
    pub per_owner: i64,
    pub deploy: Option<Arc<Facts>>,
    pub parameters: Vec<Parameter>,
    pub post_deploy_scripts: Vec<Script>,
    pub assessments: Vec<Source>,
    pub post_assessment_scripts: Vec<Script>,
    pub processors: Vec<Processor>,
}

/// All definitions of an application, in the order of its files.
#[derive(Debug, Clone, Default)]
pub struct Definitions(Vec<Arc<Definition>>);

impl Definitions {
    /// Reads files of definitions, those of the least specific project first.
    ///
    /// # Errors
    /// In the original's words, with the file: something is malformed, or two definitions have one
    /// id.
    pub fn load(files: &[PathBuf], settings: &Settings) -> Result<Definitions, Error> {
        let mut all = Vec::new();
        for file in files {
            let read = file_definitions(file, settings)
                .map_err(|error| error.guard("While retrieving definitions from:", file.display()));
            all.extend(read?.into_iter().map(Arc::new));
        }
        refuse_duplicates(all.iter().map(|definition| &**definition))?;
        Ok(Definitions(all))
    }

    pub fn get(&self, id: &str) -> Option<&Arc<Definition>> {
        self.0.iter().find(|definition| definition.id == id)
    }

    /// The ids, in order.
    pub fn ids(&self) -> Vec<&str> {
        self.0.iter().map(|definition| definition.id.as_str()).collect()
    }

    /// What whoever wrote them ought to know, in the original's words: it keeps no mart from being made.
    pub fn warning(&self) -> Option<String> {
        let bases = self.0.iter().map(|definition| &definition.base);
        let existing = bases.filter(|base| base.kind == BaseKind::Existing);
        match duplicates(existing.filter_map(|base| base.target.as_deref())).as_str() {
            "" => None,
            names => Some(format!(
                "Multiple definitions attempt to write to the same existing database(s): {names}"
            )),
        }
    }
}

fn refuse_duplicates<'a>(all: impl Iterator<Item = &'a Definition>) -> Result<(), Error> {
    match duplicates(all.map(|definition| definition.id.as_str())).as_str() {
        "" => Ok(()),
        ids => Err(Error::new(format!(
            "Definition IDs ({ids}) cannot be duplicated within a collection"
        ))),
    }
}

fn file_definitions(file: &Path, settings: &Settings) -> Result<Vec<Definition>, Error> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let node = Loader::new(folder).file(file)?;
    let shape = Val::record(vec![Field::optional("definitions", Val::seq(Val::Any), json!([]))]);
    shape.node(&node)?;
    let items = match child(&node, "definitions") {
        Some(Node { kind: Kind::Seq(items), .. }) => items.as_slice(),
        _ => &[],
    };
    let nth = |(n, item): (usize, &Node)| {
        Definition::read(Input::Node(item), folder, settings).map_err(|error| {
            error
                .guard("While validating sequence item", format!("#{}", n + 1))
                .guard("While validating field:", "definitions")
        })
    };
    let read: Vec<Definition> = items.iter().enumerate().map(nth).collect::<Result<_, _>>()?;
    refuse_duplicates(read.iter())?;
    Ok(read)
}

/// What stands under a name, which may be spelled as validators let names be.
fn child<'a>(node: &'a Node, name: &str) -> Option<&'a Node> {
    let Kind::Map(pairs) = &node.kind else { return None };
    let is_name = |text: &str| text.replace(['-', ' '], "_") == name;
    let is_it = |key: &Node| matches!(&key.kind, Kind::Scalar(text, _) if is_name(text));
    pairs.iter().find(|(key, _)| is_it(key)).map(|(_, value)| value)
}

/// What the name of a mart has beside its prefix and token: a code and a time.
const NAME_TAIL: usize = 25;

impl Definition {
    /// Reads a definition; what it says of files begins at `folder`, unless it names another.
    ///
    /// # Errors
    /// In the original's words.
    pub fn read(input: Input<'_>, folder: &Path, settings: &Settings) -> Result<Definition, Error> {
        let value = val().read(input)?;
        let id = value["id"].as_str().unwrap_or_default().to_owned();
        let text = |name: &str| value[name].as_str().filter(|text| !text.is_empty());
        let folder = text("base_path").map_or_else(|| folder.to_owned(), |path| folder.join(path));
        let mut base: Base = typed(&value["base"])?;
        if base.kind != BaseKind::Existing {
            let token = match base.name_token.take() {
                Some(token) => token,
                None => format!("{}_", name::safe(&id)?),
            };
            let limit =
                settings.max_name_length.saturating_sub(NAME_TAIL + settings.name_prefix.len());
            if token.len() > limit {
                let text = format!("Name Token cannot exceed {limit} characters in length");
                return Err(Error::new(text)
                    .guard("Got:", token)
                    .guard("While validating field:", "base.name_token"));
            }
            base.name_token = Some(token);
        }
        let deploy = facts(input, &value, &folder)
            .map_err(|error| error.guard("While validating field:", "deploy"))?;
        let sources = value["assessments"].as_array().into_iter().flatten().enumerate();
        let source = |(n, source): (usize, &Value)| {
            let plain = &source["selector"]["parameters"];
            let parameters = parameters(input, &["selector", "parameters"], "assessments", n);
            Source::of(source.clone(), parameters?.unwrap_or_else(|| plain.into()))
        };
        let scripts = |phase: &str| -> Result<Vec<Script>, Error> {
            let mut scripts: Vec<Script> = typed(&value[phase])?;
            for (n, script) in scripts.iter_mut().enumerate() {
                let parameters = parameters(input, &["parameters"], phase, n)?;
                script.parameters = parameters.unwrap_or(script.parameters.clone());
            }
            Ok(scripts)
        };
        let definition = Definition {
            label: text("label").unwrap_or(&id).to_owned(),
            description: text("description").map(|text| text.trim().to_owned()),
            per_owner: value["quota"]["per_owner"]
                .as_i64()
                .unwrap_or(settings.default_max_marts_per_owner_definition),
            deploy: deploy.map(Arc::new),
            parameters: typed(&value["parameters"])?,
            post_deploy_scripts: scripts("post_deploy_scripts")?,
            assessments: sources.map(source).collect::<Result<_, _>>()?,
            post_assessment_scripts: scripts("post_assessment_scripts")?,
            processors: processor::all(&value["processors"])?,
            base,
            id,
        };
        definition.check()?;
        Ok(definition)
    }

    fn check(&self) -> Result<(), Error> {
        let refuse = |what: &str, names: String, field: &str| match names.as_str() {
            "" => Ok(()),
            names => Err(Error::new(format!(
                "{what} Names ({names}) cannot be duplicated within a Definition"
            ))
            .guard("While validating field:", field)),
        };
        let parameters = self.parameters.iter().map(|parameter| parameter.name.as_str());
        refuse("Parameter", duplicates(parameters), "parameters")?;
        let names = self.assessments.iter().filter_map(|source| match source {
            Source::One(assessment) => Some(assessment.name.as_str()),
            Source::All(..) | Source::Dynamic(_) => None,
        });
        refuse("Assessment", duplicates(names), "assessments")
    }
}

/// Parameters as a file has them, with all the digits of their numbers: those of an item of a list, at
/// a path in it. `None` where no file has any.
fn parameters(
    input: Input<'_>,
    path: &[&str],
    list: &str,
    n: usize,
) -> Result<Option<Given>, Error> {
    let Input::Node(node) = input else { return Ok(None) };
    let item = match child(node, list).map(|list| &list.kind) {
        Some(Kind::Seq(items)) => items.get(n),
        _ => None,
    };
    let node = item.and_then(|item| path.iter().try_fold(item, |node, name| child(node, name)));
    node.map(|node| Given::of(Input::Node(node))).transpose()
}

/// Facts to deploy, with their places where there are any.
fn facts(input: Input<'_>, value: &Value, folder: &Path) -> Result<Option<Facts>, Error> {
    match (&value["deploy"], input) {
        (Value::Null, _) => Ok(None),
        (_, Input::Node(node)) => {
            child(node, "deploy").map(|node| Facts::node(node, folder)).transpose()
        }
        (facts, Input::Value(_)) => Facts::value(facts, folder).map(Some),
    }
}

/// What a validator let through, as the type that it was made for.
fn typed<T: DeserializeOwned>(value: &Value) -> Result<T, Error> {
    T::deserialize(value).map_err(|error| Error::new(error.to_string()))
}

fn val() -> Val {
    let id = Val::Pattern {
        shown: "^[a-z_][0-9a-z_]*$",
        matches: |text| {
            let begins = |c: char| c.is_ascii_lowercase() || c == '_';
            text.starts_with(begins) && text.chars().all(|c| begins(c) || c.is_ascii_digit())
        },
    };
    let maybe = |name, val| Field::optional(name, Val::maybe(val), Value::Null);
    let list = |name, val| Field::optional(name, Val::seq(val), json!([]));
    let fresh = json!({"type": "fresh", "target": null, "name_token": null, "fixed_name": null});
    Val::record(vec![
        Field::required("id", id),
        maybe("label", Val::Str),
        maybe("description", Val::Str),
        Field::optional("base", base::val(), fresh),
        maybe("quota", Val::record(vec![Field::required("per_owner", Val::pint())])),
        maybe("deploy", Val::seq(Val::map(Val::Any, Val::Any))),
        list("parameters", parameter::val()),
        list("post_deploy_scripts", script::val()),
        list("assessments", assessment::source_val()),
        list("post_assessment_scripts", script::val()),
        list("processors", processor::val()),
        maybe("base_path", Val::Str),
    ])
}

#[cfg(test)]
pub(crate) mod testing {
    //! What a validator does, asserted.

    use rex_yaml::validate::Val;
    use serde_json::Value;

    pub(crate) fn accepted(val: &Val, given: &Value, whole: &Value) {
        let read = val.value(given).unwrap_or_else(|error| panic!("{given}: {error}"));
        assert_eq!(read, *whole, "{given}");
    }

    pub(crate) fn refused(val: &Val, given: &Value, text: &str) {
        let error = val.value(given).expect_err("an error").to_string();
        assert_eq!(error, text, "{given}");
    }
}

#[cfg(test)]
mod tests;
