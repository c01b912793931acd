//! `rex-host query`: HTSQL against a database, or against those of a project.

use std::process::ExitCode;

use rex_db::Address;
use rex_db::command::{self, CommandError, Project, QueryArgs};

use super::Environment;
use super::failure::Failure;
use super::place::Common;
use crate::settings::Settings;

#[derive(clap::Args)]
pub(crate) struct QueryCommand {
    #[command(flatten)]
    query: QueryArgs,
    #[command(flatten)]
    common: Common,
}

pub(crate) fn query(command: QueryCommand, environment: Environment) -> Result<ExitCode, Failure> {
    let QueryCommand { query, common } = command;
    // Where a database is named the settings are not read, unless for their gateways.
    let project = match common.project.is_none() && query.names_database() {
        true => Project::default(),
        false => project(&common, &environment)?,
    };
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

/// The databases that the project's settings name.
fn project(common: &Common, environment: &Environment) -> Result<Project, Failure> {
    let settings = common.place(environment)?.settings()?;
    let mut gateways = Vec::with_capacity(settings.gateways.len());
    for (name, uri) in &settings.gateways {
        let wrong = |reason: String| Failure::new(format!("the setting gateways: {reason}"));
        let uri = uri.as_ref().ok_or_else(|| wrong(format!("`{name}` names no database")))?;
        let address = Address::parse(uri)
            .map_err(|error| wrong(format!("`{name}` is no address")).because(&error))?;
        gateways.push((command::gateway_name(name).map_err(wrong)?, address));
    }
    Ok(Project { database: database(&settings)?, gateways })
}

/// The database of the settings, if they name one.
pub(super) fn database(settings: &Settings) -> Result<Option<Address>, Failure> {
    let Some(text) = &settings.database else { return Ok(None) };
    let address = Address::parse(text)
        .map_err(|error| Failure::new("the setting db is no address").because(&error))?;
    Ok(Some(address))
}
