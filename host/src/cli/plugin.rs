//! `rex-host plugin`: what is in the plugin directory, whether a file is a good plugin, and the
//! beginning of a new one.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::Environment;
use super::failure::Failure;
use super::output::Output;
use super::place::{Common, Place};
use crate::plugins::{Catalog, Finder, PluginFile, Refusal, probe, scaffold, shown};

#[derive(clap::Subcommand)]
pub(crate) enum PluginCommand {
    /// List the plugins of the plugin directory, and the files that are refused
    List {
        /// Print one JSON object a file
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Say whether a host would serve these files, and why not
    Check {
        /// Plugin files (.so)
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Print one JSON object a file
        #[arg(long)]
        json: bool,
    },
    /// Write the crate of a new plugin into a new directory
    New {
        /// The crate's name: small letters, digits and `_`
        name: String,
        /// Source of rex-plugin-api [default: beside the binary]
        #[arg(long, value_name = "DIR")]
        sdk: Option<PathBuf>,
    },
}

pub(crate) fn run(
    command: PluginCommand,
    environment: Environment,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    match command {
        PluginCommand::List { json, common } => list(&common, &environment, json, output),
        PluginCommand::Check { files, json } => check(&files, &environment, json, output),
        PluginCommand::New { name, sdk } => new(&name, sdk, &environment, output),
    }
}

/// The hidden subcommand that looks at one plugin.
pub(crate) fn probe(arguments: &[OsString]) -> ExitCode {
    let [path] = arguments else { return ExitCode::from(2) };
    match probe::answer(Path::new(path)) {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody waits for the answer any more.
        Err(_) => ExitCode::FAILURE,
    }
}

fn list(
    common: &Common,
    environment: &Environment,
    json: bool,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let place = Place::find(common.sources(environment), environment)?;
    let catalog = place.finder().discover(&place.plugins, None).map_err(|error| {
        let failure = Failure::new(error.to_string());
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })?;
    if json {
        print_json(&catalog, output)?;
        return output.finish();
    }
    let rows: Vec<Vec<String>> = catalog
        .plugins
        .iter()
        .map(|plugin| {
            vec![
                file_name(&plugin.path),
                plugin.manifest.name.clone(),
                plugin.manifest.version.clone(),
                plugin.manifest.api.to_string(),
                plugin.hash.chars().take(12).collect(),
                exports(plugin),
            ]
        })
        .collect();
    output.table(&["FILE", "NAME", "VERSION", "API", "HASH", "EXPORTS"], &rows)?;
    for refusal in &catalog.refusals {
        print_refusal(&file_name(&refusal.path), refusal, output)?;
    }
    output.finish()
}

fn check(
    files: &[PathBuf],
    environment: &Environment,
    json: bool,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let catalog = Finder::new(&environment.exe)
        .examine(files)
        .map_err(|error| Failure::new(error.to_string()))?;
    if json {
        print_json(&catalog, output)?;
    } else {
        for plugin in &catalog.plugins {
            let manifest = &plugin.manifest;
            output.line(format_args!(
                "{}: good: {} {}, plugin API {}, {}",
                shown(&plugin.path),
                manifest.name,
                manifest.version,
                manifest.api,
                exports(plugin)
            ))?;
            if let Some(warning) = plugin.warning() {
                output.line(format_args!("  note: it {warning}"))?;
            }
        }
        for refusal in &catalog.refusals {
            print_refusal(&shown(&refusal.path), refusal, output)?;
        }
    }
    output.finish()?;
    Ok(if catalog.refusals.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn new(
    name: &str,
    sdk: Option<PathBuf>,
    environment: &Environment,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let sdk = match sdk {
        Some(dir) => Ok(environment.cwd.join(dir)),
        None => scaffold::find_sdk(&environment.exe),
    };
    let written = sdk.and_then(|sdk| scaffold::write(&environment.cwd, name, &sdk));
    let written = written.map_err(|error| {
        let failure = Failure::new(error.to_string());
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })?;
    output.line(format_args!(
        "{}: a plugin with the worker {}; its README.md says how to go on",
        written.dir.display(),
        written.worker
    ))?;
    output.finish()
}

fn print_json(catalog: &Catalog, output: &mut Output) -> Result<(), Failure> {
    for plugin in &catalog.plugins {
        output.json(&json!({
            "file": plugin.path.display().to_string(),
            "name": plugin.manifest.name,
            "version": plugin.manifest.version,
            "api": plugin.manifest.api.to_string(),
            "hash": plugin.hash,
            "unwinds": plugin.manifest.unwinds,
            "workers": workers(plugin),
            "commands": commands(plugin),
            "executors": executors(plugin),
        }))?;
    }
    for refusal in &catalog.refusals {
        output.json(&json!({
            "file": refusal.path.display().to_string(),
            "refused": refusal.reason.text,
            "hint": refusal.reason.hint,
            "hash": refusal.hash,
        }))?;
    }
    Ok(())
}

fn print_refusal(file: &str, refusal: &Refusal, output: &mut Output) -> Result<(), Failure> {
    output.line(format_args!("{file}: refused: {}", refusal.reason))?;
    match &refusal.reason.hint {
        Some(hint) => output.line(format_args!("  hint: {hint}")),
        None => Ok(()),
    }
}

fn workers(plugin: &PluginFile) -> Vec<&str> {
    plugin.manifest.workers.iter().map(|worker| worker.name.as_str()).collect()
}

fn commands(plugin: &PluginFile) -> Vec<&str> {
    plugin.manifest.commands.iter().map(|command| command.name.as_str()).collect()
}

fn executors(plugin: &PluginFile) -> Vec<&str> {
    plugin.manifest.executors.iter().map(|executor| executor.name.as_str()).collect()
}

/// What it exports, in words.
fn exports(plugin: &PluginFile) -> String {
    let parts = [
        ("workers", workers(plugin)),
        ("commands", commands(plugin)),
        ("executors", executors(plugin)),
    ];
    let parts = parts.iter().filter(|(_, names)| !names.is_empty());
    parts.map(|(what, names)| format!("{what} {}", names.join(" "))).collect::<Vec<_>>().join(", ")
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| shown(Path::new(name)))
}
