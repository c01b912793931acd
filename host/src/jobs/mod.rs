//! Jobs: rows of the table `job`, each worked by the executor of its type.
//!
//! ```text
//! a row, `new` ──▶ desk: queues what limits allow ──▶ {"code": 7} in rex_job_0
//!                                                          │ claim
//!                 transport: the row is `started` ◀────────┘
//!                          │ task, with the row's fields
//!                 worker/job.rs: loads the executor's plugin, runs it
//!                          │ done · failed · (the process died)
//!                 transport: the row is `completed` or `failed`, then the task leaves the queue;
//!                 the other way round, where the job submits something (orphans)
//! ```
//!
//! `transport` stands around the transport, so that the loop, the slots and the plugins need not know the
//! table. `desk` is a thread with a connection of its own: it queues new jobs, deletes old ones, keeps
//! facets, logs and progress, and hears of cancellations. `table` has all SQL. Both share the [`Book`]
//! of the jobs that this host runs.

mod desk;
mod orphans;
mod patience;
mod refusals;
mod strays;
mod table;
#[cfg(test)]
mod tests;
mod transport;
mod watch;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rex_transport::{ClaimId, QueueName, TaskId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use self::desk::{Desk, Event, Means};
pub use self::table::{Cancelled, Filter, NewJob, Row, Table, TableError};
pub use self::transport::JobTransport;

/// What rex-host itself does for jobs, by the names that settings use for workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Duty {
    Cleanup,
    Executor,
    Queuer,
}

impl Duty {
    pub const ALL: [Duty; 3] = [Duty::Cleanup, Duty::Executor, Duty::Queuer];

    pub fn of(worker: &str) -> Option<Duty> {
        Duty::ALL.into_iter().find(|duty| duty.worker() == worker)
    }

    pub fn worker(self) -> &'static str {
        match self {
            Duty::Cleanup => "job_cleanup",
            Duty::Executor => "job_executor",
            Duty::Queuer => "job_queuer",
        }
    }

    pub fn logger(self) -> &'static str {
        match self {
            Duty::Cleanup => "JobCleanupWorker",
            Duty::Executor => "JobExecutorWorker",
            Duty::Queuer => "JobQueuerWorker",
        }
    }
}

/// How new jobs are queued and old ones kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// `rex_job_0` to one less than this.
    pub queues: u32,
    /// By type, how many may be queued or started at once.
    pub limits: Vec<(String, u32)>,
    /// How long jobs are kept after their end; for ever without.
    pub max_age: Option<Duration>,
}

impl Rules {
    /// How many queues there are; their numbers begin with 0.
    fn count(&self) -> i64 {
        i64::from(self.queues.max(1))
    }

    /// The number of a job's queue.
    fn queue_of(&self, code: i64) -> i64 {
        (code.rem_euclid(self.count()) - 1).rem_euclid(self.count())
    }
}

/// What the names of the queues of jobs begin with.
pub const QUEUE: &str = "rex_job_";
/// The queue of what tells of runs that submit something.
const ORPHANS: &str = "rex_job_ended";

/// The payload of a task that is claimed for a job.
#[derive(Debug, Serialize, Deserialize)]
pub struct Assignment {
    /// As it is stored in the queue.
    pub payload: String,
    pub what: What,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum What {
    Run {
        code: i64,
        job: JobFields,
    },
    /// There is no such row.
    Missing {
        code: i64,
    },
    /// It is not to be run: it follows "is ".
    Skip {
        code: i64,
        why: String,
    },
    /// Its row is such that no executor can be given it.
    Unfit {
        code: i64,
        text: String,
    },
    /// The payload is none of a job.
    Bad {
        text: String,
    },
}

/// The fields of a row that its executor needs.
#[derive(Debug, Serialize, Deserialize)]
pub struct JobFields {
    pub r#type: String,
    pub owner: String,
    pub title: Option<String>,
    pub payload: Box<RawValue>,
}

/// The jobs that this host runs, by task.
#[derive(Debug, Clone, Default)]
pub struct Book(Arc<Mutex<Pages>>);

#[derive(Debug, Default)]
struct Pages {
    /// Queues whose tasks are jobs.
    queues: BTreeSet<QueueName>,
    /// By type, how many may be queued or started at once.
    limits: Arc<[(String, u32)]>,
    jobs: HashMap<TaskId, Page>,
}

#[derive(Debug)]
struct Page {
    claim: ClaimId,
    /// The id of its row.
    row: i32,
    code: i64,
    /// When it ended, though its row does not say so yet.
    ended: Option<Instant>,
}

impl Book {
    /// Which queues have jobs, and the limits of types.
    pub fn set(&self, queues: BTreeSet<QueueName>, limits: &[(String, u32)]) {
        self.with(|pages| {
            pages.queues = queues;
            pages.limits = limits.into();
        });
    }

    fn limits(&self) -> Arc<[(String, u32)]> {
        self.with(|pages| Arc::clone(&pages.limits))
    }

    fn has_queue(&self, queue: &QueueName) -> bool {
        self.with(|pages| pages.queues.contains(queue))
    }

    fn queues(&self) -> BTreeSet<QueueName> {
        self.with(|pages| pages.queues.clone())
    }

    fn has_queues(&self) -> bool {
        self.with(|pages| !pages.queues.is_empty())
    }

    /// Whether a task is for a job that runs here.
    pub fn has(&self, task: TaskId) -> bool {
        self.job(task).is_some()
    }

    /// Notes when a job ended.
    pub fn ended(&self, task: TaskId) {
        self.with(|pages| {
            if let Some(page) = pages.jobs.get_mut(&task) {
                page.ended = Some(Instant::now());
            }
        });
    }

    fn enter(&self, task: TaskId, claim: ClaimId, code: i64, row: i32) {
        self.with(|pages| pages.jobs.insert(task, Page { claim, row, code, ended: None }));
    }

    /// The id of its row.
    fn job(&self, task: TaskId) -> Option<i32> {
        self.with(|pages| pages.jobs.get(&task).map(|page| page.row))
    }

    /// The id of its row, its code, and how long ago it ended.
    fn end_of(&self, task: TaskId) -> Option<(i32, i64, Duration)> {
        self.with(|pages| {
            let page = pages.jobs.get(&task)?;
            let ago = page.ended.map_or(Duration::ZERO, |ended| ended.elapsed());
            Some((page.row, page.code, ago))
        })
    }

    /// Whether another task than this one has the job.
    fn runs_elsewhere(&self, task: TaskId, job: i32) -> bool {
        self.with(|pages| pages.jobs.iter().any(|(other, page)| page.row == job && *other != task))
    }

    fn strike(&self, task: TaskId) {
        self.with(|pages| pages.jobs.remove(&task));
    }

    fn strike_claims(&self, claims: &[ClaimId]) {
        self.with(|pages| pages.jobs.retain(|_, page| !claims.contains(&page.claim)));
    }

    /// The tasks of jobs that run here, with the ids of their rows.
    fn runs(&self) -> Vec<(TaskId, i32)> {
        self.with(|pages| pages.jobs.iter().map(|(task, page)| (*task, page.row)).collect())
    }

    fn is_empty(&self) -> bool {
        self.with(|pages| pages.jobs.is_empty())
    }

    fn with<T>(&self, work: impl FnOnce(&mut Pages) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
