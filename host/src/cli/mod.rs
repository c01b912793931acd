//! The command line: arguments in, one function per command, an exit code out.
//!
//! `rex-host` is read by clap here; `rex` speaks the original's grammar, which is `rex`'s own. Both
//! end in the same functions. `place` finds what a command works on (settings, state, plugins,
//! transport), `output` is the only file that prints, `failure` says what went wrong.

mod begin;
mod command;
mod cron;
mod deploy;
mod dlq;
mod failure;
mod job;
mod migrate;
mod operate;
mod output;
mod place;
mod plan;
mod plugin;
mod query;
mod queue;
mod reread;
pub mod rex;
mod run;
mod submit;
mod transfer;
mod work;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};

use self::command::{Outcome, Spelling};
use self::failure::Failure;
use self::output::Output;
use self::place::{Common, Place};
use crate::inherited;
use crate::log::Format;
use crate::plugins::probe;
use crate::settings::Sources;
use crate::worker;

/// Runs background tasks in worker plugins, a process each, and loses none
#[derive(Parser)]
#[command(name = "rex-host", version, max_term_width = 100, arg_required_else_help = true)]
#[command(
    after_help = "Plugins may add commands: see `rex-host plugin list`.\n\nExit codes: 0 done, 1 negative answer or failure, 2 usage, 78 bad \
                        configuration (run)"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Work on the configured queues until told to stop
    Run(run::RunArgs),
    /// Work on one queue until it is empty
    ///
    /// May run beside a host and beside the same for other queues: its name is work-QUEUE, unless
    /// --name gives it another.
    Work(work::WorkArgs),
    /// Put tasks into a queue
    Submit(submit::SubmitArgs),
    /// Look at queues; pause, empty or move one
    #[command(subcommand)]
    Queue(queue::QueueCommand),
    /// Look at dead letters (tasks that failed for good), retry or discard them
    #[command(subcommand)]
    Dlq(dlq::DlqCommand),
    /// Look at schedules: tasks that the clock submits
    #[command(subcommand)]
    Cron(cron::CronCommand),
    /// Submit, look at and end jobs: rows of the table of jobs
    #[command(subcommand)]
    Job(Box<job::JobCommand>),
    /// Make the queue's tables beforehand, or print the SQL that does
    Migrate(migrate::MigrateArgs),
    /// Look at plugins, check one, or begin a new one
    #[command(subcommand)]
    Plugin(plugin::PluginCommand),
    /// Ask a database in HTSQL
    Query(Box<query::QueryCommand>),
    /// Make a database agree with facts: tables, links, identities, rows
    Deploy(deploy::DeployArgs),
    /// Show what the running host does
    Status(operate::StatusArgs),
    /// Have the running host read settings and plugins anew
    Reload(operate::ReloadArgs),
    /// Have the running host finish what it is at and end
    Stop(operate::StopArgs),
    /// A command of a plugin
    #[command(external_subcommand)]
    OfPlugin(Vec<OsString>),
}

/// What the process was started with; read once.
pub(crate) struct Environment {
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) cwd: PathBuf,
    /// This binary.
    pub(crate) exe: PathBuf,
}

impl Environment {
    fn read() -> Result<Environment, Failure> {
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        let cwd = std::env::current_dir()
            .map_err(|error| Failure::new("the current directory is gone").because(&error))?;
        let exe = std::env::current_exe()
            .map_err(|error| Failure::new("cannot find the own binary").because(&error))?;
        Ok(Environment { variables: variables.collect(), cwd, exe })
    }
}

/// The program, in the spelling of the name it was called by.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    // How the host calls itself, by whichever name: before anything that would cost each worker time
    // and memory.
    match arguments.get(1).and_then(|word| word.to_str()) {
        Some(worker::SUBCOMMAND) => return worker::main(&arguments[2..]),
        Some(probe::SUBCOMMAND) => return plugin::probe(&arguments[2..]),
        Some(command::SUBCOMMAND) => return command::process(&arguments[2..]),
        _ => {}
    }
    // A host that is not told of its children's ends could not say how they died.
    inherited::undo(&[libc::SIGCHLD]);
    inherited::ignore_file_size_signal();
    let name = arguments.first().and_then(|path| Path::new(path).file_name());
    if name == Some(OsStr::new("rex")) { original(&arguments) } else { native(arguments) }
}

fn native(arguments: Vec<OsString>) -> ExitCode {
    let mut output = Output::new();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => {
            return match topic(&arguments) {
                Some(name) => help_of_plugin(name, &error, &mut output)
                    .unwrap_or_else(|failure| output.fail(&failure.plain())),
                None => Output::usage(&error),
            };
        }
    };
    let runs = matches!(cli.command, Command::Run(_));
    match obey(cli.command, &mut output) {
        Ok(code) => code,
        Err(failure) if runs => output.fail(&failure),
        Err(failure) => output.fail(&failure.plain()),
    }
}

/// The original's command line.
fn original(arguments: &[OsString]) -> ExitCode {
    let words: Vec<String> =
        arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let environment = match Environment::read() {
        Ok(environment) => environment,
        Err(failure) => return Output::new().fail(&failure),
    };
    let sources = place::sources(&environment);
    let run = |call: rex::Call| {
        let mut sources = call.sources;
        if let Some(name) = call.name {
            sources.globals.insert("name".to_owned(), name.into());
        }
        let request = run::Request {
            scheduler: call.scheduler,
            quiet: call.quiet,
            halt_when_empty: call.halt_when_empty,
            watch: false,
            format: Format::Text,
            original: true,
            only: None,
        };
        run::host(Place::find(sources, &environment)?, &request).map_err(Into::into)
    };
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let command = |sources: Sources, name: &str, arguments: &[String]| {
        let place = Place::find(sources, &environment)?;
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        Ok(match command::run(&place, &environment, name, &arguments, Spelling::Original)? {
            Outcome::Ran(code) => Some(code),
            Outcome::Unknown(_) => None,
        })
    };
    let listed = |sources: Sources| {
        Place::find(sources, &environment).map(|place| command::list(&place)).unwrap_or_default()
    };
    ExitCode::from(rex::main(&words, sources, &mut out, &mut err, run, command, listed))
}

fn obey(command: Command, output: &mut Output) -> Result<ExitCode, Failure> {
    let environment = Environment::read()?;
    match command {
        Command::Run(args) => run::run(args, environment).map(ExitCode::from),
        Command::Work(args) => work::work(args, environment, output),
        Command::Submit(args) => submit::submit(args, environment, output),
        Command::Queue(command) => queue::queue(command, environment, output),
        Command::Dlq(command) => dlq::dlq(command, environment, output),
        Command::Cron(command) => cron::cron(command, environment, output),
        Command::Job(command) => job::job(*command, &environment, output),
        Command::Migrate(args) => migrate::migrate(&args, &environment, output),
        Command::Plugin(command) => plugin::run(command, environment, output),
        Command::Query(command) => query::query(*command, environment),
        Command::Deploy(args) => deploy::deploy(&args, &environment, output),
        Command::Status(args) => operate::status(&args, environment, output),
        Command::Reload(args) => operate::reload(&args, environment, output),
        Command::Stop(args) => operate::stop(&args, environment, output),
        Command::OfPlugin(words) => of_plugin(&words, &environment, output),
    }
}

/// The name after `help`, if it is none of ours.
fn topic(arguments: &[OsString]) -> Option<&OsString> {
    let [_, help, name, ..] = arguments else { return None };
    let is_ours = Cli::command().find_subcommand(name).is_some();
    (help == "help" && !is_ours).then_some(name)
}

/// The help of a plugin's command; `error` is what clap, which knows none of those, has said.
fn help_of_plugin(
    name: &OsStr,
    error: &clap::Error,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let environment = Environment::read()?;
    let place = Common::default().place(&environment)?;
    let asked = [command::HELP.into()];
    match command::run(&place, &environment, &name.to_string_lossy(), &asked, Spelling::Native)? {
        Outcome::Ran(code) => Ok(ExitCode::from(code)),
        Outcome::Unknown(notes) => Ok(refuse(error, &notes, output)),
    }
}

/// A name that is none of ours: a plugin's command, or a slip.
fn of_plugin(
    words: &[OsString],
    environment: &Environment,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let place = Common::default().place(environment)?;
    let (name, arguments) = words.split_first().ok_or_else(|| Failure::new("no command"))?;
    let name = name.to_string_lossy();
    match command::run(&place, environment, &name, arguments, Spelling::Native)? {
        Outcome::Ran(code) => Ok(ExitCode::from(code)),
        Outcome::Unknown(notes) => Ok(refuse(&unknown(&name), &notes, output)),
    }
}

/// Nobody has the command; the notes tell why some plugins were not asked.
fn refuse(error: &clap::Error, notes: &[String], output: &mut Output) -> ExitCode {
    let code = Output::usage(error);
    for note in notes {
        output.remark(format_args!("note: {note}"));
    }
    code
}

/// As clap says it where no other commands are allowed for.
fn unknown(name: &str) -> clap::Error {
    let ours = Cli::command();
    let alike = |other: &str| strsim::jaro(name, other) > 0.7;
    let names = ours.get_subcommands().map(clap::Command::get_name);
    let meant: Vec<String> = names.filter(|name| alike(name)).map(str::to_owned).collect();
    let mut error = clap::Error::new(ErrorKind::InvalidSubcommand).with_cmd(&ours);
    error.insert(ContextKind::InvalidSubcommand, ContextValue::String(name.to_owned()));
    if !meant.is_empty() {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(meant));
    }
    error
}
