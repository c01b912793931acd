//! `rex-host plugin`: being written.

use std::path::Path;
use std::process::ExitCode;

use super::Environment;
use super::failure::Failure;
use super::output::Output;
use crate::plugins;

#[derive(clap::Subcommand)]
pub(crate) enum PluginCommand {}

pub(crate) fn run(
    command: PluginCommand,
    _: Environment,
    _: &mut Output,
) -> Result<ExitCode, Failure> {
    match command {}
}

/// The body of the hidden subcommand.
pub(crate) fn probe(path: &Path) -> ExitCode {
    match plugins::probe::answer(path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
