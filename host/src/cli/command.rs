//! Commands that plugins add: `rex-host NAME …` finds the plugin that has one and runs it in a
//! process of its own, whose end, however it comes, is told here.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rex_plugin_api::Application;
use rex_plugin_api::abi::{Buffer, Host};
use rex_plugin_api::ops::{self, CommandEntry, Failure as Cause, OptionEntry, RunCommand};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use signal_hook::iterator::Signals;

use super::failure::{self, Failure};
use super::place::{Common, OPTIONS, Place};
use super::{Environment, rex};
use crate::plugins::catalog::MOST_LOOKS;
use crate::plugins::source::Source;
use crate::plugins::{PluginFile, Reason, load, shown};
use crate::supervisor::exit::signal_name;
use crate::worker::leash;

/// The hidden subcommand of the process. Its arguments: the spelling, whether it is to be quiet, the
/// plugin's path, the number of the file that tells the application or `-`, the command's name, its
/// arguments.
pub(crate) const SUBCOMMAND: &str = "command-process";

const QUIET: &str = "quiet";

/// The argument that asks a command for its help.
pub(crate) const HELP: &str = "--help";

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
    let (plugin, entry, copy) = match find(place, name)? {
        Ok(found) => found,
        Err(why) => return Ok(Outcome::Unknown(why)),
    };
    let sole = matches!(arguments, [word] if word == "-h");
    if sole || arguments.iter().take_while(|word| *word != "--").any(|word| word == HELP) {
        let text = help(&entry, spelling);
        return match io::stdout().lock().write_all(text.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::new("cannot write to standard output").because(&error))
            }
            _ => Ok(Outcome::Ran(0)),
        };
    }
    let mut arguments = arguments.to_vec();
    let application = match entry.application {
        true => Some(told(place, environment, &entry, &mut arguments, spelling)?),
        false => None,
    };
    let quiet = place.globals.quiet || spelling == Spelling::Native && take_quiet(&mut arguments);
    let failed = |error: io::Error| {
        Failure::new(format!("the command {name} cannot be started")).because(&error)
    };
    let mut child = Command::new(PROGRAM)
        .arg0("rex-host")
        .args([OsStr::new(SUBCOMMAND), OsStr::new(spelling.word())])
        .arg(if quiet { QUIET } else { "-" })
        .arg(format!("/proc/self/fd/{}", copy.as_raw_fd()))
        .arg(application.as_ref().map_or("-".to_owned(), |memory| memory.as_raw_fd().to_string()))
        .arg(name)
        .args(arguments)
        .env("REX_PLUGINS", &place.plugins)
        .spawn()
        .map_err(failed)?;
    let told = pass_on(&child).map_err(failed)?;
    let status = child.wait().map_err(failed)?;
    match (status.code(), status.signal()) {
        (Some(130), _) | (None, Some(libc::SIGINT)) => Ok(Outcome::Ran(interrupted(spelling))),
        // As the original, which knows two.
        (Some(code), _) if spelling == Spelling::Original => Ok(Outcome::Ran((code != 0).into())),
        (Some(code), _) => Ok(Outcome::Ran(u8::try_from(code).unwrap_or(1))),
        // A reader that has seen enough (`| head`) is no failure.
        (None, Some(libc::SIGPIPE)) => Ok(Outcome::Ran(0)),
        (None, Some(signal @ (libc::SIGTERM | libc::SIGHUP))) if told.load(Ordering::Relaxed) => {
            Ok(Outcome::Ran(128 + u8::try_from(signal).unwrap_or(0)))
        }
        (None, signal) => {
            let signal = signal.unwrap_or(0);
            let what = match signal_name(signal) {
                Some(name) => format!("signal {signal} ({name})"),
                None => format!("signal {signal}"),
            };
            let file = shown(&plugin.path);
            let text = format!("the command {name} of the plugin {file} was killed by {what}");
            Err(Failure::new(text))
        }
    }
}

/// The plugin that has a command, the command, and the plugin's content.
type Found = (PluginFile, CommandEntry, File);

/// What has a command; or why there may be none.
fn find(place: &Place, name: &str) -> Result<Result<Found, Vec<String>>, Failure> {
    let finder = place.finder();
    let mut looks = 0;
    loop {
        looks += 1;
        let catalog = match finder.discover(&place.plugins, None) {
            Ok(catalog) => catalog,
            Err(error) => {
                let hint = error.hint().map_or_else(String::new, |hint| format!(" ({hint})"));
                return Ok(Err(vec![format!("{error}{hint}")]));
            }
        };
        let found = catalog.plugins.into_iter().find_map(|plugin| {
            let mut commands = plugin.manifest.commands.iter();
            let entry = commands.find(|command| command.name == name)?.clone();
            Some((plugin, entry))
        });
        let Some((plugin, entry)) = found else {
            let refused = catalog.refusals.iter().map(|refusal| {
                format!("plugin {} is refused: {}", shown(&refusal.path), refusal.reason)
            });
            return Ok(Err(refused.collect()));
        };
        match copy(&plugin) {
            Ok(Some(copy)) => return Ok(Ok((plugin, entry, copy))),
            // Another one has taken its place.
            Ok(None) if looks < MOST_LOOKS => {}
            Ok(None) => {
                let file = shown(&plugin.path);
                return Err(Failure::new(format!("the plugin {file} is just being changed")));
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// Leaves it to the command what it does when this program is told to end; whether that was so. Ctrl-C
/// reaches both from the terminal, the rest is passed on. Only now: what is ignored here is to be ignored there.
fn pass_on(child: &Child) -> io::Result<Arc<AtomicBool>> {
    let command = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let told = Arc::new(AtomicBool::new(false));
    for signal in [libc::SIGTERM, libc::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&told))?;
    }
    let mut signals = Signals::new([libc::SIGINT, libc::SIGTERM, libc::SIGHUP])?;
    thread::Builder::new().spawn(move || {
        for signal in signals.forever() {
            let signal = match signal {
                libc::SIGTERM => Signal::TERM,
                libc::SIGHUP => Signal::HUP,
                _ => continue,
            };
            // It may have ended already.
            let _ = pidfd_send_signal(&command, signal);
        }
    })?;
    Ok(told)
}

/// The exit code of a command that Ctrl-C has ended.
fn interrupted(spelling: Spelling) -> u8 {
    match spelling {
        Spelling::Native => 130,
        Spelling::Original => {
            // To a closed output there is nothing to say.
            let _ = writeln!(io::stderr());
            1
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
/// say which one it is are taken from the arguments.
fn told(
    place: &Place,
    environment: &Environment,
    entry: &CommandEntry,
    arguments: &mut Vec<OsString>,
    spelling: Spelling,
) -> Result<File, Failure> {
    let text = match spelling {
        Spelling::Original => {
            let mut sources = place.sources.clone();
            rex::take(arguments, &mut sources)?;
            rex::is_specified(&sources, &place.globals)?;
            Place::find(sources, environment)?.told()?
        }
        Spelling::Native => Common::take(arguments, &entry.options)?.place(environment)?.told()?,
    };
    let failed = |error: io::Error| Failure::new("cannot tell the application").because(&error);
    let memory = memfd_create("rex-application", MemfdFlags::empty());
    let mut memory = memory.map(File::from).map_err(|error| failed(error.into()))?;
    memory.write_all(text.as_bytes()).map_err(failed)?;
    memory.rewind().map_err(failed)?;
    Ok(memory)
}

/// The plugin's content in memory, sealed: whatever becomes of the file, the process runs what was
/// looked at. It is inherited, so the process finds it under the same number. `None`: the file is
/// another one by now.
fn copy(plugin: &PluginFile) -> Result<Option<File>, Failure> {
    let failed = |error: io::Error| {
        let file = shown(&plugin.path);
        Failure::new(format!("the plugin {file} cannot be copied")).because(&error)
    };
    let memory = memfd_create("rex-plugin", MemfdFlags::ALLOW_SEALING);
    let mut copy = memory.map(File::from).map_err(|error| failed(error.into()))?;
    let Ok(source) = Source::open(&plugin.path) else { return Ok(None) };
    let mut written = Ok(());
    let hash = source.hash(|bytes| {
        written = copy.write_all(bytes);
        written.as_ref().map_err(Reason::new).copied()
    });
    written.map_err(failed)?;
    if hash.is_ok_and(|hash| hash == plugin.hash) {
        let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        fcntl_add_seals(&copy, seals).map_err(|error| failed(error.into()))?;
        return Ok(Some(copy));
    }
    Ok(None)
}

/// How long a plugin may take to tell its commands where they are but listed.
const PATIENCE: Duration = Duration::from_secs(2);

/// Names and hints of all commands; plugins that are of no use have none.
pub(crate) fn list(place: &Place) -> Vec<(String, String)> {
    let mut finder = place.finder();
    finder.prober = finder.prober.limit(PATIENCE);
    let plugins = finder.discover(&place.plugins, None).map(|catalog| catalog.plugins);
    let commands = plugins.unwrap_or_default().into_iter().flat_map(|file| file.manifest.commands);
    commands.map(|entry| (entry.name, entry.about)).collect()
}

fn help(entry: &CommandEntry, spelling: Spelling) -> String {
    if spelling == Spelling::Original {
        return rex::help::of_plugin(entry);
    }
    let CommandEntry { name, about, arguments, help, options, application } = entry;
    let mut text = format!("{about}\n\nUsage: rex-host {name}");
    if !options.is_empty() {
        text.push_str(" [OPTIONS]");
    }
    if !arguments.is_empty() {
        text.push_str(&format!(" {arguments}"));
    }
    text.push('\n');
    if !help.is_empty() {
        text.push_str(&format!("\n{}\n", help.trim_end()));
    }
    if !options.is_empty() {
        text.push_str("\nOptions:\n");
    }
    for OptionEntry { name, key, value, hint } in options {
        let key = key.map_or("    ".to_owned(), |key| format!("-{key}, "));
        let value = value.as_ref().map_or(String::new(), |value| format!(" <{value}>"));
        text.push_str(&format!("  {key}--{name}{value}\n{}", below(hint)));
    }
    if *application {
        let is_own = |name: &&&str| options.iter().any(|option| option.name == **name);
        let all = OPTIONS.iter().chain(&["quiet"]).filter(|name| !is_own(name));
        let all = all.map(|name| format!("--{name}"));
        let all: Vec<String> = all.collect();
        text.push_str(&format!("\nAs for other commands: {}\n", all.join(", ")));
    }
    text
}

/// A hint in lines of its own.
fn below(hint: &str) -> String {
    const WIDTH: usize = 90;
    let mut lines = vec![String::new()];
    for word in hint.split_whitespace() {
        if lines.last().is_some_and(|line| line.len() + word.len() >= WIDTH) {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(word);
        }
    }
    lines.iter().map(|line| format!("          {line}\n")).collect()
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
        Err(Wrong { kind: WrongKind::Told, .. }) => {
            ExitCode::from(u8::from(spelling != Spelling::Original.word()))
        }
        Err(Wrong { text, kind }) => {
            let is_original = spelling == Spelling::Original.word();
            let is_usage = kind == WrongKind::Usage;
            let text = match is_original {
                true => format!("FATAL ERROR: {text}\n\n"),
                false => format!("error: {text}\n"),
            };
            // To a closed output there is nothing to say.
            let _ = io::stderr().write_all(text.as_bytes());
            ExitCode::from(if is_usage && !is_original { failure::USAGE } else { 1 })
        }
    }
}

/// Why a command did not do what it was asked.
struct Wrong {
    text: String,
    kind: WrongKind,
}

#[derive(PartialEq, Eq)]
enum WrongKind {
    /// The arguments were not understood.
    Usage,
    /// The command has said it.
    Told,
    Other,
}

impl<T: ToString> From<T> for Wrong {
    fn from(error: T) -> Wrong {
        Wrong { text: error.to_string(), kind: WrongKind::Other }
    }
}

fn obey(
    quiet: bool,
    path: &OsStr,
    application: &OsStr,
    name: &OsStr,
    arguments: &[OsString],
) -> Result<(), Wrong> {
    // Who is told to end by killing the program that was started is told so too.
    let term = Some(Signal::TERM);
    rustix::process::set_parent_process_death_signal(term)?;
    leash::end_with_the_reader();
    let words: Result<Vec<String>, _> =
        arguments.iter().map(|word| word.clone().into_string()).collect();
    let words = words.map_err(|word| Wrong {
        text: format!("the argument {word:?} is not UTF-8"),
        kind: WrongKind::Usage,
    })?;
    let loaded = load(Path::new(path), &NoHost)?;
    let application = match application.to_str() {
        None | Some("-") => Application::default(),
        Some(number) => {
            let text = std::fs::read(format!("/proc/self/fd/{number}"));
            let text = text?;
            serde_json::from_slice(&text)?
        }
    };
    let command = name.to_string_lossy().into_owned();
    let run = RunCommand { command, arguments: words, application, quiet };
    let input = serde_json::to_vec(&run)?;
    let mut output = Buffer::default();
    match loaded.plugin.call(ops::PLUGIN_COMMAND, &input, &mut output) {
        ops::OK => Ok(()),
        ops::FAILED => Err(match serde_json::from_slice::<Cause>(&output)? {
            cause if cause.panicked => {
                let place = cause.place.unwrap_or_default();
                match cause.text.strip_prefix("failed printing to stdout: ") {
                    // What `println!` does where there is nobody to tell.
                    Some(why) => format!("cannot write to standard output: {why}").into(),
                    None => format!("the command panicked at {place}: {}", cause.text).into(),
                }
            }
            cause => Wrong {
                kind: match cause.class.as_str() {
                    ops::USAGE => WrongKind::Usage,
                    ops::TOLD => WrongKind::Told,
                    _ => WrongKind::Other,
                },
                text: cause.text,
            },
        }),
        _ => Err(String::from_utf8_lossy(&output).into()),
    }
}
