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
mod tests;
