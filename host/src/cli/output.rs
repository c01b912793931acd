//! The only file that prints for people: answers on standard output, errors on standard error.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use rex_transport::Transport;
use serde_json::Value;
use serde_json::value::RawValue;

use super::failure::Failure;
use crate::settings::mask;

/// So many tasks.
pub(crate) fn tasks(count: impl Display) -> String {
    let count = count.to_string();
    if count == "1" { "1 task".to_owned() } else { format!("{count} tasks") }
}

/// Where a command's answer goes.
pub(crate) struct Output {
    out: io::BufWriter<io::Stdout>,
    /// The last line on stderr says how far something is, and has no end yet.
    in_progress: bool,
}

impl Output {
    pub(crate) fn new() -> Output {
        Output { out: io::BufWriter::new(io::stdout()), in_progress: false }
    }

    /// One line of an answer.
    ///
    /// # Errors
    /// When the output is gone.
    pub(crate) fn line(&mut self, text: impl Display) -> Result<(), Failure> {
        writeln!(self.out, "{text}").map_err(gone)
    }

    /// Text that has its own line ends.
    ///
    /// # Errors
    /// When the output is gone.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.out.write_all(text.as_bytes()).map_err(gone)
    }

    /// One object of an answer for programs.
    ///
    /// # Errors
    /// When the output is gone.
    pub(crate) fn json(&mut self, value: &Value) -> Result<(), Failure> {
        self.line(value)
    }

    /// As [`json`](Output::json), of an object whose last field is a stored payload: as it stands there, or
    /// as a text where it is no JSON.
    ///
    /// # Errors
    /// When the output is gone.
    pub(crate) fn json_with_payload(&mut self, rest: &Value, payload: &str) -> Result<(), Failure> {
        // Ends of lines are but blanks: within strings they are escaped.
        let line = payload.replace(['\n', '\r'], " ");
        let payload = match serde_json::from_str::<&RawValue>(&line) {
            Ok(raw) => raw.get().to_owned(),
            Err(_) => Value::from(payload).to_string(),
        };
        let rest = rest.to_string();
        let rest = rest.strip_suffix('}').unwrap_or_default();
        self.line(format_args!("{rest},\"payload\":{payload}}}"))
    }

    /// A table with a head, a line for each row whatever is in it; the last column may be of any
    /// width.
    ///
    /// # Errors
    /// When the output is gone.
    pub(crate) fn table(&mut self, head: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
        let shown = |row: &Vec<String>| row.iter().map(|cell| plain(cell)).collect::<Vec<_>>();
        let rows: Vec<Vec<String>> = rows.iter().map(shown).collect();
        let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
        for row in std::iter::once(&head).chain(&rows) {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            self.line(cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }

    /// What a command does on the way; not part of its answer.
    pub(crate) fn remark(&mut self, text: impl Display) {
        self.end_progress();
        // Nobody to tell is no reason to fail.
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// Shows how far something is, in place of what was shown before: for terminals.
    pub(crate) fn progress(&mut self, what: &str, fraction: Option<f64>, text: Option<&str>) {
        let size = rustix::termios::tcgetwinsize(rustix::stdio::stderr());
        // 0 is what a terminal says that does not know.
        let columns = size.ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0);
        let shown = progress_line(what, fraction, text, columns.unwrap_or(80));
        let _ = write!(io::stderr(), "\r{shown}\x1b[K");
        self.in_progress = true;
    }

    /// What comes after [`Output::progress`] is on a line of its own.
    pub(crate) fn end_progress(&mut self) {
        if std::mem::take(&mut self.in_progress) {
            let _ = writeln!(io::stderr());
        }
    }

    /// What the arguments were not understood for, or the help that they asked for.
    pub(crate) fn usage(error: &clap::Error) -> ExitCode {
        let (text, code) = (error.render().to_string(), error.exit_code());
        let masked = mask(&text);
        // To a closed output there is nothing to say.
        let _ = if masked == text { error.print() } else { write!(io::stderr(), "{masked}") };
        ExitCode::from(u8::try_from(code).unwrap_or(2))
    }

    /// Says what went wrong and what to do.
    pub(crate) fn fail(&mut self, failure: &Failure) -> ExitCode {
        let _ = self.out.flush();
        if is_gone(failure) {
            return ExitCode::SUCCESS;
        }
        self.remark(format_args!("error: {}", mask(&failure.text)));
        if let Some(hint) = &failure.hint {
            self.remark(format_args!("hint: {}", mask(hint)));
        }
        failure.exit_code()
    }

    /// The answer is complete.
    ///
    /// # Errors
    /// When the output is gone.
    pub(crate) fn finish(&mut self) -> Result<ExitCode, Failure> {
        self.out.flush().map_err(gone)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Says what was not understood but is not in the way.
pub(crate) fn warn(warnings: &[String]) {
    for warning in warnings {
        // Nobody to tell is no reason to fail.
        let _ = writeln!(io::stderr(), "warning: {warning}");
    }
}

/// Says of which queues an answer tells nothing; whether there are any.
pub(crate) fn left_out(transport: &mut dyn Transport) -> bool {
    let left_out = transport.left_out().into_iter();
    let warnings: Vec<String> = left_out
        .map(|(queue, reason)| format!("queue {queue} cannot be looked at: {}", mask(&reason)))
        .collect();
    warn(&warnings);
    !warnings.is_empty()
}

/// A reader that has seen enough (`| head`) is no failure.
const GONE: &str = "standard output is closed";

/// Whether a failure is only that nobody reads the answer any more.
pub(crate) fn is_gone(failure: &Failure) -> bool {
    failure.text == GONE
}

fn gone(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Failure::new(GONE)
    } else {
        Failure::new("cannot write to standard output").because(&error)
    }
}

/// How far something is, in less than a line of so many columns: a longer one would be left behind
/// when the next takes its place. What does not fit is left out: the text's end first, then the bar.
fn progress_line(what: &str, fraction: Option<f64>, text: Option<&str>, columns: usize) -> String {
    const BAR: usize = 30;
    let mut line = what.to_owned();
    if let Some(fraction) = fraction {
        let percent = format!(" {:3.0} %", fraction * 100.0);
        let full = (fraction.clamp(0.0, 1.0) * BAR as f64) as usize;
        let bar = format!(" [{}{}]", "#".repeat(full), "-".repeat(BAR - full));
        if line.len() + bar.len() + percent.len() < columns {
            line.push_str(&bar);
        }
        line.push_str(&percent);
    }
    line.push(' ');
    let mut width = line.len();
    for c in plain(text.unwrap_or_default()).chars() {
        // Some of the others take two.
        width += if c.is_ascii() { 1 } else { 2 };
        if width >= columns {
            break;
        }
        line.push(c);
    }
    line.truncate(line.trim_end().len());
    line
}

/// How far something is, by its own account.
pub(crate) fn how_far(fraction: f64, text: Option<&str>) -> String {
    format!("{:.0} % {}", fraction * 100.0, plain(text.unwrap_or_default()))
}

/// A text that stays one line and tells a terminal nothing, whatever is in it.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_less_than_a_line() {
        let shown = |columns| progress_line("started", Some(0.25), Some("étape 1 of 4"), columns);
        assert_eq!(shown(80), "started [#######-----------------------]  25 % étape 1 of 4");
        assert_eq!(shown(54), "started [#######-----------------------]  25 % étape");
        assert_eq!(shown(46), "started  25 % étape 1 of 4");
        assert_eq!(shown(20), "started  25 % étap");
        assert_eq!(shown(1), "started  25 %");
        assert_eq!(progress_line("queued", None, None, 80), "queued");
    }
}
