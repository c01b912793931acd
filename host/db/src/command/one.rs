//! One query for a person: the answer streams to standard output or, on a terminal, through a
//! pager and fitted to the width.

use std::io::{self, IsTerminal as _, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

use rex_htsql::plan::Format;
use rex_htsql::profile::Profile;
use rex_htsql::{Error, Params};

use super::interrupt::Interrupt;
use super::{CommandError, QueryArgs};
use crate::format::Printer;
use crate::item::{Item, More};
use crate::session::{Session, Sink};

pub(super) fn run(
    session: &mut Session,
    query: &str,
    params: &Params,
    args: &QueryArgs,
    interrupt: &Interrupt,
) -> Result<(), CommandError> {
    if let Some(stage) = args.explain {
        let text = session.explain(query, stage.lens(), params).map_err(CommandError::Query)?;
        let mut out = io::stdout().lock();
        return writeln!(out, "{}", text.trim_end()).map_err(CommandError::Write);
    }
    print(args, interrupt, |sink| session.stream(query, params, sink))
}

/// Prints what `work` hands over. The pager starts with the first of it, so that an error before
/// is seen plainly.
pub(super) fn print(
    args: &QueryArgs,
    interrupt: &Interrupt,
    work: impl FnOnce(&mut dyn Sink) -> Result<(), rex_htsql::Error>,
) -> Result<(), CommandError> {
    let on_terminal = io::stdout().is_terminal();
    let width = if on_terminal {
        terminal_size::terminal_size().map(|(width, _)| usize::from(width.0))
    } else {
        None
    };
    let mut answer = Answer {
        format: args.output(),
        width,
        paged: on_terminal && !args.no_pager,
        waiting: None,
        printer: None,
        pager: None,
        failure: None,
        interrupt: interrupt.clone(),
    };
    let worked = work(&mut answer);
    let outcome = match (answer.failure.take(), worked) {
        (Some(failure), _) => Err(CommandError::Write(failure)),
        (None, Err(error)) => Err(CommandError::Query(error)),
        (None, Ok(())) => answer.finish().map_err(CommandError::Write),
    };
    answer.close().and(outcome)
}

/// The sink of an answer: opens its output with the first item.
struct Answer {
    format: Format,
    width: Option<usize>,
    paged: bool,
    /// What is to be begun with the first item, or at the end: an error before leaves no output.
    waiting: Option<(Profile, bool)>,
    printer: Option<Printer<Box<dyn Write>>>,
    pager: Option<Pager>,
    failure: Option<io::Error>,
    interrupt: Interrupt,
}

impl Answer {
    fn open(&mut self) -> Box<dyn Write> {
        let pager = if self.paged { Pager::start() } else { None };
        let out: Box<dyn Write> = match pager {
            Some((pager, input)) => {
                self.pager = Some(pager);
                Box::new(input)
            }
            None => Box::new(io::stdout().lock()),
        };
        let out = Stoppable { out, interrupt: self.interrupt.clone() };
        Box::new(io::BufWriter::with_capacity(1 << 16, out))
    }

    /// Begins what is waiting to be begun.
    fn start(&mut self) -> io::Result<()> {
        let Some((profile, is_list)) = self.waiting.take() else { return Ok(()) };
        let out = self.open();
        let mut printer = Printer::new(self.format, self.width, out);
        let begun = printer.begin(&profile, is_list);
        self.printer = Some(printer);
        begun
    }

    /// Prints what comes after the last item.
    fn finish(&mut self) -> io::Result<()> {
        self.start()?;
        self.printer.take().map_or(Ok(()), |printer| printer.finish().map(drop))
    }

    /// Waits for the reader to leave the pager; fails where nobody could read in it.
    fn close(&mut self) -> Result<(), CommandError> {
        self.printer = None;
        let Some(Pager { mut child, name }) = self.pager.take() else { return Ok(()) };
        // A pager that cannot be waited for has nothing more to show.
        match child.wait().ok().and_then(|status| status.code()) {
            Some(NOT_EXECUTABLE | NOT_FOUND) => Err(CommandError::Pager(name)),
            _ => Ok(()),
        }
    }

    /// Keeps the kind of an output error, which HTSQL's own error text would lose.
    fn keep(&mut self, outcome: io::Result<()>) -> io::Result<()> {
        outcome.map_err(|error| {
            if error.get_ref().is_some_and(|source| source.is::<Error>()) {
                return error;
            }
            let copy = io::Error::from(error.kind());
            self.failure = Some(error);
            copy
        })
    }
}

impl Sink for Answer {
    fn begin(&mut self, profile: &Profile, is_list: bool) -> io::Result<()> {
        self.waiting = Some((profile.clone(), is_list));
        Ok(())
    }

    fn item(&mut self, item: Item, more: &mut More<'_>) -> io::Result<()> {
        if self.interrupt.is_raised() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let interrupt = self.interrupt.clone();
        more.stop_when(move || interrupt.is_raised());
        let started = self.start();
        let written = match &mut self.printer {
            Some(printer) => started.and_then(|()| printer.item(item, more)),
            None => started,
        };
        self.keep(written)
    }

    fn format(&mut self, format: Format) {
        self.format = format;
    }
}

/// An output that an interrupt ends: what is printed after the last item may be long.
struct Stoppable {
    out: Box<dyn Write>,
    interrupt: Interrupt,
}

impl Write for Stoppable {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.interrupt.is_raised() {
            // Of a kind that is not tried again.
            true => Err(io::Error::other("interrupted")),
            false => self.out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// What a shell says of a command that it cannot run.
const NOT_EXECUTABLE: i32 = 126;
const NOT_FOUND: i32 = 127;

struct Pager {
    child: Child,
    name: String,
}

impl Pager {
    /// The pager of the environment, else `less`, told to leave at once where a screen holds all;
    /// `None` where there is none, or none is wanted.
    fn start() -> Option<(Pager, ChildStdin)> {
        let name = std::env::var("PAGER").unwrap_or_else(|_| "less".to_string());
        if name.trim().is_empty() {
            return None;
        }
        let mut command = Command::new("sh");
        command.arg("-c").arg(&name).stdin(Stdio::piped());
        if !is_there(&name) {
            if name != "less" {
                let mut told = io::stderr().lock();
                let _told = writeln!(told, "warning: there is no pager `{name}` (PAGER)");
            }
            return None;
        }
        if std::env::var_os("LESS").is_none() {
            command.env("LESS", "FRSX");
        }
        let mut child = command.spawn().ok()?;
        let input = child.stdin.take()?;
        Some((Pager { child, name }, input))
    }
}

/// Whether a shell finds the program of a command; what is more than words is left to the shell.
fn is_there(command: &str) -> bool {
    let is_plain = |c: char| c.is_alphanumeric() || "_-+./".contains(c);
    let program = command.split_whitespace().next().unwrap_or_default();
    if !program.chars().all(is_plain) {
        return true;
    }
    let mut find = Command::new("sh");
    find.args(["-c", "command -v \"$1\" >/dev/null", "sh", program]);
    find.status().is_ok_and(|status| status.success())
}
