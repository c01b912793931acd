//! The command `query`: HTSQL from a terminal, a file or a program.
//!
//! | module | does |
//! |---|---|
//! | `args` | the arguments |
//! | `one` | one query, answered to a person: a format, the width, a pager |
//! | `script` | statements from a file, in one transaction |
//! | `batch` | JSON lines in, JSON lines out |
//! | `interrupt` | Ctrl-C |
//!
//! The host mounts [`QueryArgs`] and calls [`run`]; nothing here ends the process.

mod args;
mod batch;
mod interrupt;
mod one;
mod script;

use std::io::{self, IsTerminal as _, Read as _};

pub use args::{OutputFormat, QueryArgs, Stage, gateway_name};
pub use batch::batch;
pub use script::statements;

use rex_htsql::Params;

use self::interrupt::Interrupt;
use crate::session::{Config, Session};
use rex_pg::{Address, BadAddress};

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// To be shown with a hint at `--help`.
    #[error("{0}")]
    Usage(String),
    #[error("failed to read the address of the database")]
    Address(#[from] BadAddress),
    /// The layered text of HTSQL.
    #[error("{0}")]
    Query(rex_htsql::Error),
    /// As `Query`, with the parameter that may have been meant to have a type.
    #[error("{error}")]
    Untyped { error: rex_htsql::Error, param: String },
    #[error("failed to read `{path}`")]
    Read {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("failed to write the answer")]
    Write(#[source] io::Error),
    #[error("the pager `{0}` cannot be run")]
    Pager(String),
    #[error("failed to commit: {0}")]
    Commit(rex_htsql::Error),
    /// The user pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

impl CommandError {
    /// What may help.
    pub fn hint(&self) -> Option<String> {
        match self {
            CommandError::Untyped { param, .. } => Some(format!(
                "`-p {param}=VALUE` is text that adapts to its use; `-p {param}:=VALUE` has the \
                 type of a JSON value"
            )),
            _ => None,
        }
    }

    /// Whether the reader of the output went away, which is no failure.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, CommandError::Write(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// What the settings of a project say of databases.
#[derive(Debug, Clone, Default)]
pub struct Project {
    /// Stands in where the arguments name no database.
    pub database: Option<Address>,
    /// By name, which [`gateway_name`] gave; those of the arguments come before them.
    pub gateways: Vec<(String, Address)>,
}

/// Runs the command.
///
/// # Errors
/// What went wrong, as a person is to read it.
pub fn run(mut args: QueryArgs, project: Project) -> Result<(), CommandError> {
    let config = args.config(project)?;
    let mut session = Session::new(config).map_err(CommandError::Query)?;
    let params = args.params()?;
    let interrupt = Interrupt::listen(session.canceller());
    let outcome = answer(&mut session, &params, &args, &interrupt);
    match outcome {
        // Whatever the server says of it, the user is who stopped it.
        Err(_) if interrupt.is_raised() => Err(CommandError::Interrupted),
        Err(CommandError::Query(error)) => Err(match args.untyped_culprit(&error.to_string()) {
            Some(param) => CommandError::Untyped { error, param },
            None => CommandError::Query(error),
        }),
        outcome => outcome,
    }
}

fn answer(
    session: &mut Session,
    params: &Params,
    args: &QueryArgs,
    interrupt: &Interrupt,
) -> Result<(), CommandError> {
    if args.batch {
        let input = io::BufReader::new(io::stdin().lock());
        return batch::interruptible(session, input, io::stdout().lock(), args.commit, interrupt);
    }
    if let Some(path) = &args.file {
        return script::run(session, path, params, args, interrupt);
    }
    let query = match &args.query {
        Some(query) if query != "-" => query.clone(),
        None if io::stdin().is_terminal() => {
            return Err(CommandError::Usage("no query is given".to_string()));
        }
        _ => interrupt
            .waiting(input)
            .and_then(text)
            .map_err(|source| CommandError::Read { path: "-".to_string(), source })?
            .trim_end_matches(['\n', '\r'])
            .to_string(),
    };
    one::run(session, &query, params, args, interrupt)
}

/// All of standard input.
fn input() -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::stdin().read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What a file or standard input says, without the mark that some editors put before UTF-8.
fn text(bytes: Vec<u8>) -> io::Result<String> {
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        io::Error::new(io::ErrorKind::InvalidData, format!("line {line} is not UTF-8"))
    })?;
    Ok(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_string))
}
