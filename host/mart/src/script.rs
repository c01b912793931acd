//! Scripts run in a mart. Before each one the connection is new and the structure read anew, so that
//! it sees what the last one changed.

use rex_db::{Nowhere, Session};
use rex_yaml::Error;

use crate::definition::{Language, Script};
use crate::failure::guarded;
use crate::parameter::Parameters;

/// Runs scripts in order; `open` opens the mart.
pub(crate) fn run(
    scripts: &[Script],
    parameters: &Parameters,
    open: impl Fn() -> Result<Session, Error>,
    log: &mut dyn FnMut(&str),
) -> Result<(), Error> {
    for (n, script) in scripts.iter().enumerate() {
        let (language, number) = (script.language.shown(), format!("#{}", n + 1));
        log(&format!("{language} script {number}..."));
        let parameters = parameters.over(&script.parameters);
        let mut session = open()?;
        let ran = match script.language {
            Language::Htsql => htsql(&mut session, &script.script, &parameters),
            Language::Sql => {
                parameters.fill(&script.script).and_then(|text| guarded(session.execute_sql(&text)))
            }
        };
        ran.map_err(|error| error.guard(format!("While executing {language} script:"), number))?;
    }
    Ok(())
}

/// Each statement in a transaction of its own.
fn htsql(session: &mut Session, script: &str, parameters: &Parameters) -> Result<(), Error> {
    let params = parameters.htsql()?;
    for statement in statements(script)? {
        guarded(session.stream(&statement, &params, &mut Nowhere))
            .map_err(|error| error.guard("While executing statement:", &statement))?;
    }
    Ok(())
}

/// The statements of a script, without blank lines and comments.
fn statements(script: &str) -> Result<Vec<String>, Error> {
    let is_kept = |line: &str| !line.trim().is_empty() && !line.starts_with('#');
    let first = script.lines().enumerate().find(|(_, line)| is_kept(line));
    if let Some((n, _)) = first.filter(|(_, line)| line.starts_with([' ', '\t'])) {
        return Err(Error::new(format!("Got unexpected indentation, line {}", n + 1)));
    }
    let split = guarded(rex_db::command::statements("script", script))?;
    let lines =
        |text: &str| text.lines().filter(|line| is_kept(line)).collect::<Vec<_>>().join("\n");
    Ok(split.iter().map(|statement| lines(&statement.text)).collect())
}

#[cfg(test)]
mod tests;
