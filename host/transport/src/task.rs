//! The nouns every transport speaks: a task on its way in, waiting, claimed, finished, dead.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Payload, QueueName};

/// A task's id: unique within one store, ascending in the order of submission, kept for life
/// (requeueing makes a new task, coming back after a host's death does not).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaskId(pub i64);

/// A claim's id, never used twice by one store; the fence against late owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClaimId(pub i64);

/// Microseconds since 1970-01-01 00:00 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

/// A task to be submitted.
#[derive(Debug, Clone)]
pub struct NewTask {
    pub queue: QueueName,
    pub payload: Payload,
}

/// A task that waits in a queue; what `peek` shows.
#[derive(Debug, Clone)]
pub struct WaitingTask {
    pub id: TaskId,
    pub submitted: Timestamp,
    /// The next attempt's number, from 1.
    pub attempt: u32,
    pub payload: Payload,
}

/// A batch of tasks of one queue that belongs to one owner until each is finished.
#[derive(Debug, Clone)]
pub struct Claim {
    pub id: ClaimId,
    pub queue: QueueName,
    /// Oldest first; never empty.
    pub tasks: Vec<ClaimedTask>,
}

#[derive(Debug, Clone)]
pub struct ClaimedTask {
    pub id: TaskId,
    /// This attempt's number, from 1.
    pub attempt: u32,
    pub submitted: Timestamp,
    pub payload: Payload,
}

/// What became of one claimed task.
#[derive(Debug, Clone)]
pub struct Finished {
    pub claim: ClaimId,
    pub task: TaskId,
    pub outcome: Outcome,
    /// What the task asked to be submitted (requeues are submits to its own queue). Written in the
    /// same transaction as the outcome, and only if this claim still held the task.
    pub submits: Vec<NewTask>,
}

#[derive(Debug, Clone)]
pub enum Outcome {
    /// Processed: the task leaves the store.
    Done,
    /// Failed for good: it moves to the dead letters of its queue.
    Dead(Death),
    /// Not run, or its owner stopped: back to its old place in the queue, uncharged.
    Released,
}

/// Why a task died.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Death {
    /// One line that a list can show.
    pub reason: String,
    /// Everything known, as an object the transport does not look into.
    pub details: Value,
}

/// A task that failed for good, kept beside its queue.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    pub id: TaskId,
    pub queue: QueueName,
    pub payload: Payload,
    pub submitted: Timestamp,
    pub died: Timestamp,
    /// Attempts made.
    pub attempts: u32,
    pub death: Death,
}

/// One line of `queue list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueStatus {
    pub queue: QueueName,
    pub waiting: u64,
    /// Claimed and not finished, by any owner.
    pub in_flight: u64,
    pub dead: u64,
    /// When the oldest waiting task was submitted.
    pub oldest: Option<Timestamp>,
}
