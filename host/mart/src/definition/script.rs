//! Scripts of a definition: HTSQL or SQL that runs in the mart.

use rex_yaml::validate::{Field, Val};
use rex_yaml::{Error, Given};
use serde::Deserialize;
use serde_json::json;

/// A script and the parameters that it alone has.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Script {
    pub script: String,
    #[serde(rename = "type")]
    pub language: Language,
    /// By name.
    pub parameters: Given,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    Htsql,
    Sql,
}

impl Language {
    pub(crate) fn shown(self) -> &'static str {
        match self {
            Language::Htsql => "HTSQL",
            Language::Sql => "SQL",
        }
    }
}

pub(crate) fn val() -> Val {
    let script = Val::checked(Val::Str, |script| match script.as_str().map(str::trim) {
        None | Some("") => Err(Error::new("ETL Scripts cannot be empty").guard("Got:", "''")),
        Some(script) => Ok(script.into()),
    });
    Val::record(vec![
        Field::required("script", script),
        Field::required("type", Val::Choice(["htsql", "sql"].map(str::to_owned).to_vec())),
        Field::optional("parameters", Val::map(Val::Any, Val::Any), json!({})),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::testing::{accepted, refused};

    #[test]
    fn what_a_script_may_be() {
        for (given, whole) in [
            (
                json!({"script": "/foo", "type": "htsql"}),
                json!({"script": "/foo", "type": "htsql", "parameters": {}}),
            ),
            (
                json!({"script": " delete from foo\n", "type": "sql"}),
                json!({"script": "delete from foo", "type": "sql", "parameters": {}}),
            ),
            (
                json!({"script": "/f", "type": "htsql", "parameters": {"foo": "bar", "baz": null}}),
                json!({"script": "/f", "type": "htsql", "parameters": {"baz": null, "foo": "bar"}}),
            ),
        ] {
            accepted(&val(), &given, &whole);
        }
    }

    #[test]
    fn what_a_script_may_not_be() {
        for (given, text) in [
            (json!({"type": "htsql"}), "Missing mandatory field:\n    script"),
            (
                json!({"script": "", "type": "htsql"}),
                "ETL Scripts cannot be empty\nGot:\n    ''\nWhile validating field:\n    script",
            ),
            (
                json!({"script": null, "type": "htsql"}),
                "Expected a string\nGot:\n    None\nWhile validating field:\n    script",
            ),
            (
                json!({"script": "del foo", "type": "python"}),
                "Expected one of:\n    htsql, sql\nGot:\n    'python'\n\
                 While validating field:\n    type",
            ),
            (
                json!({"script": "/foo", "type": ""}),
                "Expected one of:\n    htsql, sql\nGot:\n    ''\nWhile validating field:\n    type",
            ),
            (
                json!({"script": "/foo", "type": null}),
                "Expected a string\nGot:\n    None\nWhile validating field:\n    type",
            ),
            (json!({"script": "/foo"}), "Missing mandatory field:\n    type"),
            (
                json!({"script": "/foo", "type": "htsql", "parameters": "foo"}),
                "Expected a JSON object\nGot:\n    'foo'\nWhile validating field:\n    parameters",
            ),
        ] {
            refused(&val(), &given, text);
        }
    }
}
