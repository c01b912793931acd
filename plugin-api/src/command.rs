//! What a plugin's author implements to add a command to `rex-host` and `rex`.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Application, Error, Result};

/// A command: `rex-host NAME ARGUMENTS…` runs it in a process of its own.
///
/// What it prints is its answer; what only tells how it gets on is said with [`say!`](crate::say), so that
/// `--quiet` silences it. An `Err` is printed as one error and ends the program with exit code 1, or 2
/// for an [`Error::usage`]; a panic or a crash is told likewise, and costs nobody else anything.
///
/// ```
/// use rex_plugin_api::{Command, Error, Result, export_plugin};
///
/// #[derive(Default)]
/// struct Count;
///
/// impl Command for Count {
///     const ABOUT: &'static str = "count the lines of a file";
///     const ARGUMENTS: &'static str = "FILE";
///
///     fn run(&mut self, arguments: &[String]) -> Result<()> {
///         let [file] = arguments else { return Err(Error::usage("expected one file")) };
///         println!("{}", std::fs::read_to_string(file)?.lines().count());
///         Ok(())
///     }
/// }
///
/// export_plugin! { commands: { "count-lines" => Count } }
/// ```
pub trait Command: Default + 'static {
    /// One line for lists of commands.
    const ABOUT: &'static str;
    /// What follows the name in the usage line: `FILE`. A command that says nothing here, and has no
    /// [`OPTIONS`](Command::OPTIONS), is never called with arguments: they are refused.
    const ARGUMENTS: &'static str = "";
    /// What `--help` says below the usage line.
    const HELP: &'static str = "";
    /// What `--help` lists. The command reads its arguments itself.
    const OPTIONS: &'static [CommandOption] = &[];
    /// Whether the command must know the application that it is run for, its passwords included.
    /// Then it takes `--project`, `--set` and the like as rex-host's own commands do, and
    /// [`run_in`](Command::run_in) is called.
    const APPLICATION: bool = false;

    /// Runs the command; `arguments` are the words after its name.
    ///
    /// # Errors
    /// Any error is printed, and the exit code is 1, or 2.
    fn run(&mut self, arguments: &[String]) -> Result<()> {
        self.run_in(&Application::default(), arguments)
    }

    /// As [`run`](Command::run), for a command that must know the application.
    ///
    /// # Errors
    /// As [`run`](Command::run).
    fn run_in(&mut self, application: &Application, arguments: &[String]) -> Result<()> {
        let _ = (application, arguments);
        Err(Error::new("the command does nothing"))
    }
}

/// Refuses arguments to a command that takes none, in the original's words.
pub(crate) fn refuse_arguments<C: Command>(name: &str, arguments: &[String]) -> Result<()> {
    let takes_some = !C::ARGUMENTS.is_empty() || !C::OPTIONS.is_empty();
    let Some(word) = arguments.iter().find(|word| *word != "--").filter(|_| !takes_some) else {
        return Ok(());
    };
    Err(Error::usage(match (word.strip_prefix("--"), word.strip_prefix('-')) {
        (Some(option), _) => {
            let name = option.split('=').next().unwrap_or_default();
            format!("unknown option or setting --{name}")
        }
        (None, Some(keys)) if !keys.is_empty() => {
            format!("unknown option -{}", keys.chars().take(1).collect::<String>())
        }
        _ => format!("too many arguments for task {name}"),
    }))
}

/// An option as help shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandOption {
    /// Without dashes.
    pub name: &'static str,
    /// `-k`.
    pub key: Option<char>,
    /// What the value is called; a toggle has none.
    pub value: Option<&'static str>,
    pub hint: &'static str,
}

/// A command has its process to itself.
static QUIET: AtomicBool = AtomicBool::new(false);

pub(crate) fn set_quiet(quiet: bool) {
    QUIET.store(quiet, Ordering::Relaxed);
}

/// Whether the command was called with `--quiet` (or `REX_QUIET`): it prints its answer and errors only.
pub fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Prints a line to stdout, as `println!` does, unless the command was called with `--quiet`.
///
/// ```
/// rex_plugin_api::say!("{} files to go", 3);
/// ```
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => {
        if !$crate::command::is_quiet() {
            println!($($text)*);
        }
    };
}
