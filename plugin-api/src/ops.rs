//! What crosses the boundary: operation numbers, and the JSON texts that go with them.
//!
//! The boundary itself ([`abi`](crate::abi)) is frozen: bytes in, bytes out. It grows by new numbers
//! here. A side that does not know a number answers [`UNKNOWN_OP`] with its own API version as
//! text, and goes on. Fields may be added to the texts; readers ignore the ones they do not know.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::application::Application;
use crate::context::Level;

/// The plugin API's version. The major one is the frozen layout; the minor one rises with each
/// operation or field that is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiVersion {
    pub major: u32,
    pub minor: u32,
}

/// What this crate speaks.
pub const API: ApiVersion = ApiVersion { major: 1, minor: 5 };

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Answers of either side.
pub const OK: u32 = 0;
/// The output is a [`Failure`] (from a plugin) or a text (from the host).
pub const FAILED: u32 = 1;
/// The output is the answering side's API version as text.
pub const UNKNOWN_OP: u32 = 2;
/// The input did not parse; the output says why.
pub const BAD_INPUT: u32 = 3;

/// Host to plugin: nothing in, a [`Manifest`] out.
pub const PLUGIN_DESCRIBE: u32 = 1;
/// Host to plugin: a [`Start`] in; makes the worker of this process.
pub const PLUGIN_START: u32 = 2;
/// Host to plugin: a [`TaskHeader`], a newline and the payload's text in.
pub const PLUGIN_PROCESS: u32 = 3;
/// Host to plugin: a [`RunCommand`] in. Since API 1.2.
pub const PLUGIN_COMMAND: u32 = 4;
/// Host to plugin: a [`JobHeader`], a newline and the payload's text in; needs no [`PLUGIN_START`].
/// Since API 1.3.
pub const PLUGIN_JOB: u32 = 5;
/// Host to plugin: a [`Start`] in, whose worker is an executor; needs no [`PLUGIN_START`]. Since API 1.5.
pub const PLUGIN_START_EXECUTOR: u32 = 6;

/// Plugin to host: a [`Log`] in.
pub const HOST_LOG: u32 = 1;
/// Plugin to host: a [`Submit`] in.
pub const HOST_SUBMIT: u32 = 2;

/// Plugin to host: nothing in, `1` out once the task in hand should come to an end, else `0`. Since
/// API 1.1.
pub const HOST_SHOULD_STOP: u32 = 3;
/// Plugin to host: a [`Facet`] in; answered when it is committed. Since API 1.3.
pub const HOST_UPDATE_FACET: u32 = 4;
/// Plugin to host: a [`Progress`] in. Since API 1.3.
pub const HOST_PROGRESS: u32 = 5;

/// The host operations that there are.
pub const HOST_OPS: &[u32] =
    &[HOST_LOG, HOST_SUBMIT, HOST_SHOULD_STOP, HOST_UPDATE_FACET, HOST_PROGRESS];

/// What a plugin exports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub name: String,
    pub version: String,
    pub api: ApiVersion,
    /// Host operations without which the plugin cannot work.
    #[serde(default)]
    pub needs: Vec<u32>,
    /// Whether panics unwind. Without it a panic cannot be caught and kills the process.
    pub unwinds: bool,
    pub workers: Vec<WorkerEntry>,
    /// Since API 1.2.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<CommandEntry>,
    /// Since API 1.3.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub executors: Vec<ExecutorEntry>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerEntry {
    /// The name that settings use.
    pub name: String,
    /// The logger's name: the worker's type.
    pub logger: String,
    /// Whether it must know the application. Since API 1.4.
    #[serde(default, skip_serializing_if = "is_false")]
    pub application: bool,
}

/// See [`Command`](crate::Command).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandEntry {
    pub name: String,
    pub about: String,
    pub arguments: String,
    pub help: String,
    /// Whether it must know the application. Since API 1.4.
    #[serde(default, skip_serializing_if = "is_false")]
    pub application: bool,
    /// Since API 1.5.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<OptionEntry>,
}

/// See [`CommandOption`](crate::CommandOption).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptionEntry {
    pub name: String,
    pub key: Option<char>,
    pub value: Option<String>,
    pub hint: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde takes")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// See [`JobExecutor`](crate::JobExecutor).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecutorEntry {
    /// The type of the jobs that it runs.
    pub name: String,
    /// The logger's name: the executor's type.
    pub logger: String,
    /// Whether it must know the application. Since API 1.4.
    #[serde(default, skip_serializing_if = "is_false")]
    pub application: bool,
    /// Whether it has something to do before the first job. Since API 1.5.
    #[serde(default, skip_serializing_if = "is_false")]
    pub starts: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunCommand {
    pub command: String,
    pub arguments: Vec<String>,
    /// For a command that declares that it must know it. Since API 1.4.
    #[serde(default)]
    pub application: Application,
    /// Whether only errors are wanted. Since API 1.5.
    #[serde(default)]
    pub quiet: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Start {
    pub worker: String,
    pub queue: String,
    /// Log lines below it need not be sent.
    pub level: Level,
    #[serde(default)]
    pub settings: Map<String, Value>,
    /// For a worker that declares that it must know it. Since API 1.4.
    #[serde(default)]
    pub application: Application,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TaskHeader {
    pub id: i64,
    pub attempt: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobHeader {
    pub executor: String,
    pub code: i64,
    pub owner: String,
    #[serde(default)]
    pub title: Option<String>,
    pub task: TaskHeader,
    pub queue: String,
    /// Log lines below it need not be sent.
    pub level: Level,
    #[serde(default)]
    pub settings: Map<String, Value>,
    /// For an executor that declares that it must know it. Since API 1.4.
    #[serde(default)]
    pub application: Application,
}

/// Fields of the row of `table` that belongs to the job in hand.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Facet {
    pub table: String,
    pub fields: Map<String, Value>,
}

/// How far the job in hand is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// From 0 to 1.
    pub fraction: f64,
    pub text: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Log {
    pub level: Level,
    pub text: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Submit {
    /// The worker's own queue when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// The text of a JSON object.
    pub payload: String,
}

/// The class of failures of commands whose arguments were not understood. Since API 1.5.
pub const USAGE: &str = "UsageError";

/// The class of failures that a command has told itself. Since API 1.5.
pub const TOLD: &str = "ToldError";

/// Why a task, a start or a command failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A panic that was caught, rather than an error that was returned.
    pub panicked: bool,
    pub class: String,
    pub text: String,
    /// `file:line` of the error or panic.
    pub place: Option<String>,
    /// Lines between the head of the traceback and its last line: the place, causes, a backtrace.
    pub frames: Vec<String>,
    /// Since API 1.1.
    #[serde(default)]
    pub again: Again,
}

/// What a failed task says about being tried again, within its queue's `max_attempts`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Again {
    /// After the queue's backoff.
    #[default]
    AsConfigured,
    /// After so many milliseconds.
    After(u64),
    Never,
}

impl Failure {
    /// In the original's form: a head, indented lines, and last `Class: text`.
    pub fn traceback(&self) -> String {
        let mut out = String::from("Traceback (most recent call last):\n");
        for frame in &self.frames {
            out.push_str("  ");
            out.push_str(frame);
            out.push('\n');
        }
        out.push_str(&self.last_line());
        out
    }

    /// `Class: text`.
    pub fn last_line(&self) -> String {
        format!("{}: {}", self.class, self.text)
    }
}
