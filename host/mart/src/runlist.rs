//! Entries of a run list, which are also what a task or a job says: a mart to be made.

use rex_yaml::validate::{Field, Input, Val};
use rex_yaml::{Error, repr};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// A mart to be made.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Entry {
    pub owner: String,
    pub definition: String,
    /// Whether a run list ends here when the mart cannot be made.
    pub halt_on_failure: bool,
    /// Whether nothing is left of a mart that cannot be made.
    pub purge_on_failure: bool,
    /// Whether the mart is not told to be complete.
    pub leave_incomplete: bool,
    pub parameters: Map<String, Value>,
}

fn val() -> Val {
    let flag = |name, default: bool| Field::optional(name, Val::Bool, default.into());
    Val::record(vec![
        Field::required("owner", Val::Str),
        Field::required("definition", Val::Str),
        flag("halt_on_failure", false),
        flag("purge_on_failure", true),
        flag("leave_incomplete", false),
        Field::optional("parameters", Val::map(Val::Any, Val::Any), json!({})),
    ])
}

impl Entry {
    /// Reads one.
    ///
    /// # Errors
    /// In the original's words.
    pub fn read(input: Input<'_>) -> Result<Entry, Error> {
        let value = val().read(input)?;
        Entry::deserialize(value).map_err(|error| Error::new(error.to_string()))
    }

    /// Reads a whole list.
    ///
    /// # Errors
    /// As [`Entry::read`].
    pub fn list(input: Input<'_>) -> Result<Vec<Entry>, Error> {
        let value = Val::seq(val()).read(input)?;
        Vec::deserialize(value).map_err(|error| Error::new(error.to_string()))
    }
}

/// As Python shows the record.
impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let flag = |truth: bool| if truth { "True" } else { "False" };
        write!(
            f,
            "Record(owner={}, definition={}, halt_on_failure={}, purge_on_failure={}, \
             leave_incomplete={}, parameters={})",
            repr(&self.owner.as_str().into()),
            repr(&self.definition.as_str().into()),
            flag(self.halt_on_failure),
            flag(self.purge_on_failure),
            flag(self.leave_incomplete),
            repr(&Value::Object(self.parameters.clone())),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Value) -> Result<String, String> {
        let entry = Entry::read(Input::Value(&value)).map_err(|error| error.to_string())?;
        Ok(entry.to_string())
    }

    #[test]
    fn entries_as_the_original_shows_them() {
        for (given, shown) in [
            (
                json!({"owner": "test", "definition": "some_def"}),
                "halt_on_failure=False, purge_on_failure=True, leave_incomplete=False, parameters={}",
            ),
            (
                json!({"owner": "test", "definition": "some_def", "halt_on_failure": true}),
                "halt_on_failure=True, purge_on_failure=True, leave_incomplete=False, parameters={}",
            ),
            (
                json!({"owner": "test", "definition": "some_def", "purge_on_failure": false}),
                "halt_on_failure=False, purge_on_failure=False, leave_incomplete=False, \
                 parameters={}",
            ),
            (
                json!({"owner": "test", "definition": "some_def", "leave_incomplete": true,
                    "parameters": {"foo": "bar"}}),
                "halt_on_failure=False, purge_on_failure=True, leave_incomplete=True, \
                 parameters={'foo': 'bar'}",
            ),
        ] {
            let whole = format!("Record(owner='test', definition='some_def', {shown})");
            assert_eq!(read(given).unwrap(), whole);
        }
    }

    #[test]
    fn what_an_entry_may_not_be() {
        for (given, text) in [
            (json!({"owner": "test"}), "Missing mandatory field:\n    definition"),
            (json!({"definition": "some_def"}), "Missing mandatory field:\n    owner"),
            (json!({"bad": "payload"}), "Got unexpected field:\n    bad"),
        ] {
            assert_eq!(read(given).unwrap_err(), text);
        }
        assert_eq!(Entry::list(Input::Value(&json!([]))).unwrap(), []);
        let error = Entry::list(Input::Value(&json!([{"owner": "x"}]))).unwrap_err().to_string();
        assert_eq!(
            error,
            "Missing mandatory field:\n    definition\nWhile validating sequence item\n    #1"
        );
    }
}
