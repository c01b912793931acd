//! Log lines as the original prints them, `LEVEL:Logger:message` on standard output, or as JSON.
//!
//! Everything goes through `tracing`. The field `logger` names the logger; an event without it is
//! an addition of ours, which the original's spelling of the command line keeps to itself unless it
//! warns. Prints of plugins come through [`Console`] too, so that no two lines ever mix.

mod outlet;

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crossbeam_channel::Receiver;
use rex_plugin_api::Level;
use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use self::outlet::{End, Outlet, Stream};

/// The master's logger, as the original names it.
pub const MASTER: &str = "AsyncTaskWorkerTask";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// `LEVEL:Logger:message`
    #[default]
    Text,
    /// One JSON object a line: time, level, logger, message
    Json,
}

/// What is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Of loggers without a level of their own.
    pub level: Level,
    /// By logger name; a name also counts for those below it (`a` for `a.b`).
    pub loggers: BTreeMap<String, Level>,
    /// Silences WARNING and below, whatever `level` says.
    pub quiet: bool,
    /// Whether events without a `logger` are shown below WARNING.
    pub additions: bool,
}

impl Filter {
    /// The lowest level of `logger` that is shown.
    pub fn threshold(&self, logger: &str) -> Level {
        let mut names = std::iter::successors(Some(logger), |name| Some(name.rsplit_once('.')?.0));
        let level = names.find_map(|name| self.loggers.get(name)).unwrap_or(&self.level);
        if self.quiet { (*level).max(Level::Error) } else { *level }
    }
}

/// Standard output and error of the host, shared by all that write whole lines.
#[derive(Clone)]
pub struct Console {
    format: Format,
    shared: Arc<Mutex<Filter>>,
    outlet: Outlet,
}

impl Console {
    pub fn new(format: Format, filter: Filter) -> Console {
        Console { format, shared: Arc::new(Mutex::new(filter)), outlet: Outlet::new() }
    }

    /// Makes this the place where all events of the process go.
    pub fn install(&self) {
        let subscriber = tracing_subscriber::registry().with(Lines { console: self.clone() });
        // Fails when another one is installed, as in tests that run a host twice.
        let _ = tracing::subscriber::set_global_default(subscriber);
    }

    /// Changes what is shown: a reload may.
    pub fn set_filter(&self, filter: Filter) {
        *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = filter;
    }

    /// Passes on what a plugin printed: whole lines.
    pub fn print(&self, queue: &str, to_stderr: bool, text: &[u8]) {
        let _guard = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        match self.format {
            Format::Text => {
                self.outlet.write(if to_stderr { Stream::Err } else { Stream::Out }, text);
            }
            Format::Json => {
                for line in text.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
                    let stream = if to_stderr { "stderr" } else { "stdout" };
                    let message = String::from_utf8_lossy(line);
                    let record = json!({
                        "time": now(), "level": "PRINT", "queue": queue, "stream": stream,
                        "message": message,
                    });
                    self.outlet.write(Stream::Out, format!("{record}\n").as_bytes());
                }
            }
        }
    }

    /// Whether what plugins print should wait, since it is read more slowly; not when nobody has read for
    /// 5 seconds.
    pub fn is_full(&self) -> bool {
        self.outlet.is_full()
    }

    /// An order to end by then has come: a reader that has stopped reading is not waited for, and
    /// one that is slow no longer than that.
    pub fn end(&self, by: Instant) {
        self.outlet.hurry(End::By(by));
    }

    /// The end is wanted at once: it hardly waits for a reader any more.
    pub fn hurry(&self) {
        self.outlet.hurry(End::AtOnce);
    }

    /// From now on outcomes do not wait for the output.
    pub fn release(&self) {
        self.outlet.release();
    }

    /// Where all that was said and printed until now ends.
    pub fn mark(&self) -> u64 {
        self.outlet.mark()
    }

    /// Up to which mark everything is written, or not to be waited for any more: nobody has read
    /// for 5 seconds, or the end is wanted at once.
    pub fn out(&self) -> u64 {
        self.outlet.out()
    }

    /// Receives when [`Console::out`] may have changed.
    pub fn written(&self) -> &Receiver<()> {
        self.outlet.wake()
    }

    /// Waits until everything is written; any of `signals` ends the process meanwhile, with this code.
    pub fn flush(&self, signals: &[i32], code: u8) {
        for signal in signals {
            // Without the handler only patience helps.
            let _ = signal_hook::flag::register_conditional_shutdown(
                *signal,
                code.into(),
                Arc::new(AtomicBool::new(true)),
            );
        }
        self.outlet.flush();
    }

    fn record(&self, level: Level, logger: &str, text: &str, addition: bool) {
        let filter = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let hidden = addition && !filter.additions && level < Level::Warning;
        if level < filter.threshold(logger) || hidden {
            return;
        }
        let line = match self.format {
            Format::Text => format!("{level}:{logger}:{text}\n"),
            Format::Json => {
                let record = json!({
                    "time": now(), "level": level.as_str(), "logger": logger, "message": text,
                });
                format!("{record}\n")
            }
        };
        self.outlet.write(Stream::Out, line.as_bytes());
    }
}

fn now() -> String {
    crate::clock::rfc3339(std::time::SystemTime::now())
}

/// Writes a log record of a logger whose name is known only now.
pub fn emit(level: Level, logger: &str, text: &str) {
    match level {
        Level::Debug => tracing::debug!(logger, "{text}"),
        Level::Info => tracing::info!(logger, "{text}"),
        Level::Warning => tracing::warn!(logger, "{text}"),
        Level::Error => tracing::error!(logger, "{text}"),
        Level::Critical => tracing::error!(logger, critical = true, "{text}"),
    }
}

struct Lines {
    console: Console,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = match *event.metadata().level() {
            _ if fields.critical => Level::Critical,
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warning,
            tracing::Level::INFO => Level::Info,
            _ => Level::Debug,
        };
        let target = event.metadata().target();
        // Libraries log for their own authors: only what needs a person is worth a line.
        if !target.starts_with("rex_") && level < Level::Warning {
            return;
        }
        let addition = fields.logger.is_empty();
        let logger = if addition { "rex-host" } else { &fields.logger };
        self.console.record(level, logger, &fields.message, addition);
    }
}

#[derive(Default)]
struct Fields {
    logger: String,
    message: String,
    critical: bool,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "logger" => value.clone_into(&mut self.logger),
            "message" => value.clone_into(&mut self.message),
            _ => {}
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        if field.name() == "critical" {
            self.critical = value;
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            // Writing to a String cannot fail.
            let _ = write!(self.message, "{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Filter, Level};

    #[test]
    fn a_logger_has_its_own_level_or_that_of_the_names_above_it() {
        let loggers = [("FooWorker".to_owned(), Level::Error), ("a".to_owned(), Level::Debug)];
        let mut filter =
            Filter { level: Level::Info, loggers: loggers.into(), quiet: false, additions: true };
        let levels = |filter: &Filter| ["FooWorker", "a.b.c", "ab"].map(|l| filter.threshold(l));
        assert_eq!(levels(&filter), [Level::Error, Level::Debug, Level::Info]);
        filter.quiet = true;
        assert_eq!(levels(&filter), [Level::Error, Level::Error, Level::Error]);
    }
}
