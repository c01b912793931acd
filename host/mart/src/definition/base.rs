//! What a mart begins as: an empty database, a copy of one, or one that is there.

use rex_yaml::validate::{Field, Val};
use rex_yaml::{Error, repr};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::name::{self, MAX_LENGTH};

/// What a mart begins as, and how its database is called.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Base {
    #[serde(rename = "type")]
    pub kind: BaseKind,
    /// The database that is copied, or used as it is.
    pub target: Option<String>,
    /// What the name of the database begins with, after the prefix of all marts; `None` where the
    /// database is there already.
    pub name_token: Option<String>,
    /// What the database is called once it is finished.
    pub fixed_name: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BaseKind {
    /// An empty database.
    Fresh,
    /// A copy of the target.
    Copy,
    /// The target itself.
    Existing,
    /// A copy of the application's database.
    Application,
}

pub(crate) fn val() -> Val {
    let kinds = ["fresh", "copy", "existing", "application"].map(str::to_owned).to_vec();
    let text = || Val::Pattern { shown: "^.+$", matches: |text| !text.is_empty() };
    let maybe = |name, val| Field::optional(name, Val::maybe(val), Value::Null);
    let record = Val::record(vec![
        Field::required("type", Val::Choice(kinds)),
        maybe("target", text()),
        maybe("name_token", token()),
        maybe("fixed_name", token()),
    ]);
    Val::checked(record, check)
}

fn token() -> Val {
    Val::Pattern { shown: "^[a-z][a-z0-9_]*$", matches: name::is_safe }
}

fn check(base: &Value) -> Result<Value, Error> {
    let kind = base["type"].as_str().unwrap_or_default();
    let refuse = |field: &str, text: String| {
        let error = Error::new(text).guard("Got:", repr(&base[field]));
        Err(error.guard("While validating field:", field))
    };
    let has = |field: &str| !base[field].is_null();
    match kind {
        "fresh" | "application" if has("target") => {
            return refuse(
                "target",
                format!("Bases type \"{kind}\" cannot have target database names"),
            );
        }
        "copy" | "existing" if !has("target") => {
            return refuse(
                "target",
                format!("Base type of \"{kind}\" requires a target database name"),
            );
        }
        _ => {}
    }
    if kind == "existing" && has("name_token") {
        return refuse("name_token", "Base type \"existing\" cannot have a name token".to_owned());
    }
    if kind == "existing" && has("fixed_name") {
        return refuse("fixed_name", "Base type \"existing\" cannot have a fixed name".to_owned());
    }
    if base["fixed_name"].as_str().is_some_and(|name| name.len() > MAX_LENGTH) {
        return refuse(
            "fixed_name",
            format!("Fixed name cannot be longer than {MAX_LENGTH} characters"),
        );
    }
    Ok(base.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::testing::{accepted, refused};
    use serde_json::json;

    #[test]
    fn what_a_base_may_be() {
        for given in [
            json!({"type": "fresh"}),
            json!({"type": "copy", "target": "foo"}),
            json!({"type": "application"}),
            json!({"type": "existing", "target": "bar"}),
            json!({"type": "fresh", "name_token": "foo"}),
            json!({"type": "fresh", "fixed_name": "foo"}),
        ] {
            let get = |name: &str| given.get(name).cloned().unwrap_or_default();
            let whole = json!({"type": get("type"), "target": get("target"),
                "name_token": get("name_token"), "fixed_name": get("fixed_name")});
            accepted(&val(), &given, &whole);
        }
    }

    #[test]
    fn what_a_base_may_not_be() {
        let long = "qwertyuiopasdfghjklzxcvbnm".repeat(3);
        for (given, text) in [
            (
                json!({"type": "fresh", "target": "baz"}),
                "Bases type \"fresh\" cannot have target database names\nGot:\n    'baz'\n\
                 While validating field:\n    target",
            ),
            (
                json!({"type": "application", "target": "baz"}),
                "Bases type \"application\" cannot have target database names\nGot:\n    'baz'\n\
                 While validating field:\n    target",
            ),
            (
                json!({"type": "copy"}),
                "Base type of \"copy\" requires a target database name\nGot:\n    None\n\
                 While validating field:\n    target",
            ),
            (
                json!({"type": "existing"}),
                "Base type of \"existing\" requires a target database name\nGot:\n    None\n\
                 While validating field:\n    target",
            ),
            (
                json!({"type": "something"}),
                "Expected one of:\n    fresh, copy, existing, application\nGot:\n    'something'\n\
                 While validating field:\n    type",
            ),
            (
                json!({"type": "existing", "target": "bar", "name_token": "foo"}),
                "Base type \"existing\" cannot have a name token\nGot:\n    'foo'\n\
                 While validating field:\n    name_token",
            ),
            (
                json!({"type": "existing", "target": "bar", "fixed_name": "foo"}),
                "Base type \"existing\" cannot have a fixed name\nGot:\n    'foo'\n\
                 While validating field:\n    fixed_name",
            ),
            (
                json!({"type": "fresh", "fixed_name": long}),
                &format!(
                    "Fixed name cannot be longer than 63 characters\nGot:\n    '{long}'\n\
                     While validating field:\n    fixed_name"
                ),
            ),
        ] {
            refused(&val(), &given, text);
        }
    }
}
