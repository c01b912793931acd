//! The nouns every transport speaks: a task on its way in, waiting, claimed, finished, dead.

use std::time::{Duration, SystemTime};

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

impl Timestamp {
    /// This machine's clock.
    pub(crate) fn now() -> Timestamp {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp(micros(since))
    }
}

/// A time span in microseconds.
pub(crate) fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// A dead letter's id: ascending in the order of death, never used twice by one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LetterId(pub i64);

/// A task to be submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTask {
    pub queue: QueueName,
    pub payload: Payload,
    pub attributes: Attributes,
}

impl NewTask {
    /// A task without attributes, as the original's producers submit it.
    pub fn plain(queue: QueueName, payload: Payload) -> NewTask {
        NewTask { queue, payload, attributes: Attributes::default() }
    }
}

/// What a task may have beside its payload. A store that cannot give one refuses the task:
/// [`Features`](crate::Features).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Lower numbers first; first in, first out among equals.
    pub priority: i16,
    pub due: Due,
    /// While a task of that key waits in the queue or is in flight, no other is put in.
    pub unique: Option<String>,
}

impl Attributes {
    pub fn is_plain(&self) -> bool {
        *self == Attributes::default()
    }
}

/// When a task may be claimed, by the store's clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Due {
    #[default]
    Now,
    In(Duration),
    At(Timestamp),
}

/// What became of one submitted task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Submitted {
    pub id: TaskId,
    /// Not put in: the task of that id has the same unique key.
    pub existed: bool,
}

/// A task that waits in a queue; what `peek` shows.
#[derive(Debug, Clone)]
pub struct WaitingTask {
    pub id: TaskId,
    pub submitted: Timestamp,
    /// The next attempt's number, from 1.
    pub attempt: u32,
    pub priority: i16,
    /// When it may be claimed, if that is not yet.
    pub due: Option<Timestamp>,
    pub payload: Payload,
}

/// How much to claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// Tasks at most.
    pub tasks: usize,
    /// Bytes of payloads at most; a single task may have more.
    pub bytes: usize,
    /// Tasks of the queue that may be in flight at once, over all owners.
    pub in_flight: Option<usize>,
}

impl Want {
    /// Bytes that one claim takes unless told otherwise.
    pub const BYTES: usize = 64 << 20;

    /// So many tasks, of which none is very large.
    pub fn tasks(tasks: usize) -> Want {
        Want { tasks, bytes: Want::BYTES, in_flight: None }
    }
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
    pub payload: Payload,
    /// What [`Outcome::Retry`] said of earlier attempts; null on the first.
    pub history: Value,
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
    /// Failed and to be tried again: it waits for its next attempt, its id and date kept.
    Retry {
        after: Duration,
        /// Everything known of the attempts so far, as JSON the transport does not look into.
        history: Value,
    },
    /// Not run, or its owner stopped: back to its old place in the queue, uncharged.
    Released,
}

/// Why a task died.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Death {
    /// One line that a list can show.
    pub reason: String,
    /// Everything known, as an object the transport does not look into but for `attempts`: the
    /// history that a task has when it is put back.
    pub details: Value,
}

/// A task that failed for good, kept beside its queue.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    pub letter: LetterId,
    pub id: TaskId,
    pub queue: QueueName,
    pub payload: Payload,
    pub submitted: Timestamp,
    pub died: Timestamp,
    /// Attempts made.
    pub attempts: u32,
    pub death: Death,
}

/// Which dead letters to list: the oldest deaths first.
#[derive(Debug, Clone, Default)]
pub struct DeadQuery {
    /// Of one queue, or of all.
    pub queue: Option<QueueName>,
    /// Of these tasks, or of all where none is named.
    pub tasks: Vec<TaskId>,
    /// Those after this one: a long list is read page by page.
    pub after: Option<LetterId>,
    pub limit: Option<u64>,
    /// Not beyond the letter that brings a page to so many [`bytes`](DeadLetter::bytes), where a store
    /// can end there: more than half as many, as each store counts them.
    pub bytes: Option<usize>,
}

impl DeadLetter {
    /// Of what has no fixed size: the payload, and what is known of the death.
    pub fn bytes(&self) -> usize {
        self.payload.len() + self.death.details.to_string().len()
    }
}

/// One line of `queue list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueStatus {
    pub queue: QueueName,
    /// Due and not claimed.
    pub waiting: u64,
    /// Waiting for their time.
    pub delayed: u64,
    /// Claimed and not finished, by any owner.
    pub in_flight: u64,
    pub dead: u64,
    /// When the oldest waiting task was submitted.
    pub oldest: Option<Timestamp>,
    /// Nobody claims from it.
    pub paused: bool,
}
