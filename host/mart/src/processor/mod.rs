//! Processors: what is done to a mart whose tables are filled.
//!
//! | module | does |
//! |---|---|
//! | `index` | makes indexes |
//! | `dictionary` | describes the tables in tables of their own |
//! | `analyze` | has the server gather statistics; no options, so it is here |

mod dictionary;
mod index;

use rex_db::Session;
use rex_yaml::validate::{Field, Val};
use rex_yaml::{Error, repr};
use serde::Deserialize;
use serde_json::{Map, Value, json};

pub(crate) use dictionary::{Described, Description};

use self::dictionary::Dictionary;
use self::index::Index;
use crate::failure::guarded;

/// A step of a definition, with its options.
#[derive(Debug, Clone, PartialEq)]
pub enum Processor {
    #[expect(private_interfaces, reason = "definitions are read here and carried out here")]
    Index(Vec<Index>),
    Analyze,
    #[expect(private_interfaces, reason = "as above")]
    DataDictionary(Dictionary),
}

/// An option of a processor.
struct Opt {
    name: &'static str,
    val: Val,
    /// `None`: it must be given.
    default: Option<Value>,
}

/// By id, what a processor may be told.
fn options(id: &str) -> Option<Vec<Opt>> {
    match id {
        "index" => Some(index::options()),
        "analyze" => Some(Vec::new()),
        "datadictionary" => Some(dictionary::options()),
        _ => None,
    }
}

pub(crate) fn val() -> Val {
    let id = Val::checked(Val::Str, |id| match id.as_str() {
        Some(id) if options(id).is_some() => Ok(id.into()),
        id => Err(Error::new("Unknown Processor ID").guard("Got:", id.unwrap_or_default())),
    });
    let record = Val::record(vec![
        Field::required("id", id),
        Field::optional("options", Val::map(Val::Str, Val::Any), json!({})),
    ]);
    Val::checked(record, |value| {
        let id = value["id"].as_str().unwrap_or_default();
        let given = value["options"].as_object().cloned().unwrap_or_default();
        let checked = check(&options(id).unwrap_or_default(), &given)
            .map_err(|error| error.guard("While validating field:", "options"))?;
        Ok(json!({"id": id, "options": checked}))
    })
}

fn check(options: &[Opt], given: &Map<String, Value>) -> Result<Map<String, Value>, Error> {
    let mut checked = Map::new();
    for Opt { name, val, default } in options {
        let value = match (given.get(*name), default) {
            (Some(value), _) => {
                val.value(value).map_err(|error| error.guard("While validating field:", name))?
            }
            (None, Some(default)) => default.clone(),
            (None, None) => return Err(Error::with("Missing Processor Option", name)),
        };
        checked.insert((*name).to_owned(), value);
    }
    let is_unknown = |name: &&String| !options.iter().any(|option| option.name == **name);
    let unknown: Vec<&str> = given.keys().filter(is_unknown).map(String::as_str).collect();
    match unknown.as_slice() {
        [] => Ok(checked),
        names => Err(Error::with("Unknown Processor Options", names.join(", "))),
    }
}

/// Takes what [`val`] let through.
pub(crate) fn all(values: &Value) -> Result<Vec<Processor>, Error> {
    let read = |value: &Value| {
        let failed = |error: serde_json::Error| Error::new(error.to_string());
        let options = &value["options"];
        match value["id"].as_str() {
            Some("index") => {
                Vec::deserialize(&options["indexes"]).map(Processor::Index).map_err(failed)
            }
            Some("analyze") => Ok(Processor::Analyze),
            Some("datadictionary") => {
                Dictionary::deserialize(options).map(Processor::DataDictionary).map_err(failed)
            }
            _ => Err(Error::new("Unknown Processor ID").guard("Got:", repr(&value["id"]))),
        }
    };
    values.as_array().into_iter().flatten().map(read).collect()
}

impl Processor {
    pub(crate) fn id(&self) -> &'static str {
        match self {
            Processor::Index(_) => "index",
            Processor::Analyze => "analyze",
            Processor::DataDictionary(_) => "datadictionary",
        }
    }

    /// Does its work; `described` is what is known of tables that the database does not.
    ///
    /// # Errors
    /// The server's, with what was being done.
    pub(crate) fn run(
        &self,
        mart: &mut Session,
        described: &Described,
        log: &mut dyn FnMut(&str),
    ) -> Result<(), Error> {
        match self {
            Processor::Index(indexes) => index::run(indexes, mart, log),
            Processor::Analyze => guarded(mart.execute_sql("ANALYZE")),
            Processor::DataDictionary(dictionary) => dictionary.run(mart, described),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::testing::{accepted, refused};

    #[test]
    fn what_a_processor_may_be_told() {
        accepted(&val(), &json!({"id": "analyze"}), &json!({"id": "analyze", "options": {}}));
        accepted(
            &val(),
            &json!({"id": "index", "options": {"indexes": [
                {"table": "foo", "columns": ["bar", "baz"]},
                {"table": "blah", "columns": "col1", "partial": "col1 > 4"}]}}),
            &json!({"id": "index", "options": {"indexes": [
                {"table": "foo", "columns": ["bar", "baz"], "unique": false, "partial": null},
                {"table": "blah", "columns": ["col1"], "unique": false, "partial": "col1 > 4"}]}}),
        );
        accepted(
            &val(),
            &json!({"id": "datadictionary", "options": {
                "table_name_tables": "foo",
                "table_descriptions": "name,title,description\ntable,Title,Description\n"}}),
            &json!({"id": "datadictionary", "options": {
                "table_name_tables": "foo", "table_name_columns": "datadictionary_column",
                "table_name_enumerations": "datadictionary_enumeration",
                "table_descriptions": "name,title,description\ntable,Title,Description",
                "column_descriptions": null, "enumeration_descriptions": null}}),
        );
    }

    #[test]
    fn what_a_processor_may_not_be_told() {
        let at = |field: &str| format!("While validating field:\n    {field}\n");
        let options = "While validating field:\n    options";
        let dictionary =
            |name: &str, text: Value| json!({"id": "datadictionary", "options": {name: text}});
        for (given, text) in [
            (
                json!({"id": "doesntexist"}),
                "Unknown Processor ID\nGot:\n    doesntexist\nWhile validating field:\n    id"
                    .to_owned(),
            ),
            (json!({"options": {"foo": "bar"}}), "Missing mandatory field:\n    id".to_owned()),
            (json!({"id": "index"}), format!("Missing Processor Option\n    indexes\n{options}")),
            (
                json!({"id": "index", "options": {"indexes": null}}),
                format!("Expected a sequence\nGot:\n    None\n{}{options}", at("indexes")),
            ),
            (
                json!({"id": "analyze", "options": {"fake": 123, "more": 1}}),
                format!("Unknown Processor Options\n    fake, more\n{options}"),
            ),
            (
                dictionary("table_descriptions", json!("title,description\nTitle,Description\n")),
                format!("Missing required field \"name\"\n{}{options}", at("table_descriptions")),
            ),
            (
                dictionary("table_descriptions", json!(123)),
                format!("Expected a string\nGot:\n    123\n{}{options}", at("table_descriptions")),
            ),
            (
                dictionary("table_descriptions", json!("name,title\rfoo,bar")),
                format!(
                    "Invalid CSV input: new-line character seen in unquoted field - do you need \
                     to open the file in universal-newline mode?\n{}{options}",
                    at("table_descriptions")
                ),
            ),
            (
                dictionary("column_descriptions", json!("name,description\nfoo,bar")),
                format!("Missing required field \"table\"\n{}{options}", at("column_descriptions")),
            ),
            (
                dictionary("enumeration_descriptions", json!("table,column,name\nfoo,bar,baz")),
                format!(
                    "Missing required field \"description\"\n{}{options}",
                    at("enumeration_descriptions")
                ),
            ),
        ] {
            refused(&val(), &given, &text);
        }
    }
}
