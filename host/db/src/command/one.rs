//! One query for a person: the answer streams to standard output or, on a terminal, through a
//! pager and fitted to the width.

use std::io::{self, IsTerminal as _, Write};
use std::process::{Child, Command, Stdio};

use rex_htsql::plan::Format;
use rex_htsql::profile::Profile;
use rex_htsql::{Params, Value};

use super::interrupt::Interrupt;
use super::{CommandError, QueryArgs};
use crate::format::Printer;
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
    if let Some(failure) = answer.failure.take() {
        answer.close();
        return Err(CommandError::Write(failure));
    }
    if let Err(error) = worked {
        answer.close();
        return Err(CommandError::Query(error));
    }
    let started = answer.start();
    let finished = match answer.printer.take() {
        Some(printer) => started.and_then(|()| printer.finish().map(drop)),
        None => started,
    };
    answer.close();
    finished.map_err(CommandError::Write)
}

/// The sink of an answer: opens its output with the first item.
struct Answer {
    format: Format,
    width: Option<usize>,
    paged: bool,
    /// What is to be begun with the first item, or at the end: an error before leaves no output.
    waiting: Option<(Profile, bool)>,
    printer: Option<Printer<Box<dyn Write>>>,
    pager: Option<Child>,
    failure: Option<io::Error>,
    interrupt: Interrupt,
}

impl Answer {
    fn open(&mut self) -> Box<dyn Write> {
        if self.paged
            && let Some((child, input)) = start_pager()
        {
            self.pager = Some(child);
            return Box::new(io::BufWriter::with_capacity(1 << 16, input));
        }
        Box::new(io::BufWriter::with_capacity(1 << 16, io::stdout().lock()))
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

    /// Waits for the reader to leave the pager.
    fn close(&mut self) {
        self.printer = None;
        if let Some(mut pager) = self.pager.take() {
            // A pager that cannot be waited for has nothing more to show.
            let _ended = pager.wait();
        }
    }

    /// Keeps the kind of an output error, which HTSQL's own error text would lose.
    fn keep(&mut self, outcome: io::Result<()>) -> io::Result<()> {
        outcome.map_err(|error| {
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

    fn item(&mut self, value: Value) -> io::Result<()> {
        if self.interrupt.is_raised() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let started = self.start();
        let written = match &mut self.printer {
            Some(printer) => started.and_then(|()| printer.item(value)),
            None => started,
        };
        self.keep(written)
    }

    fn format(&mut self, format: Format) {
        self.format = format;
    }
}

/// The pager of the environment, else `less`, told to leave at once where a screen holds all.
fn start_pager() -> Option<(Child, std::process::ChildStdin)> {
    let pager = std::env::var("PAGER").ok().filter(|pager| !pager.trim().is_empty());
    let mut command = match pager {
        Some(pager) => {
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(pager);
            shell
        }
        None => Command::new("less"),
    };
    if std::env::var_os("LESS").is_none() {
        command.env("LESS", "FRSX");
    }
    let mut child = command.stdin(Stdio::piped()).spawn().ok()?;
    let input = child.stdin.take()?;
    Some((child, input))
}
