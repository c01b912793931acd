//! Commands that plugins add: `rex-host NAME …` finds the plugin that has one and runs it in a
//! process of its own, whose end, however it comes, is told here.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rex_plugin_api::Application;
use rex_plugin_api::abi::{Buffer, Host};
use rex_plugin_api::ops::{self, CommandEntry, Failure as Cause, RunCommand};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use super::Environment;
use super::failure::Failure;
use super::place::{Common, Place};
use crate::plugins::source::Source;
use crate::plugins::{Finder, PluginFile, Reason, load};
use crate::supervisor::exit::signal_name;
use crate::worker::leash;

/// The hidden subcommand of the process. Its arguments: the spelling, whether it is to be quiet, the
/// plugin's path, the number of the file that tells the application or `-`, the command's name, its
/// arguments.
pub(crate) const SUBCOMMAND: &str = "command-process";

const QUIET: &str = "quiet";

/// This binary, whatever has happened to its file since it was started.
const PROGRAM: &str = "/proc/self/exe";

/// Whose words errors are printed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    Native,
    Original,
}

impl Spelling {
    fn word(self) -> &'static str {
        match self {
            Spelling::Native => "rex-host",
            Spelling::Original => "rex",
        }
    }
}

/// What became of a name that is no command of rex-host's own.
pub(crate) enum Outcome {
    Ran(u8),
    /// No plugin has it; why some were not looked at.
    Unknown(Vec<String>),
}

/// Runs the command `name`, if a plugin has one.
///
/// # Errors
/// When its process cannot be started, or crashed.
pub(crate) fn run(
    place: &Place,
    environment: &Environment,
    name: &str,
    arguments: &[OsString],
    spelling: Spelling,
) -> Result<Outcome, Failure> {
    let catalog = match Finder::new(&place.exe).discover(&place.plugins, None) {
        Ok(catalog) => catalog,
        Err(error) => {
            let hint = error.hint().map_or_else(String::new, |hint| format!(" ({hint})"));
            return Ok(Outcome::Unknown(vec![format!("{error}{hint}")]));
        }
    };
    let found = catalog.plugins.iter().find_map(|plugin| {
        let entry = plugin.manifest.commands.iter().find(|command| command.name == name)?;
        Some((plugin, entry))
    });
    let Some((plugin, entry)) = found else {
        let refused = catalog.refusals.iter().map(|refusal| {
            format!("plugin {} is refused: {}", refusal.path.display(), refusal.reason)
        });
        return Ok(Outcome::Unknown(refused.collect()));
    };
    if matches!(arguments, [word] if word == "--help" || word == "-h") {
        let text = help(entry, spelling);
        return match io::stdout().lock().write_all(text.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::new("cannot write to standard output").because(&error))
            }
            _ => Ok(Outcome::Ran(0)),
        };
    }
    let mut arguments = arguments.to_vec();
    let application = match entry.application {
        true => Some(told(place, environment, &mut arguments, spelling)?),
        false => None,
    };
    let quiet = place.globals.quiet || spelling == Spelling::Native && take_quiet(&mut arguments);
    // Ctrl-C is the command's to take: the terminal sends it there, too.
    let _still_ours = signal_hook::flag::register(libc::SIGINT, Arc::new(AtomicBool::new(false)));
    let failed = |error: io::Error| {
        Failure::new(format!("the command {name} cannot be started")).because(&error)
    };
    let copy = copy(plugin)?;
    let status = Command::new(PROGRAM)
        .arg0("rex-host")
        .args([OsStr::new(SUBCOMMAND), OsStr::new(spelling.word())])
        .arg(if quiet { QUIET } else { "-" })
        .arg(format!("/proc/self/fd/{}", copy.as_raw_fd()))
        .arg(application.as_ref().map_or("-".to_owned(), |memory| memory.as_raw_fd().to_string()))
        .arg(name)
        .args(arguments)
        .env("REX_PLUGINS", &place.plugins)
        .status()
        .map_err(failed)?;
    match (status.code(), status.signal()) {
        (Some(code), _) => Ok(Outcome::Ran(u8::try_from(code).unwrap_or(1))),
        (None, Some(libc::SIGINT)) => Ok(Outcome::Ran(130)),
        // A reader that has seen enough (`| head`) is no failure.
        (None, Some(libc::SIGPIPE)) => Ok(Outcome::Ran(0)),
        (None, signal) => {
            let signal = signal.unwrap_or(0);
            let what = match signal_name(signal) {
                Some(name) => format!("signal {signal} ({name})"),
                None => format!("signal {signal}"),
            };
            let file = plugin.path.display();
            let text = format!("the command {name} of the plugin {file} was killed by {what}");
            Err(Failure::new(text))
        }
    }
}

/// Takes `--quiet` from the arguments, as `rex` has done; whether it was there.
fn take_quiet(arguments: &mut Vec<OsString>) -> bool {
    let own = arguments.iter().take_while(|word| *word != "--");
    let found = own.enumerate().find_map(|(at, word)| (word == "--quiet").then_some(at));
    found.map(|at| arguments.remove(at)).is_some()
}

/// What the command is told of the application, in memory that its process inherits. The options that
/// say which one it is are taken from the arguments, where `rex` has not done so.
fn told(
    place: &Place,
    environment: &Environment,
    arguments: &mut Vec<OsString>,
    spelling: Spelling,
) -> Result<File, Failure> {
    let text = match spelling {
        Spelling::Original => place.told()?,
        Spelling::Native => Common::take(arguments)?.place(environment)?.told()?,
    };
    let failed = |error: io::Error| Failure::new("cannot tell the application").because(&error);
    let memory = memfd_create("rex-application", MemfdFlags::empty());
    let mut memory = memory.map(File::from).map_err(|error| failed(error.into()))?;
    memory.write_all(text.as_bytes()).map_err(failed)?;
    memory.rewind().map_err(failed)?;
    Ok(memory)
}

/// The plugin's content in memory, sealed: whatever becomes of the file, the process runs what was
/// looked at. It is inherited, so the process finds it under the same number.
fn copy(plugin: &PluginFile) -> Result<File, Failure> {
    let file = plugin.path.display();
    let failed = |error: io::Error| {
        Failure::new(format!("the plugin {file} cannot be copied")).because(&error)
    };
    let memory = memfd_create("rex-plugin", MemfdFlags::ALLOW_SEALING);
    let mut copy = memory.map(File::from).map_err(|error| failed(error.into()))?;
    let source = Source::open(&plugin.path).map_err(|reason| Failure::new(reason.to_string()))?;
    let hash = source.hash(|bytes| copy.write_all(bytes).map_err(Reason::new));
    let hash = hash.map_err(|reason| Failure::new(reason.to_string()))?;
    if hash != plugin.hash {
        return Err(Failure::new(format!("the plugin {file} is just being changed")));
    }
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&copy, seals).map_err(|error| failed(error.into()))?;
    Ok(copy)
}

fn help(entry: &CommandEntry, spelling: Spelling) -> String {
    let mut usage = format!("{} {}", spelling.word(), entry.name);
    if !entry.arguments.is_empty() {
        usage = format!("{usage} {}", entry.arguments);
    }
    let mut text = match spelling {
        Spelling::Native => format!("{}\n\nUsage: {usage}\n", entry.about),
        Spelling::Original => {
            format!("{} - {}\nUsage: {usage}\n", entry.name.to_uppercase(), entry.about)
        }
    };
    if !entry.help.is_empty() {
        text.push_str(&format!("\n{}\n", entry.help.trim_end()));
    }
    if spelling == Spelling::Original {
        text.push('\n');
    }
    text
}

// ---- in the process ----------------------------------------------------------------------------

/// A command is given no host to call.
struct NoHost;

impl Host for NoHost {
    fn call(&self, _: u32, _: &[u8], output: &mut Buffer) -> u32 {
        output.set(b"commands have no host");
        ops::FAILED
    }
}

/// Loads the plugin and runs its command.
pub(crate) fn process(arguments: &[OsString]) -> ExitCode {
    let [spelling, quiet, path, application, name, arguments @ ..] = arguments else {
        return ExitCode::from(2);
    };
    match obey(quiet == QUIET, path, application, name, arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            let text = if spelling == Spelling::Original.word() {
                format!("FATAL ERROR: {text}\n\n")
            } else {
                format!("error: {text}\n")
            };
            // To a closed output there is nothing to say.
            let _ = io::stderr().write_all(text.as_bytes());
            ExitCode::FAILURE
        }
    }
}

fn obey(
    quiet: bool,
    path: &OsStr,
    application: &OsStr,
    name: &OsStr,
    arguments: &[OsString],
) -> Result<(), String> {
    // Who is told to end by killing the program that was started is told so too.
    let term = Some(rustix::process::Signal::TERM);
    rustix::process::set_parent_process_death_signal(term).map_err(|error| error.to_string())?;
    leash::end_with_the_reader();
    let words: Result<Vec<String>, _> =
        arguments.iter().map(|word| word.clone().into_string()).collect();
    let words = words.map_err(|word| format!("the argument {word:?} is not UTF-8"))?;
    let loaded = load(Path::new(path), &NoHost).map_err(|error| error.to_string())?;
    let application = match application.to_str() {
        None | Some("-") => Application::default(),
        Some(number) => {
            let text = std::fs::read(format!("/proc/self/fd/{number}"));
            let text = text.map_err(|error| error.to_string())?;
            serde_json::from_slice(&text).map_err(|error| error.to_string())?
        }
    };
    let command = name.to_string_lossy().into_owned();
    let run = RunCommand { command, arguments: words, application, quiet };
    let input = serde_json::to_vec(&run).map_err(|error| error.to_string())?;
    let mut output = Buffer::default();
    match loaded.plugin.call(ops::PLUGIN_COMMAND, &input, &mut output) {
        ops::OK => Ok(()),
        ops::FAILED => Err(match serde_json::from_slice::<Cause>(&output) {
            Ok(cause) if cause.panicked => {
                format!(
                    "the command panicked at {}: {}",
                    cause.place.unwrap_or_default(),
                    cause.text
                )
            }
            Ok(cause) => cause.text,
            Err(error) => error.to_string(),
        }),
        _ => Err(String::from_utf8_lossy(&output).into_owned()),
    }
}
