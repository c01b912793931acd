//! Why a task failed, for its dead letter and for the log.

use std::time::Duration;

use rex_transport::Death;
use serde_json::{Value, json};

use super::held::Fault;
use super::plan::QueuePlan;
use super::running::SILENT;
use crate::supervisor::Exit;
use crate::supervisor::exit::How;

/// Why the host itself killed a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The task in hand took longer than its queue allows.
    TimedOut(Duration),
    /// The task in hand used more CPU time than its queue allows.
    CpuSpent(Duration),
    /// Somebody cancelled the job in hand, which did not end by itself.
    Cancelled,
    /// It began none of the tasks that it was given.
    Silent,
    /// It sent what no worker sends.
    Nonsense,
    /// It had to make room: a drain's deadline, an order to stop now. Nobody is to blame.
    Ordered,
}

/// The process that a task failed in.
#[derive(Debug, Clone)]
pub struct Scene<'a> {
    pub plan: &'a QueuePlan,
    pub pid: i32,
    /// The last lines that were printed while the task in hand ran.
    pub last_output: Vec<String>,
    /// Whether it has said that it gets no memory.
    pub lacks_memory: bool,
    /// How long the task in hand has run.
    pub ran: Option<Duration>,
    /// CPU time that was counted of it and of what it has started, where that is limited.
    pub cpu: Duration,
}

/// What a dead letter tells of the process, and `more`.
pub(super) fn details(
    kind: &str,
    plan: &QueuePlan,
    pid: i32,
    last_output: &[String],
    more: Value,
) -> Value {
    let mut details = json!({
        "kind": kind,
        "worker": plan.worker,
        "plugin": plan.plugin.name,
        "plugin_hash": plan.plugin.hash,
        "pid": pid,
        "last_output": last_output,
    });
    if let (Some(details), Value::Object(more)) = (details.as_object_mut(), more) {
        details.extend(more);
    }
    details
}

impl Scene<'_> {
    fn details(&self, kind: &str, more: Value) -> Value {
        details(kind, self.plan, self.pid, &self.last_output, more)
    }

    /// A worker that returned an error, or panicked and was caught.
    pub fn failed(&self, fault: &Fault) -> Death {
        let failure = &fault.failure;
        let kind = if failure.panicked { "panic" } else { "error" };
        let more = json!({
            "class": failure.class,
            "text": failure.text,
            "place": failure.place,
            "traceback": failure.traceback(),
            "cpu_ms": fault.cpu.map(|cpu| cpu.as_millis() as u64),
            "peak_rss": fault.peak_rss,
            "ran_ms": fault.ran.as_millis() as u64,
            "last_output": fault.last_output,
        });
        Death { reason: failure.last_line(), details: self.details(kind, more) }
    }

    /// A process that ended while it was at a task.
    pub fn ended(&self, exit: &Exit, verdict: Option<Verdict>) -> Death {
        let more = json!({
            "exit": exit.how.to_string(),
            "signal": match exit.how { How::Signal(number) => Some(number), _ => None },
            "exit_code": match exit.how { How::Code(code) => Some(code), _ => None },
            "cpu_ms": exit.cpu.max(self.cpu).as_millis() as u64,
            "peak_rss": exit.peak_rss,
            "ran_ms": self.ran.map(|ran| ran.as_millis() as u64),
        });
        let kind = match verdict {
            Some(Verdict::TimedOut(_)) => "timeout",
            Some(Verdict::CpuSpent(_)) => "cpu",
            Some(Verdict::Cancelled) => "cancelled",
            _ if self.out_of_memory(exit) => "memory",
            _ => "crash",
        };
        let reason = format!("the worker's process {}", self.cause(exit, verdict));
        Death { reason, details: self.details(kind, more) }
    }

    /// What ended the process, to follow its name: `was killed by signal 11 (SIGSEGV)`.
    pub fn cause(&self, exit: &Exit, verdict: Option<Verdict>) -> String {
        match verdict {
            Some(Verdict::TimedOut(limit)) => {
                format!("passed the time limit of {} s and was killed", limit.as_secs_f64())
            }
            Some(Verdict::CpuSpent(limit)) => {
                format!("passed the limit of {} s of CPU time and was killed", limit.as_secs_f64())
            }
            Some(Verdict::Cancelled) => "was killed since its job was cancelled".to_owned(),
            Some(Verdict::Silent) => {
                format!("did not react for {} s and was killed", SILENT.as_secs())
            }
            Some(Verdict::Nonsense) => "sent what no worker sends and was killed".to_owned(),
            _ if self.out_of_memory(exit) => {
                let limit = self.plan.memory_limit.unwrap_or(0);
                format!("passed the memory limit of {limit} bytes and {}", exit.how)
            }
            _ => match exit.how {
                // Nobody asked it to: an exit code of 0 is no success.
                How::Code(_) => format!("{} unasked", exit.how),
                How::Signal(_) | How::Unknown => exit.how.to_string(),
            },
        }
    }

    /// Under a memory limit the kernel refuses an allocation; the plugin's allocator says so and
    /// gives up.
    fn out_of_memory(&self, exit: &Exit) -> bool {
        self.plan.memory_limit.is_some()
            && matches!(exit.how, How::Signal(libc::SIGABRT | libc::SIGSEGV))
            && self.lacks_memory
    }
}
