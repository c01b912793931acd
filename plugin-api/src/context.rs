//! What a worker may ask of its host while it processes a task.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::abi::{Buffer, Host};
use crate::application::Application;
use crate::error::{Error, Result};
use crate::ops::{self, Log, Progress, Submit};
use crate::payload::Payload;

/// Severity of a log line, the original's five.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    Debug,
    Info,
    Warning,
    Error,
    Critical,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Debug => "DEBUG",
            Level::Info => "INFO",
            Level::Warning => "WARNING",
            Level::Error => "ERROR",
            Level::Critical => "CRITICAL",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The task in hand, seen from the worker: who it is, what may be asked for it.
///
/// May be shared with threads that the worker starts, as long as they end before `process` does.
pub struct Context<'a> {
    pub(crate) host: &'a dyn Host,
    pub(crate) queue: &'a str,
    pub(crate) task_id: i64,
    pub(crate) attempt: u32,
    pub(crate) level: Level,
    pub(crate) settings: &'a Map<String, Value>,
    pub(crate) application: &'a Application,
}

impl Context<'_> {
    /// The queue that this process works on.
    pub fn queue(&self) -> &str {
        self.queue
    }

    /// The task's id in its store; 0 in [`Worker::start`](crate::Worker::start).
    pub fn task_id(&self) -> i64 {
        self.task_id
    }

    /// Which attempt at this task this is, from 1. A host's death does not count as one.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The map `settings` of the queue's entry in `asynctask_workers`; empty when there is none.
    pub fn settings(&self) -> &Map<String, Value> {
        self.settings
    }

    /// The application, for a worker or executor whose `APPLICATION` says that it must know it; empty
    /// for any other.
    pub fn application(&self) -> &Application {
        self.application
    }

    /// Writes a log line under the worker's logger, in step with what the worker prints. Records
    /// below the configured level are dropped here.
    pub fn log(&self, level: Level, text: impl fmt::Display) {
        if level < self.level {
            return;
        }
        crate::registry::flush_stdio();
        let record = Log { level, text: text.to_string() };
        // A host that cannot take a log line is gone, and this process with it.
        let _ = self.call_host(ops::HOST_LOG, &record);
    }

    pub fn debug(&self, text: impl fmt::Display) {
        self.log(Level::Debug, text);
    }

    pub fn info(&self, text: impl fmt::Display) {
        self.log(Level::Info, text);
    }

    pub fn warning(&self, text: impl fmt::Display) {
        self.log(Level::Warning, text);
    }

    pub fn error(&self, text: impl fmt::Display) {
        self.log(Level::Error, text);
    }

    /// Puts a new task into this worker's own queue once the task in hand has succeeded.
    ///
    /// # Errors
    /// When the payload is no JSON object or is over the host's size limit.
    #[track_caller]
    pub fn requeue<P>(&self, payload: P) -> Result<()>
    where
        P: TryInto<Payload>,
        P::Error: Into<Error>,
    {
        let payload = payload_from(payload)?;
        self.call_host(ops::HOST_SUBMIT, &Submit { queue: None, payload: payload.to_json() })?;
        self.debug(format_args!("Requeued payload: {payload}"));
        Ok(())
    }

    /// Puts a new task into `queue` once the task in hand has succeeded.
    ///
    /// # Errors
    /// When `queue` is no queue name, or as for [`requeue`](Self::requeue).
    #[track_caller]
    pub fn submit<P>(&self, queue: &str, payload: P) -> Result<()>
    where
        P: TryInto<Payload>,
        P::Error: Into<Error>,
    {
        let payload = payload_from(payload)?;
        let request = Submit { queue: Some(queue.to_owned()), payload: payload.to_json() };
        self.call_host(ops::HOST_SUBMIT, &request)
    }

    /// Says how far the task in hand is: a fraction from 0 to 1, and a line for whoever looks at
    /// `rex-host status` or waits for the job. May be called as often as is convenient: the host shows
    /// the last one.
    pub fn progress(&self, fraction: f64, text: impl fmt::Display) {
        let fraction = if fraction.is_finite() { fraction.clamp(0.0, 1.0) } else { 0.0 };
        let report = Progress { fraction, text: text.to_string() };
        // A host that does not know the operation shows none.
        let _ = self.call_host(ops::HOST_PROGRESS, &report);
    }

    /// Whether the task in hand should come to an end: its time limit is near (`notice` of its queue)
    /// or its host is stopping. A long task that asks now and then can save what it has, requeue the
    /// rest and return; one that does not is killed when the time is up.
    pub fn should_stop(&self) -> bool {
        let mut output = Buffer::default();
        // A host that does not know the operation gives no notice.
        self.host.call(ops::HOST_SHOULD_STOP, &[], &mut output) == ops::OK && *output == *b"1"
    }

    /// Sends any operation to the host: for operations that are newer than this crate.
    ///
    /// # Errors
    /// The host's refusal, or a text that names both versions when the host does not know `op`.
    #[track_caller]
    pub fn call_host(&self, op: u32, request: &impl Serialize) -> Result<()> {
        let input = serde_json::to_vec(request)?;
        let mut output = Buffer::default();
        match self.host.call(op, &input, &mut output) {
            ops::OK => Ok(()),
            ops::UNKNOWN_OP => Err(Error::of(
                "UnknownOperation",
                format!(
                    "the host does not know operation {op}; it speaks plugin API {}, this plugin \
                     was built against {}; update rex-host or do without",
                    String::from_utf8_lossy(&output),
                    ops::API
                ),
            )),
            _ => Err(Error::of("Refused", String::from_utf8_lossy(&output).into_owned())),
        }
    }
}

/// A `match`: as a function's name `Into::into` is called by the library, which would be the place.
#[track_caller]
fn payload_from<P>(payload: P) -> Result<Payload>
where
    P: TryInto<Payload>,
    P::Error: Into<Error>,
{
    match payload.try_into() {
        Ok(payload) => Ok(payload),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{Context, Payload, Result, Worker, testing};

    /// Asks for what is refused, in one line.
    struct Asks(fn(&Context) -> Result<()>);

    impl Worker for Asks {
        fn process(&mut self, _: &Payload, ctx: &Context) -> Result<()> {
            (self.0)(ctx)
        }
    }

    impl Default for Asks {
        fn default() -> Asks {
            Asks(|_| Ok(()))
        }
    }

    #[test]
    fn a_refusal_is_where_it_was_asked_for() {
        let line = line!() + 2;
        let asks: [fn(&Context) -> Result<()>; 4] = [
            |ctx| ctx.requeue(json!([1, 2])),
            |ctx| ctx.submit("other", json!([1, 2])),
            |ctx| ctx.call_host(u32::MAX, &1),
            |ctx| ctx.call_host(crate::ops::HOST_LOG, &Mute),
        ];
        for (ask, line) in asks.into_iter().zip(line..) {
            let failure = testing::run(&mut Asks(ask), json!({})).result.unwrap_err();
            assert_eq!(failure.place, Some(format!("{}:{line}", file!())), "{failure:?}");
        }
    }

    /// Has no JSON.
    struct Mute;

    impl serde::Serialize for Mute {
        fn serialize<S: serde::Serializer>(&self, _: S) -> std::result::Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("there is none"))
        }
    }
}
