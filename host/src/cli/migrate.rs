//! `rex-host migrate`: the tables of a queue store, made or shown beforehand.

use std::process::ExitCode;

use rex_transport::{Uri, pgsql};

use super::Environment;
use super::failure::Failure;
use super::output::Output;
use super::place::Common;

#[derive(clap::Args)]
pub(crate) struct MigrateArgs {
    /// Print the SQL for an administrator, and do nothing; it may be run again
    #[arg(long)]
    print: bool,
    #[command(flatten)]
    common: Common,
}

pub(crate) fn migrate(
    args: &MigrateArgs,
    environment: &Environment,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let place = args.common.place(environment)?;
    let settings = place.settings()?;
    if args.print {
        let scheme = settings.transport.as_deref().map(Uri::parse).transpose()?;
        match scheme.as_ref().map(Uri::scheme) {
            Some(scheme) if rex_db::is_postgresql(scheme) => {
                output.line(pgsql::script().trim_end())?;
            }
            other => {
                let kind = other.unwrap_or("sqlite");
                let text = format!("a queue of kind {kind} needs no preparation");
                return Err(Failure::new(text).hint(
                    "the SQL is for PostgreSQL: name it with --set asynctask_transport=pgsql:…",
                ));
            }
        }
        return output.finish();
    }
    // As a host opens it, so that everything is made that a host would make.
    let owner = rex_transport::Owner { id: super::run::owner_id() };
    let mut transport = place.open(&settings, Some(owner))?;
    transport.close()?;
    output.line(format_args!("{} is ready", transport.label()))?;
    output.finish()
}
