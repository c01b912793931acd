//! `rex-host query`: HTSQL against a database, or against a project's own.

use std::process::ExitCode;

use rex_db::Address;
use rex_db::command::{self, CommandError, QueryArgs};

use super::Environment;
use super::failure::Failure;
use super::place::Common;

#[derive(clap::Args)]
pub(crate) struct QueryCommand {
    #[command(flatten)]
    query: QueryArgs,
    #[command(flatten)]
    common: Common,
}

pub(crate) fn query(command: QueryCommand, environment: Environment) -> Result<ExitCode, Failure> {
    let QueryCommand { query, common } = command;
    let project = if query.names_database() { None } else { project(&common, &environment)? };
    match command::run(query, project) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) if error.is_broken_pipe() => Ok(ExitCode::SUCCESS),
        Err(CommandError::Usage(text)) => {
            let mut failure = Failure::new(text).hint("see rex-host query --help");
            failure.code = 2;
            Err(failure)
        }
        Err(CommandError::Interrupted) => {
            let mut failure = Failure::new("interrupted");
            // As a shell tells of a process that Ctrl-C ended.
            failure.code = 130;
            Err(failure)
        }
        Err(error) => {
            let failure = Failure::new(super::failure::chain(&error));
            Err(match error.hint() {
                Some(hint) => failure.hint(hint),
                None => failure,
            })
        }
    }
}

/// The database of the project's settings, if they name one.
pub(super) fn project(
    common: &Common,
    environment: &Environment,
) -> Result<Option<Address>, Failure> {
    let settings = common.place(environment)?.settings()?;
    let Some(text) = settings.database else { return Ok(None) };
    let address = Address::parse(&text)
        .map_err(|error| Failure::new("the setting db is no address").because(&error))?;
    Ok(Some(address))
}
