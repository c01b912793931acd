//! What the host is to do: settings and plugins, resolved against each other once.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use rex_transport::{Features, QueueName};

use super::retry::Retries;
use crate::cron::Schedules;
use crate::jobs::{Duty, Rules};
use crate::log::Filter;

/// Everything that a reload may change.
#[derive(Debug, Clone)]
pub struct Plan {
    pub queues: IndexMap<QueueName, Arc<QueuePlan>>,
    pub schedules: Schedules,
    /// Of jobs, if any queue is theirs.
    pub rules: Rules,
    /// How often an empty queue is asked again when no notification comes.
    pub poll_interval: Duration,
    /// How long a task in hand may take after the host was told to stop.
    pub drain_timeout: Duration,
    /// Bytes that one task may print.
    pub output_limit: usize,
    /// How long dead letters are kept.
    pub retention: Option<Duration>,
    /// Whether each plugin in use has a process in reserve.
    pub standby: bool,
    pub filter: Filter,
}

impl Plan {
    /// Whether the settings of neither queues nor schedules nor logging are the same.
    pub fn same_host(&self, other: &Plan) -> bool {
        let of = |plan: &Plan| {
            (
                plan.poll_interval,
                plan.drain_timeout,
                plan.output_limit,
                plan.retention,
                plan.standby,
                plan.rules.clone(),
            )
        };
        of(self) == of(other)
    }

    /// Whether any of its queues needs the table of jobs.
    pub fn has_jobs(&self) -> bool {
        self.queues.values().any(|plan| plan.duty.is_some())
    }

    /// # Errors
    /// Names the first setting that a store of these features cannot give.
    pub fn refuse_beyond(&self, features: &Features, label: &str) -> Result<(), String> {
        for plan in self.queues.values() {
            let beyond = if plan.retries.max_attempts > 1 && !features.delays {
                "max_attempts"
            } else if plan.in_flight.is_some() && !features.in_flight {
                "max_in_flight"
            } else {
                continue;
            };
            return Err(format!(
                "queue {} asks for {beyond}, which {label} cannot give\nWhile validating setting:\n    \
                 asynctask_workers",
                plan.queue
            ));
        }
        Ok(())
    }
}

/// One queue and the plugin's worker that it names. Two plans are equal when the same processes
/// serve both.
#[derive(Debug, Clone, PartialEq)]
pub struct QueuePlan {
    pub queue: QueueName,
    pub worker: String,
    pub logger: String,
    pub plugin: PluginCopy,
    /// What rex-host itself does for this queue, without the plugin's worker.
    pub duty: Option<Duty>,
    /// Who runs jobs, by their type, where that is the duty.
    pub executors: Vec<ExecutorPlan>,
    pub processes: u32,
    pub rate: Option<Rate>,
    /// How long one task may take.
    pub timeout: Option<Duration>,
    /// How long before that the task is told.
    pub notice: Option<Duration>,
    /// CPU time that one task may take.
    pub cpu_limit: Option<Duration>,
    /// Bytes of private memory that a process may have.
    pub memory_limit: Option<u64>,
    pub recycling: Recycling,
    pub retries: Retries,
    /// Tasks that may be in flight at once, over all hosts.
    pub in_flight: Option<usize>,
    /// Bytes that a payload may have that a task submits.
    pub payload_limit: usize,
    /// A JSON object's text: what the worker's context shows as its settings.
    pub settings: String,
    /// The text of an `Application`, for a worker or executors that must know it; else empty.
    pub application: String,
    /// What its processes find in their environment on top of the host's: a worker may start rex-host
    /// itself.
    pub environment: Arc<[(&'static str, OsString)]>,
}

/// When a process is exchanged for a new one, between tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recycling {
    /// After so many tasks.
    pub tasks: Option<u64>,
    pub age: Option<Duration>,
    /// At so many resident bytes.
    pub rss: Option<u64>,
}

/// The immutable copy of a plugin that processes load.
#[derive(Debug, Clone, Eq)]
pub struct PluginCopy {
    /// The file's name as it was dropped.
    pub name: String,
    pub path: PathBuf,
    /// SHA-256 in hex.
    pub hash: String,
}

/// The same content under another name is the same plugin: nothing is exchanged for that.
impl PartialEq for PluginCopy {
    fn eq(&self, other: &PluginCopy) -> bool {
        self.hash == other.hash
    }
}

/// Who runs the jobs of one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutorPlan {
    /// The type.
    pub name: String,
    pub logger: String,
    pub plugin: PluginCopy,
    /// Whether it must know the application.
    pub application: bool,
    /// Whether it has something to do before the first job.
    pub starts: bool,
}

impl QueuePlan {
    /// The plugins that its processes may load.
    pub fn plugin_hashes(&self) -> impl Iterator<Item = &String> {
        let of_executors = self.executors.iter().map(|executor| &executor.plugin.hash);
        std::iter::once(&self.plugin.hash).chain(of_executors)
    }

    /// Whether its tasks are jobs. They are claimed only as processes are free for them: what is claimed
    /// counts as started.
    pub fn runs_jobs(&self) -> bool {
        self.duty == Some(Duty::Executor)
    }
}

/// Task starts within a period.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    pub calls: usize,
    pub period: Duration,
}

impl PluginCopy {
    /// For what rex-host does itself.
    pub fn own() -> PluginCopy {
        PluginCopy {
            name: "rex-host".to_owned(),
            path: PathBuf::new(),
            hash: "built in".to_owned(),
        }
    }

    /// Enough of the hash to tell builds apart.
    pub fn short_hash(&self) -> &str {
        self.hash.get(..12).unwrap_or(&self.hash)
    }
}

/// How long a plugin may take to load and its worker to start.
pub const START_TIMEOUT: Duration = Duration::from_secs(30);
