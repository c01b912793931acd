//! The original's command line, `rex …`: its grammar, texts and exit codes. This module reads the
//! command line and the sources behind it, answers help, and hands a checked [`Call`] to whoever
//! runs workers; it starts nothing itself.

mod grammar;
pub(super) mod help;
mod tasks;

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;

use crate::settings::{Application, Error, Globals, Sources, mask};
use grammar::Line;

/// The package without which an application has no workers to launch.
const PACKAGE: &str = "rex.asynctask";

/// `rex asynctask-workers`, ready to run.
#[derive(Debug)]
pub struct Call {
    pub sources: Sources,
    pub globals: Globals,
    pub application: Application,
    /// Asked for by `--quiet` (the setting) or `-q` (the option).
    pub quiet: bool,
    pub scheduler: bool,
    pub halt_when_empty: bool,
    /// The host's name: `--name`, else `@instance`.
    pub name: Option<String>,
}

/// Runs one command line and returns the exit code. `words` starts with the program's name;
/// `surroundings` brings the environment, the directories, and nothing of the command line.
///
/// `of_plugin` runs a command that a plugin has, if any does; `listed` names all of those, with hints.
///
/// A failure is printed to `err` as `FATAL ERROR: …` and an empty line, code 1; what `run` returns
/// is the code otherwise.
pub fn main(
    words: &[String],
    surroundings: Sources,
    out: &mut dyn Write,
    err: &mut dyn Write,
    run: impl FnOnce(Call) -> Result<u8, Box<dyn std::error::Error>>,
    of_plugin: impl FnOnce(Sources, &str, &[String]) -> Result<Option<u8>, Box<dyn std::error::Error>>,
    listed: impl FnOnce(Sources) -> Vec<(String, String)>,
) -> u8 {
    match command(words, surroundings, out, err, run, of_plugin, listed) {
        Ok(code) => code,
        Err(error) => {
            // A standard error that is gone leaves the exit code to tell.
            let _ = writeln!(err, "FATAL ERROR: {}\n", mask(&error.to_string()));
            1
        }
    }
}

fn command(
    words: &[String],
    surroundings: Sources,
    out: &mut dyn Write,
    err: &mut dyn Write,
    run: impl FnOnce(Call) -> Result<u8, Box<dyn std::error::Error>>,
    of_plugin: impl FnOnce(Sources, &str, &[String]) -> Result<Option<u8>, Box<dyn std::error::Error>>,
    listed: impl FnOnce(Sources) -> Vec<(String, String)>,
) -> Result<u8, Box<dyn std::error::Error>> {
    let (program, words) = match words.split_first() {
        Some((program, words)) => (program.as_str(), words),
        None => ("rex", words),
    };
    let line = grammar::parse(words)?;
    let sources = sources(&line, program, surroundings);
    let globals = Globals::read(&sources)?;
    for warning in &globals.warnings {
        writeln!(err, "WARNING: {warning}")?;
    }
    if let Some((name, arguments)) = &line.command {
        let unknown = || Error::new(format!("unknown task {name}"));
        return Ok(of_plugin(sources, &grammar::normal(name), arguments)?.ok_or_else(unknown)?);
    }
    let text = match (line.task.map(|task| task.name), line.arguments.first()) {
        (None, _) => help::usage(),
        (Some("help"), Some(Some(topic))) => match help::topic(topic) {
            Some(text) => text,
            None => {
                let unknown = || Error::new(format!("unknown help topic {topic}"));
                let asked = ["--help".to_owned()];
                let told = of_plugin(sources, &grammar::normal(topic), &asked)?;
                return Ok(told.ok_or_else(unknown)?);
            }
        },
        (Some("help"), _) => help::overview(&listed(sources)),
        (Some(_), _) => return run(call(&line, sources, globals)?),
    };
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(0)
}

/// Takes the options that each task of an application has out of the arguments of a plugin's command.
///
/// # Errors
/// One has no value, or one that it cannot have.
pub(super) fn take(arguments: &mut Vec<OsString>, sources: &mut Sources) -> Result<(), Error> {
    let mut words = std::mem::take(arguments).into_iter();
    while let Some(word) = words.next() {
        let Some((option, typed, inline)) = word.to_str().and_then(grammar::of_application) else {
            let is_end = word == "--";
            arguments.push(word);
            if is_end {
                break;
            }
            continue;
        };
        let value = inline.or_else(|| words.next()?.into_string().ok());
        let text = grammar::checked(option, &typed, value)?;
        match option.name {
            "require" => sources.requires.push(text),
            _ => sources.sets.push(assignment(&text)),
        }
    }
    arguments.extend(words);
    Ok(())
}

/// `NAME=VALUE`, or a name that is set to true.
fn assignment(text: &str) -> (String, Option<String>) {
    match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (text.to_owned(), None),
    }
}

fn sources(line: &Line, program: &str, surroundings: Sources) -> Sources {
    let program = Path::new(program).file_name().map(|name| name.to_string_lossy().into_owned());
    Sources {
        instance: line.instance.clone().or(program).unwrap_or_else(|| "rex".into()),
        globals: line.globals.clone(),
        project: line.arguments.first().cloned().flatten(),
        requires: line.values("require").map(str::to_owned).collect(),
        sets: line.values("set").map(assignment).collect(),
        ..surroundings
    }
}

/// That there is an application to work for.
///
/// # Errors
/// In the original's words.
pub(super) fn is_specified(sources: &Sources, globals: &Globals) -> Result<(), Error> {
    match sources.project.as_ref().or(globals.project.as_ref()) {
        Some(_) => Ok(()),
        None => Err(Error::new("application is not specified")),
    }
}

fn call(line: &Line, sources: Sources, globals: Globals) -> Result<Call, Error> {
    is_specified(&sources, &globals)?;
    let application = Application::load(&sources, &globals)?;
    if !application.includes(PACKAGE) {
        let text = format!("package {PACKAGE} must be included with the application");
        return Err(Error::new(text));
    }
    Ok(Call {
        quiet: globals.quiet || line.has("quiet"),
        scheduler: line.has("scheduler"),
        halt_when_empty: line.has("halt-when-empty"),
        name: globals.name.clone().or_else(|| line.instance.clone()),
        sources,
        globals,
        application,
    })
}

#[cfg(test)]
mod tests;
