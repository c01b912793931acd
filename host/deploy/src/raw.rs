//! SQL of one's own, and files of further facts.

use std::path::Path;

use rex_htsql::Value;
use rex_yaml::Error;

use crate::deployer::Deployer;
use crate::fact::{Facts, RawFact, Text};

/// Runs the SQL unless its condition holds.
pub(crate) fn deploy(d: &mut Deployer<'_>, fact: &RawFact) -> Result<(), Error> {
    let rows = d.ask(&read(&fact.unless)?)?;
    if rows.iter().flatten().any(is_true) {
        return Ok(());
    }
    if d.is_locked() {
        return Err(match &fact.unless {
            Text::Here(text) => Error::with("Discovered failed assertion:", text),
            Text::File(path) => Error::with("Discovered failed assertion:", path.display()),
        });
    }
    d.change(&read(&fact.action)?)?;
    d.refresh();
    Ok(())
}

/// Deploys the facts of a file.
pub(crate) fn include(d: &mut Deployer<'_>, path: &Path) -> Result<(), Error> {
    let facts = Facts::file(path)?;
    d.deploy(&facts)
}

fn read(text: &Text) -> Result<String, Error> {
    match text {
        Text::Here(text) => Ok(text.clone()),
        Text::File(path) => std::fs::read_to_string(path).map_err(|error| {
            Error::with("Failed to read the file:", path.display()).guard("Because of:", error)
        }),
    }
}

/// What Python takes for true.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Boolean(value) => *value,
        Value::Integer(number) => *number != 0,
        Value::Float(number) => *number != 0.0,
        Value::Decimal(digits) => digits.bytes().any(|b| (b'1'..=b'9').contains(&b)),
        Value::Text(text) => !text.is_empty(),
        Value::Json(text) => {
            !matches!(text.as_str(), "null" | "false" | "0" | "\"\"" | "[]" | "{}")
        }
        _ => true,
    }
}
