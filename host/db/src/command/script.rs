//! Statements from a file, in one transaction.
//!
//! A statement starts at the beginning of a line, lines that go on with it are indented; blank
//! lines and lines that start with `#` stand between statements and are kept within one.

use std::path::Path;

use rex_htsql::{Error, Params};

use super::interrupt::Interrupt;
use super::{CommandError, QueryArgs, one};
use crate::session::{Nowhere, Session};

/// A statement with the number of its first line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptStatement {
    pub line: usize,
    pub text: String,
}

/// Splits a script; `name` is for errors.
///
/// # Errors
/// `Got unexpected indentation`, where no statement goes before.
pub fn statements(name: &str, script: &str) -> Result<Vec<ScriptStatement>, Error> {
    let mut found: Vec<ScriptStatement> = Vec::new();
    for (at, line) in script.lines().enumerate() {
        let blank = line.trim().is_empty() || line.starts_with('#');
        let indented = line.starts_with([' ', '\t']);
        match found.last_mut() {
            Some(statement) if blank || indented => {
                statement.text.push('\n');
                statement.text.push_str(line);
            }
            _ if blank => {}
            None if indented => {
                let place = format!("{name}, line {}", at + 1);
                return Err(Error::quoting("Got unexpected indentation", place));
            }
            _ => found.push(ScriptStatement { line: at + 1, text: line.to_string() }),
        }
    }
    for statement in &mut found {
        let kept = trimmed(&statement.text).len();
        statement.text.truncate(kept);
    }
    Ok(found)
}

/// A statement without the blank and comment lines after it.
fn trimmed(text: &str) -> &str {
    let mut rest = text.trim_end();
    while let Some((head, line)) = rest.rsplit_once('\n') {
        if !line.starts_with('#') {
            break;
        }
        rest = head.trim_end();
    }
    rest
}

pub(super) fn run(
    session: &mut Session,
    path: &Path,
    params: &Params,
    args: &QueryArgs,
    interrupt: &Interrupt,
) -> Result<(), CommandError> {
    let name = path.display().to_string();
    let read = match name.as_str() {
        "-" => interrupt.waiting(super::input),
        _ => std::fs::read(path),
    };
    let script = read
        .and_then(super::text)
        .map_err(|source| CommandError::Read { path: name.clone(), source })?;
    let all = statements(&name, &script).map_err(CommandError::Query)?;
    let Some((last, before)) = all.split_last() else { return Ok(()) };
    session.begin();
    let outcome = one::print(args, interrupt, |sink| {
        for statement in before {
            if interrupt.is_raised() {
                break;
            }
            session
                .stream(&statement.text, params, &mut Nowhere)
                .map_err(|error| located(error, &name, statement))?;
        }
        session.stream(&last.text, params, sink).map_err(|error| located(error, &name, last))
    });
    let ended = session.end(outcome.is_ok()).map_err(CommandError::Commit);
    outcome.and(ended)
}

fn located(error: Error, name: &str, statement: &ScriptStatement) -> Error {
    error.wrap("While executing", format!("{name}, line {}", statement.line))
}

#[cfg(test)]
mod tests;
