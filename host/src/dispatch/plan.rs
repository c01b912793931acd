//! What the host is to do: settings and plugins, resolved against each other once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rex_transport::QueueName;

use crate::cron::Schedules;
use crate::log::Filter;

/// Everything that a reload may change.
#[derive(Debug, Clone)]
pub struct Plan {
    pub queues: BTreeMap<QueueName, Arc<QueuePlan>>,
    pub schedules: Schedules,
    /// How often an empty queue is asked again when no notification comes.
    pub poll_interval: Duration,
    /// How long a task in hand may take after the host was told to stop.
    pub drain_timeout: Duration,
    /// Bytes that a payload may have.
    pub payload_limit: usize,
    /// Bytes that one task may print.
    pub output_limit: usize,
    /// Whether each plugin in use has a process in reserve.
    pub standby: bool,
    pub filter: Filter,
}

/// One queue and the plugin's worker that it names. Two plans are equal when the same processes
/// serve both.
#[derive(Debug, Clone, PartialEq)]
pub struct QueuePlan {
    pub queue: QueueName,
    pub worker: String,
    pub logger: String,
    pub plugin: PluginCopy,
    pub processes: u32,
    pub rate: Option<Rate>,
    /// How long one task may take.
    pub timeout: Option<Duration>,
    /// Bytes of private memory that a process may have.
    pub memory_limit: Option<u64>,
    /// A JSON object's text: what the worker's context shows as its settings.
    pub settings: String,
}

/// The immutable copy of a plugin that processes load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginCopy {
    /// The file's name as it was dropped.
    pub name: String,
    pub path: PathBuf,
    /// SHA-256 in hex.
    pub hash: String,
}

/// Task starts within a period.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    pub calls: usize,
    pub period: Duration,
}

impl PluginCopy {
    /// Enough of the hash to tell builds apart.
    pub fn short_hash(&self) -> &str {
        self.hash.get(..12).unwrap_or(&self.hash)
    }
}

/// How long a plugin may take to load and its worker to start.
pub const START_TIMEOUT: Duration = Duration::from_secs(30);
